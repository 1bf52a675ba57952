"""Which clients train in a round."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...errors import UsageError

#: (round number, clients, how many, seed) → numbers of the clients to ask, in ascending order.
Selection = Callable[[int, int, int, int], list[int]]

#: Sets the draws of clients apart from other uses of the same seed.
_STREAM = 0x5E1EC7


def choose_at_random(round_number: int, clients: int, count: int, seed: int) -> list[int]:
    """Every client is as likely as any other."""
    rng = np.random.default_rng(np.random.SeedSequence((seed, round_number, _STREAM)))
    return sorted(int(client) for client in rng.choice(clients, count, replace=False))


SELECTIONS: dict[str, Selection] = {"random": choose_at_random}


def selection(name: str) -> Selection:
    """A way of choosing clients by name.

    Raises:
        UsageError: there is none of this name.
    """
    if name not in SELECTIONS:
        raise UsageError(f"unknown selection {name!r}; use {', '.join(SELECTIONS)}")
    return SELECTIONS[name]
