"""What a client runs, as plain values that are checked when they are put together."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from ..errors import UsageError
from .optimizers import LEARNING_RATE, WEIGHT_DECAY, optimizer_spec

#: Precisions, and what each of them means.
PRECISIONS = {
    "fp32": "fp32 throughout, TF32 off",
    "tf32": "fp32 with TF32 matrix products",
    "bf16": "bf16 autocast over fp32 weights, gradients and optimizer states",
    "fp16": "fp16 autocast over fp32 weights, gradients and optimizer states, with a gradient scaler",
    "bf16-pure": "weights, gradients, optimizer states and LoRA adapters in bf16",
}
#: transformers' own two, and edgeroof's, for T5 only.
ATTENTIONS = ("eager", "sdpa", "flash")
PADDINGS = ("fixed", "dynamic")

_DEVICE = re.compile(r"cpu|cuda(:\d+)?")
_COUNTS = ("source_length", "target_length", "gradient_accumulation", "local_epochs", "clients")
_OPTIONAL_COUNTS = ("batch_size", "lora_rank", "dialogues", "steps")


@dataclass(frozen=True)
class ClientConfig:
    """The configuration of a federated client's local training.

    Attributes:
        model: a name that :func:`~edgeroof.workloads.huggingface.resolve_model` knows.
        batch_size: examples of a micro-batch; None means 32 on CUDA and 4 on CPU.
        source_length: tokens of a dialogue, padded or cut to (see ``padding``).
        target_length: tokens of a summary, likewise.
        padding: ``"fixed"`` to these lengths, or ``"dynamic"`` to the longest of the batch.
        precision: one of :data:`PRECISIONS`.
        optimizer: a name in the registry of :mod:`.optimizers`.
        learning_rate: constant rate.
        weight_decay: of all trainable weights.
        lora_rank: rank of LoRA adapters on the query and value projections; None trains all weights.
        attention: ``"eager"``, ``"sdpa"``, or ``"flash"``, :func:`edgeroof.kernels.attention.attention`; T5 only.
        gradient_accumulation: micro-batches of one optimizer step.
        checkpointing: recompute activations in the backward pass.
        fused: compute with edgeroof's fused operators, see :func:`edgeroof.kernels.patch.fuse`; T5 only.
        chunked_loss: with ``fused``, take output projection and loss together, in chunks, so that the logits are never
            there as a whole; the projection then counts as loss.
        clip_norm: largest norm of the gradient; None does not clip.
        dropout: replaces the model's dropout rates; None keeps them.
        data: file with SAMSum dialogues; None generates their like.
        dialogues: use at most (or generate) this many.
        local_epochs: passes over the client's data.
        steps: stop after this many; None runs all of them.
        client: which client this is, from 0.
        clients: over how many the data is divided.
        seed: of weights, data, shuffling and dropout.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

    Raises:
        UsageError: on construction, when a value makes no sense; the message lists those that do.
    """

    model: str = "small"
    batch_size: int | None = None
    source_length: int = 512
    target_length: int = 96
    padding: str = "fixed"
    precision: str = "fp32"
    optimizer: str = "adamw"
    learning_rate: float = LEARNING_RATE
    weight_decay: float = WEIGHT_DECAY
    lora_rank: int | None = None
    attention: str = "sdpa"
    gradient_accumulation: int = 1
    checkpointing: bool = False
    fused: bool = False
    chunked_loss: bool = False
    clip_norm: float | None = None
    dropout: float | None = None
    data: str | None = None
    dialogues: int | None = None
    local_epochs: int = 1
    steps: int | None = None
    client: int = 0
    clients: int = 1
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in _COUNTS:
            _check_count(name, getattr(self, name))
        for name in _OPTIONAL_COUNTS:
            if getattr(self, name) is not None:
                _check_count(name, getattr(self, name))
        _check_choice("padding", self.padding, PADDINGS)
        _check_choice("precision", self.precision, tuple(PRECISIONS))
        _check_choice("attention", self.attention, ATTENTIONS)
        optimizer_spec(self.optimizer)
        if self.chunked_loss and not self.fused:
            raise UsageError("chunked_loss is a fused operator; it needs fused as well")
        self._check_numbers()
        self._check_device()

    @property
    def micro_batch(self) -> int:
        """Examples of a micro-batch, with the default of the device filled in."""
        return self.batch_size or (4 if self.device == "cpu" else 32)

    def _check_numbers(self) -> None:
        _check_range("learning_rate", self.learning_rate, self.learning_rate > 0, "above 0")
        _check_range("weight_decay", self.weight_decay, self.weight_decay >= 0, "0 or more")
        if self.clip_norm is not None:
            _check_range("clip_norm", self.clip_norm, self.clip_norm > 0, "above 0")
        if self.dropout is not None:
            _check_range("dropout", self.dropout, 0 <= self.dropout < 1, "at least 0 and below 1")
        _check_range("seed", self.seed, 0 <= self.seed < 2**63, "0 or more")
        _check_range("client", self.client, 0 <= self.client < self.clients, f"from 0 to {self.clients - 1}")

    def _check_device(self) -> None:
        if not _DEVICE.fullmatch(self.device):
            raise UsageError(f"device is {self.device!r}; it must be cpu, cuda or cuda:N")
        if self.device == "cpu" and self.precision == "tf32":
            raise UsageError("precision tf32 needs a GPU: a CPU has no TF32; use fp32 or bf16")


def _check_count(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UsageError(f"{name} is {value!r}; it must be a whole number of at least 1")


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}")


def _check_range(name: str, value: float, fits: bool, allowed: str) -> None:
    if not fits or not math.isfinite(value):
        raise UsageError(f"{name} is {value!r}; it must be {allowed}")
