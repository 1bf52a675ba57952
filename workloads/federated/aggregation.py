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
from .results import Answer, ClientFailure, ClientResult, check_loss
from .update import Update, all_finite, check_like, from_bytes

if TYPE_CHECKING:
    from torch import Tensor

#: A payload may be this much larger than the weights in fp32, for headers and places, before it is called a giant.
GIANT_FACTOR = 2
GIANT_SLACK = 1 << 20
#: A tensor may change in one round by this many times its own size, both as root mean squares. Fine-tuning changes
#: weights by less than they are, and training from random weights by about as much; more replaces the model.
LARGEST_CHANGE = 10.0
#: Size that a tensor is taken to have at least: adapters and biases start from zeros.
LEAST_SIZE = 0.1

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
        for name in ("momentum", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"the server's {name} is {getattr(self, name)}; it must be at least 0 and below 1")
        if not (math.isfinite(self.adaptivity) and self.adaptivity > 0):
            raise UsageError(f"the server's adaptivity is {self.adaptivity}; it must be above 0")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise UsageError(f"the server's weight_decay is {self.weight_decay}; it must be 0 or more")
        if self.name == "fedadamw" and self.rate * self.weight_decay > 1:
            raise UsageError(
                f"the server's weight_decay is {self.weight_decay} at a learning rate of {self.rate:g}: weights would "
                "change their signs; the product of the two must be at most 1"
            )

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

        Raises:
            UpdateError: the step leads to values that are no finite numbers, or further than :func:`check_size` allows.
        """
        after: Update = {}
        kept: Update = {}
        for name, weight in weights.items():
            moved, entries = self._step_one(weight, change[name].to(weight.dtype), state, name)
            after[name] = moved
            kept |= entries
            check_size(name, moved - weight, weight)
        for name, tensor in kept.items():
            if not all_finite(tensor):
                raise UpdateError(f"{name} of the server's optimizer holds values that are no finite numbers")
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
    check_loss(result.loss)
    change = codec.decode(from_bytes(result.payload, most_bytes=most_bytes), weights)
    check_like(change, weights)
    for name, tensor in change.items():
        check_size(name, tensor, weights[name])
    return change


def check_size(name: str, change: Tensor, weight: Tensor) -> None:
    """Check that a change of a tensor could come from training it.

    Args:
        name: of the tensor, for the message.
        change: of the tensor.
        weight: the tensor before.

    Raises:
        UpdateError: the root mean square of the change is no finite number, or beyond :data:`LARGEST_CHANGE` times
            that of the tensor, :data:`LEAST_SIZE` being the least that counts.
    """
    moved, before = _root_mean_square(change), _root_mean_square(weight)
    most = LARGEST_CHANGE * max(before, LEAST_SIZE)
    if not moved <= most:
        raise UpdateError(f"{name} changes by {moved:.3g} (root mean square) where at most {most:.3g} is believed")


def _root_mean_square(tensor: Tensor) -> float:
    import torch

    norm = float(torch.linalg.vector_norm(tensor, dtype=torch.float64))
    return norm / math.sqrt(tensor.numel() or 1)


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
