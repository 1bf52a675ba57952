"""Aggregation: the updates that can be used, their mean, and the server's step with it.

The mean of the clients' changes, weighted by examples, is the server's gradient, turned round (S. Reddi et al.,
"Adaptive federated optimization", arXiv 2003.00295). Clients are taken in the order of their numbers, so that equal
answers give equal weights, however they arrived.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import UpdateError, UsageError
from .codecs import Codec
from .results import Answer, ClientFailure, ClientResult
from .update import Update, check_like, from_bytes

if TYPE_CHECKING:
    from torch import Tensor

#: A payload may be this much larger than the weights in fp32, for headers and places, before it is called a giant.
GIANT_FACTOR = 2
GIANT_SLACK = 1 << 20
#: No honest change comes near; the square of a larger one would not be a finite fp32 number in the server's step.
LARGEST_CHANGE = 1e18

SERVER_OPTIMIZERS = ("fedavg", "fedavgm", "fedadam", "fedadamw")


@dataclass(frozen=True)
class ServerOptimizer:
    """The server's step.

    Attributes:
        name: ``fedavg`` adds the mean change, ``fedavgm`` with momentum, ``fedadam`` and ``fedadamw`` adaptively.
        learning_rate: factor of the step; ``None`` for 1 with fedavg and fedavgm, 1e-3 with the adaptive ones.
        momentum: of fedavgm, and β₁ of the adaptive ones.
        beta2: of the adaptive ones.
        adaptivity: their τ, which bounds the step where changes are small.
        weight_decay: of fedadamw, decoupled.

    Raises:
        UsageError: on construction, when the name is unknown or a number makes no sense.
    """

    name: str = "fedavg"
    learning_rate: float | None = None
    momentum: float = 0.9
    beta2: float = 0.99
    adaptivity: float = 1e-4
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        if self.name not in SERVER_OPTIMIZERS:
            raise UsageError(f"unknown server optimizer {self.name!r}; use {', '.join(SERVER_OPTIMIZERS)}")
        if self.learning_rate is not None and not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise UsageError(f"the server's learning rate is {self.learning_rate}; it must be above 0")

    @property
    def rate(self) -> float:
        """The learning rate that is used."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 1e-3 if self.name.startswith("fedadam") else 1.0

    def step(self, weights: Update, change: Update, state: Update) -> tuple[Update, Update]:
        """The next weights and state; nothing that is given is changed.

        Args:
            weights: fp32 tensors by name.
            change: mean change of the clients.
            state: what the last step returned; empty before the first.
        """
        after: Update = {}
        kept: Update = {}
        for name, weight in weights.items():
            moved, entries = self._step_one(weight, change[name].to(weight.dtype), state, name)
            after[name] = moved
            kept |= entries
        return after, kept

    def _step_one(self, weight: Tensor, change: Tensor, state: Update, name: str) -> tuple[Tensor, Update]:
        if self.name == "fedavg":
            return weight + self.rate * change, {}
        average = state.get(f"{name}.average", change.new_zeros(change.shape))
        if self.name == "fedavgm":
            average = self.momentum * average + change
            return weight + self.rate * average, {f"{name}.average": average}
        square = state.get(f"{name}.square", change.new_zeros(change.shape))
        average = self.momentum * average + (1 - self.momentum) * change
        square = self.beta2 * square + (1 - self.beta2) * change * change
        decay = 1 - self.rate * self.weight_decay if self.name == "fedadamw" else 1.0
        moved = decay * weight + self.rate * average / (square.sqrt() + self.adaptivity)
        return moved, {f"{name}.average": average, f"{name}.square": square}


@dataclass(frozen=True)
class Accepted:
    """One answer that can be used."""

    result: ClientResult
    change: Update


def accept(
    answers: Iterable[Answer], weights: Mapping[str, Tensor], codec: Codec
) -> tuple[list[Accepted], list[ClientFailure]]:
    """Decode and check what clients sent.

    Args:
        answers: one per client that was asked.
        weights: what the updates are for.
        codec: what they were compressed with.

    Returns:
        What can be used, and who is left out with the reason, both in the order of the clients' numbers.
    """
    used, left_out = [], []
    most_bytes = giant_bytes(weights)
    for answer in sorted(answers, key=lambda answer: answer.client):
        if isinstance(answer, ClientFailure):
            left_out.append(answer)
            continue
        try:
            used.append(Accepted(answer, _read(answer, weights, codec, most_bytes)))
        except UpdateError as error:
            left_out.append(ClientFailure(answer.client, f"sent an unusable update: {error}"))
    return used, left_out


def giant_bytes(weights: Mapping[str, Tensor]) -> int:
    """Bytes that no honest update of these weights exceeds."""
    return GIANT_FACTOR * sum(4 * tensor.numel() for tensor in weights.values()) + GIANT_SLACK


def _read(result: ClientResult, weights: Mapping[str, Tensor], codec: Codec, most_bytes: int) -> Update:
    if not result.examples > 0:
        raise UpdateError(f"it claims {result.examples} examples")
    change = codec.decode(from_bytes(result.payload, most_bytes=most_bytes), weights)
    check_like(change, weights)
    for name, tensor in change.items():
        if tensor.numel() and float(tensor.abs().max()) > LARGEST_CHANGE:
            raise UpdateError(f"{name} holds changes beyond {LARGEST_CHANGE:g}")
    return change


def mean_change(accepted: Iterable[Accepted]) -> Update:
    """The mean of the changes, weighted by examples; summed in fp64 so that no client drowns another's digits.

    Raises:
        ValueError: there is nothing to average.
    """
    import torch

    entries = list(accepted)
    total = sum(entry.result.examples for entry in entries)
    if not total:
        raise ValueError("no update to average")
    mean: Update = {}
    for name, first in entries[0].change.items():
        summed = torch.zeros(first.shape, dtype=torch.float64)
        for entry in entries:
            summed.add_(entry.change[name], alpha=entry.result.examples / total)
        mean[name] = summed.to(first.dtype)
    return mean
