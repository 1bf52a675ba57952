"""Quantisers: a vector of fp32 numbers in fewer bits, and back.

Block-wise ones scale each block of 64 values by its largest magnitude. The scale is a bf16 number, for its range is
that of fp32, rounded up so that no code overflows: the error is at most half a step of the block,
``max |x| · (1 + 2⁻⁷) / (2 · levels)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ....errors import UpdateError

if TYPE_CHECKING:
    from torch import Tensor

Arrays = Mapping[str, "Tensor"]

BLOCK = 64
#: Values handled at once, so that temporaries stay in the cache.
CHUNK = 1 << 18
#: Largest codes of 8 and 4 bits; symmetric, so that zero is exact.
INT8_LEVELS, INT4_LEVELS = 127, 7
_LARGEST_HALF = 65504.0


@dataclass(frozen=True)
class Quantiser:
    """One way to write numbers.

    Attributes:
        name: what the user types.
        title: for people.
        encode: fp32 vector [N] → arrays by name.
        decode: those arrays and N → fp32 vector [N].
        size: N → bytes of those arrays.
    """

    name: str
    title: str
    encode: Callable[[Tensor], dict[str, Tensor]]
    decode: Callable[[Arrays, int], Tensor]
    size: Callable[[int], int]


def expect(arrays: Arrays, name: str, dtype: str, size: int) -> Tensor:
    """An array of a received payload, checked.

    Args:
        arrays: of the payload.
        name: of the array.
        dtype: torch's name of its type, such as ``int8``.
        size: number of its elements.

    Raises:
        UpdateError: it is not there, or of another type or size.
    """
    array = arrays.get(name)
    if array is None or str(array.dtype) != f"torch.{dtype}" or tuple(array.shape) != (size,):
        found = "nothing" if array is None else f"{array.dtype} {list(array.shape)}"
        raise UpdateError(f"the payload's {name} should be {dtype} [{size}] and is {found}")
    return array


def _keep(values: Tensor) -> dict[str, Tensor]:
    return {"values": values}


def _kept(arrays: Arrays, count: int) -> Tensor:
    return expect(arrays, "values", "float32", count)


def _halve(values: Tensor) -> dict[str, Tensor]:
    import torch

    halves = torch.empty(values.numel(), dtype=torch.float16)
    for first in range(0, values.numel(), CHUNK):
        halves[first : first + CHUNK] = values[first : first + CHUNK].clamp(-_LARGEST_HALF, _LARGEST_HALF)
    return {"values": halves}


def _halved(arrays: Arrays, count: int) -> Tensor:
    return expect(arrays, "values", "float16", count).float()


def _blocks(count: int) -> int:
    return -(-count // BLOCK)


def _scales_of(blocks: Tensor, levels: int) -> Tensor:
    """bf16 scale of each block [B, 64], at least the largest magnitude / levels."""
    import torch

    exact = torch.maximum(blocks.amax(1), -blocks.amin(1)) / levels
    bits = exact.view(torch.int32)
    return ((bits + 0xFFFF) >> 16).to(torch.int16).view(torch.bfloat16)  # the next bf16 that is not smaller


def _codes(values: Tensor, levels: int, codes: Tensor, scales: Tensor) -> None:
    """Fill codes [N, int8] and scales [blocks, bf16], chunk by chunk."""
    import torch

    for first in range(0, values.numel(), CHUNK):
        chunk = values[first : first + CHUNK]
        padded = torch.nn.functional.pad(chunk, (0, -chunk.numel() % BLOCK)) if chunk.numel() % BLOCK else chunk
        blocks = padded.view(-1, BLOCK)
        scale = _scales_of(blocks, levels)
        scales[first // BLOCK : first // BLOCK + len(scale)] = scale
        inverse = torch.nan_to_num(scale.float().reciprocal(), posinf=0.0)  # a block of zeros has no scale
        scaled = (blocks * inverse[:, None]).round_().clamp_(-levels, levels).view(-1)
        codes[first : first + chunk.numel()] = scaled[: chunk.numel()]


def _quantise(values: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    import torch

    codes = torch.empty(values.numel(), dtype=torch.int8)
    scales = torch.empty(_blocks(values.numel()), dtype=torch.bfloat16)
    _codes(values, levels, codes, scales)
    return codes, scales


def _dequantise(codes: Tensor, scales: Tensor, count: int) -> Tensor:
    import torch

    values = torch.empty(_blocks(count) * BLOCK, dtype=torch.float32)
    values[:count] = codes
    values[count:] = 0
    return values.view(-1, BLOCK).mul_(scales.float()[:, None]).view(-1)[:count]


def _to_int8(values: Tensor) -> dict[str, Tensor]:
    codes, scales = _quantise(values, INT8_LEVELS)
    return {"codes": codes, "scales": scales}


def _from_int8(arrays: Arrays, count: int) -> Tensor:
    codes = expect(arrays, "codes", "int8", count)
    return _dequantise(codes, expect(arrays, "scales", "bfloat16", _blocks(count)), count)


def _to_int4(values: Tensor) -> dict[str, Tensor]:
    import torch

    codes, scales = _quantise(values, INT4_LEVELS)
    offset = (codes + (INT4_LEVELS + 1)).to(torch.uint8)
    if offset.numel() % 2:
        offset = torch.nn.functional.pad(offset, (0, 1))
    return {"codes": offset[0::2] | (offset[1::2] << 4), "scales": scales}


def _from_int4(arrays: Arrays, count: int) -> Tensor:
    import torch

    packed = expect(arrays, "codes", "uint8", -(-count // 2))
    codes = torch.stack((packed & 15, packed >> 4), 1).view(-1)[:count].to(torch.int8) - (INT4_LEVELS + 1)
    return _dequantise(codes, expect(arrays, "scales", "bfloat16", _blocks(count)), count)


def _size8(count: int) -> int:
    return count + 2 * _blocks(count)


def _size4(count: int) -> int:
    return -(-count // 2) + 2 * _blocks(count)


QUANTISERS: dict[str, Quantiser] = {
    quantiser.name: quantiser
    for quantiser in (
        Quantiser("fp32", "fp32, unchanged", _keep, _kept, lambda count: 4 * count),
        Quantiser("fp16", "fp16", _halve, _halved, lambda count: 2 * count),
        Quantiser("int8", f"8 bits in blocks of {BLOCK}", _to_int8, _from_int8, _size8),
        Quantiser("int4", f"4 bits in blocks of {BLOCK}", _to_int4, _from_int4, _size4),
    )
}
