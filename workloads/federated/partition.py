"""How the data is split over clients: evenly, by size, or with topics of their own (Dirichlet)."""

from __future__ import annotations

import numpy as np

from ...errors import UsageError
from ..vocabulary import IntArray

SPLITS = ("even", "size", "topics")


def split(labels: IntArray, clients: int, how: str = "topics", alpha: float = 1.0, seed: int = 0) -> list[IntArray]:
    """Places of each client's examples; every example goes to one client, every client gets at least one.

    Args:
        labels: one whole number per example.
        clients: how many.
        how: ``even``: shuffled and dealt out; ``size``: the clients' sizes differ; ``topics``: each label is divided by
            shares of its own, so that clients differ in what they hold (T. Hsu et al., arXiv 1909.06335).
        alpha: concentration of the Dirichlet distribution of the shares: small ones differ much, large ones little.
        seed: equal seeds give equal splits.

    Raises:
        UsageError: there are fewer examples than clients, or a setting makes no sense.
    """
    if how not in SPLITS:
        raise UsageError(f"unknown split {how!r}; use {', '.join(SPLITS)}")
    if not 1 <= clients <= len(labels):
        raise UsageError(f"{len(labels)} dialogues cannot be split over {clients} clients; use fewer clients")
    if not 0 < alpha < float("inf"):
        raise UsageError(f"alpha is {alpha}; it must be above 0")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    if how == "even":
        parts = [order[client::clients] for client in range(clients)]
    elif how == "size":
        parts = _divide(order, rng.dirichlet(np.full(clients, alpha)))
    else:
        divided = [
            _divide(order[labels[order] == label], rng.dirichlet(np.full(clients, alpha)))
            for label in np.unique(labels)
        ]
        parts = [np.concatenate(of_client) for of_client in zip(*divided)]
    return [np.sort(part) for part in _leave_none_empty(parts)]


def _divide(places: IntArray, shares: np.ndarray) -> list[IntArray]:
    ends = np.rint(np.cumsum(np.nan_to_num(shares, nan=1 / len(shares))) * len(places)).astype(int)
    return np.split(places, ends[:-1])


def _leave_none_empty(parts: list[IntArray]) -> list[IntArray]:
    """Give each empty client one example of the largest."""
    for index, part in enumerate(parts):
        if not len(part):
            largest = max(range(len(parts)), key=lambda i: len(parts[i]))
            parts[index], parts[largest] = parts[largest][:1], parts[largest][1:]
    return parts
