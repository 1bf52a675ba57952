"""Which clients train in a round: what the server knows of them, and the strategies that choose by it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ...errors import UsageError

#: Exponent from which on the most efficient client alone would be asked; beyond, scores are no finite numbers.
MOST_ALPHA = 10.0


@dataclass(frozen=True)
class ClientView:
    """What the server knows of one client before a round.

    Attributes:
        client: its number, from 0.
        available: whether it can be asked.
        examples: dialogues it trained on when it last did; ``None`` before.
        loss: mean loss per target token of that training.
        last_round: the round of it; 0 for never.
        round_s: expected time of a round, transfers included; ``None`` where nobody knows.
        tokens: expected tokens of a round, without padding.
        energy_j: expected energy of a round.
        battery_j: energy that is left for training; ``None`` on mains.
        capacity_j: the same of a full battery.
        mfu: model FLOPs of its step over the time and its device's peak.
    """

    client: int
    available: bool = True
    examples: int | None = None
    loss: float | None = None
    last_round: int = 0
    round_s: float | None = None
    tokens: float | None = None
    energy_j: float | None = None
    battery_j: float | None = None
    capacity_j: float | None = None
    mfu: float | None = None

    @property
    def can_be_asked(self) -> bool:
        """Whether it is there, and its battery is not empty."""
        return self.available and (self.battery_j is None or self.battery_j > 0)

    @property
    def explored(self) -> bool:
        """Whether it ever sent an update that could be used."""
        return self.examples is not None and self.loss is not None


@dataclass(frozen=True)
class View:
    """What the server knows before a round.

    Attributes:
        round_number: from 1.
        rounds: of the federation.
        clients: all of them.
        seed: of the federation.
        deadline_s: answers that take longer are dropped.
        budget_j: energy that is left for all clients together; ``None`` without a budget.
    """

    round_number: int
    rounds: int
    clients: tuple[ClientView, ...]
    seed: int = 0
    deadline_s: float = math.inf
    budget_j: float | None = None

    @property
    def askable(self) -> list[ClientView]:
        """The clients that may be chosen."""
        return [client for client in self.clients if client.can_be_asked]


class Strategy(Protocol):
    """A way of choosing clients.

    Attributes:
        title: for people.
        source: where the idea comes from.
        differs: what is different here from the source.
    """

    @property
    def title(self) -> str: ...  # noqa: D102

    @property
    def source(self) -> str: ...  # noqa: D102

    @property
    def differs(self) -> str: ...  # noqa: D102

    def choose(self, view: View, count: int) -> list[int]:
        """Numbers of the clients to ask, ascending: ``count`` of those that can be asked, or all if they are fewer."""


def selection(name: str) -> Strategy:
    """A strategy by name, such as ``random``, ``oort``, ``tokens-per-joule:0.5`` or ``mfu:1``.

    Raises:
        UsageError: there is none of this name, or its parameter makes no sense.
    """
    from .strategies import STRATEGIES, WITH_ALPHA

    base, _, parameter = name.partition(":")
    if base not in STRATEGIES or (parameter and base not in WITH_ALPHA):
        weighed = " or ".join(f"{strategy}:ALPHA" for strategy in WITH_ALPHA)
        raise UsageError(f"unknown selection {name!r}; use {', '.join(STRATEGIES)}, {weighed}")
    if not parameter:
        return STRATEGIES[base]
    try:
        alpha = float(parameter)
    except ValueError:
        alpha = math.nan
    if not 0 <= alpha <= MOST_ALPHA:
        raise UsageError(f"{name!r} has no exponent from 0 to {MOST_ALPHA:g} behind its colon")
    return WITH_ALPHA[base](alpha)


def observe(history: Sequence[Mapping[str, Any]], clients: int, rounds: int, seed: int) -> View:
    """What the records of earlier rounds say; nothing is known of energy, and every client may be asked.

    Args:
        history: records of :class:`~.rounds.Federation`.
        clients: how many there are.
        rounds: of the federation.
        seed: of the federation.
    """
    last: dict[int, tuple[int, Mapping[str, Any]]] = {
        entry["client"]: (record["round"], entry) for record in history for entry in record.get("used", ())
    }
    views = tuple(_seen(client, *last[client]) if client in last else ClientView(client) for client in range(clients))
    return View(history[-1]["round"] + 1, rounds, views, seed)


def _seen(client: int, round_number: int, entry: Mapping[str, Any]) -> ClientView:
    return ClientView(
        client,
        examples=entry["examples"],
        loss=entry["loss"],
        last_round=round_number,
        round_s=entry["compute_s"] + entry["codec_s"],
        tokens=entry["tokens"],
    )
