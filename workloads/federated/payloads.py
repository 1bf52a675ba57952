"""What a round's messages weigh, and how long a client needs to code its update: exact sizes, measured times."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..client import load_for_training
from ..client_config import ClientConfig
from .codecs import Codec, Compressor
from .update import Update, to_bytes

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: Shapes of an update's tensors by name, in the model's order.
Shapes = Mapping[str, tuple[int, ...]]

#: Updates of more values are coded in part, and their time is scaled up.
MOST_VALUES = 100_000_000
#: Values of such a part, at least the first tensor.
_PART_VALUES = 50_000_000


@dataclass(frozen=True)
class Coding:
    """A codec's message and its time on this machine.

    Attributes:
        size: bytes of the message, its header included; exact for updates that were coded whole, else to some bytes of
            the header.
        seconds: to code one update, error feedback included, on a client's second round or later.
        coded_values: values that were really coded for that.
        values: of the update.
    """

    size: int
    seconds: float
    coded_values: int
    values: int

    @property
    def bytes_per_s(self) -> float:
        """fp32 bytes that are coded per second."""
        return 4 * self.values / self.seconds if self.seconds else math.inf


def trained_shapes(model: str, lora_rank: int | None = None) -> dict[str, tuple[int, ...]]:
    """Shapes of what a client trains and sends, without memory for the weights.

    Args:
        model: as in :class:`~edgeroof.workloads.client_config.ClientConfig`.
        lora_rank: of adapters, which travel alone; ``None`` for all weights.
    """
    config = ClientConfig(model=model, lora_rank=lora_rank)
    loaded = load_for_training(config, "meta", random_weights=True)
    parameters = loaded.model.named_parameters()
    return {name: tuple(parameter.shape) for name, parameter in parameters if parameter.requires_grad}


def count_values(shapes: Shapes) -> int:
    """Numbers in an update."""
    return sum(math.prod(shape) for shape in shapes.values())


def weights_bytes(shapes: Shapes) -> int:
    """Bytes of the message that carries fp32 weights to a client, see :mod:`.update`: the arrays and their header."""
    facts = json.dumps({"order": list(shapes), "about": {}})
    entries: dict[str, Any] = {"__metadata__": {"edgeroof": facts}}
    offset = 0
    for name in sorted(shapes):  # safetensors' own order of arrays of one type
        end = offset + 4 * math.prod(shapes[name])
        entries[name] = {"dtype": "F32", "shape": list(shapes[name]), "data_offsets": [offset, end]}
        offset = end
    header = len(json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + -(-header // 8) * 8 + offset


def sample_update(shapes: Shapes, seed: int = 0) -> Update:
    """A made-up update with the heavy tails of real ones: Student's t with four degrees of freedom, at 10⁻⁴."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    return {name: _heavy_tailed(shape, generator) for name, shape in shapes.items()}


def _heavy_tailed(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    import torch

    normal = torch.randn(shape, generator=generator)
    chi_squared = -2 * (torch.rand(shape, generator=generator) * torch.rand(shape, generator=generator)).log_()
    return normal.mul_(1e-4 * (chi_squared.clamp_min_(1e-6) / 4).rsqrt_())


def coded_part(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """The tensors of an update that are coded to take the time: all, or the first ones of a very large update."""
    if count_values(shapes) <= MOST_VALUES:
        return dict(shapes)
    part: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes.items():
        if part and count_values(part) + math.prod(shape) > _PART_VALUES:
            break
        part[name] = shape
    return part


def measure_coding(codec: Codec, shapes: Shapes, update: Update) -> Coding:
    """Code an update as a client does, and take its size and its time.

    Args:
        codec: to measure.
        shapes: of the whole update.
        update: its first tensors, see :func:`coded_part`, with values such as :func:`sample_update` makes.
    """
    compressor = Compressor(codec)
    compressor.compress(update, 1)  # as in the first round, which has nothing left over from before
    compressor.settle(1)
    began = time.perf_counter()
    data = to_bytes(compressor.compress(update, 2))
    seconds = time.perf_counter() - began
    coded = sum(tensor.numel() for tensor in update.values())
    header = len(data) - codec.payload_bytes([tuple(tensor.shape) for tensor in update.values()])
    size = codec.payload_bytes(list(shapes.values())) + header
    values = count_values(shapes)
    return Coding(size, seconds * values / coded, coded, values)
