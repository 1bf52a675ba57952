"""What travels between clients and server: named typed arrays, as one block of bytes that is safe to read.

The bytes are a safetensors file: a JSON header with names, types, shapes and offsets, then the arrays. Reading one
executes nothing; every figure in it is checked before memory is reserved.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...errors import UpdateError

if TYPE_CHECKING:
    from torch import Tensor

#: Weights or changes of weights by parameter name, in the model's order, on the CPU.
Update = dict[str, "Tensor"]

#: Header of an update: some hundred bytes a tensor; far beyond what any model has.
MOST_HEADER_BYTES = 16 << 20
_ENTRY = "edgeroof"


@dataclass(frozen=True)
class Message:
    """Named arrays with what the reader has to know about them.

    Attributes:
        arrays: by name, in order.
        about: plain text facts, such as the codec and the number of examples.
    """

    arrays: Mapping[str, Tensor]
    about: Mapping[str, str] = field(default_factory=dict)


def to_bytes(message: Message) -> bytes:
    """The message as bytes, the same for equal messages."""
    from safetensors.torch import save

    # safetensors sorts arrays by type and name, and its own facts at random; one entry keeps both in order.
    facts = {str(key): str(value) for key, value in message.about.items()}
    arrays = {name: array.contiguous() for name, array in message.arrays.items()}
    return save(arrays, {_ENTRY: json.dumps({"order": list(message.arrays), "about": facts})})


def from_bytes(data: bytes, *, most_bytes: int | None = None) -> Message:
    """Read a message from somebody who may be broken or hostile.

    Args:
        data: what arrived.
        most_bytes: refuse more than this; ``None`` for no limit.

    Raises:
        UpdateError: it is too large, cut short or no message; nothing has been read then.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    if most_bytes is not None and len(data) > most_bytes:
        raise UpdateError(f"the message has {len(data):,} bytes where at most {most_bytes:,} are expected")
    order, about = _facts(data)
    try:
        arrays = load(data)
        ordered = {name: arrays[name] for name in order}
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError, RecursionError) as error:
        raise UpdateError(f"the message is damaged: {error}") from error
    if len(ordered) != len(arrays) or not all(isinstance(array, torch.Tensor) for array in ordered.values()):
        raise UpdateError("the message is damaged: its list of arrays does not match its contents")
    return Message(ordered, about)


def _facts(data: bytes) -> tuple[list[str], dict[str, str]]:
    """The order of the arrays and the text facts in the header, which safetensors' ``load`` does not return."""
    try:
        (length,) = struct.unpack_from("<Q", data)
        if length > min(len(data) - 8, MOST_HEADER_BYTES):
            raise UpdateError(f"the message is damaged: it announces a header of {length:,} bytes")
        facts = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_ENTRY])
        about = {str(key): str(value) for key, value in facts["about"].items()}
        return [str(name) for name in facts["order"]], about
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UpdateError(f"the message is damaged: {error}") from error


def all_finite(tensor: Tensor) -> bool:
    """Whether all values are finite numbers: the extremes are, and no value is more than them or no number."""
    import torch

    return not tensor.numel() or all(bool(torch.isfinite(end)) for end in torch.aminmax(tensor))


def check_like(update: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Check that an update fits the weights it is for.

    Args:
        update: what a client sent, decoded.
        expected: tensors with the right names, shapes and types.

    Raises:
        UpdateError: a name, a shape or a type differs, or a value is no finite number; the message names the tensor.
    """
    for name in expected:
        if name not in update:
            raise UpdateError(f"{name} is missing")
    for name, tensor in update.items():
        if name not in expected:
            raise UpdateError(f"{name} is not part of the model")
        if tensor.shape != expected[name].shape:
            raise UpdateError(f"{name} has shape {list(tensor.shape)} instead of {list(expected[name].shape)}")
        if tensor.dtype != expected[name].dtype:
            raise UpdateError(f"{name} is {tensor.dtype} instead of {expected[name].dtype}")
        if not all_finite(tensor):
            raise UpdateError(f"{name} holds values that are no finite numbers")
