# ruff: noqa: N803
# mypy: disable-error-code=no-untyped-def
"""Small kernels that run one function of a real kernel where the whole would need more memory than a test has."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from edgeroof.kernels import gated_gelu_kernels, rms_norm_kernels
from edgeroof.kernels.dropout_kernels import dropout_factors

from .operator_cases import DEVICE

_row_tile = rms_norm_kernels._tile
_flat_tile = gated_gelu_kernels._tile


@triton.jit
def _row_places_kernel(out, row, columns, WIDTH: tl.constexpr):
    at, _ = _row_tile(row + tl.arange(0, 2), row + 2, columns, WIDTH)
    tl.store(out + tl.arange(0, 2)[:, None] * WIDTH + tl.arange(0, WIDTH)[None, :], at)


@triton.jit
def _flat_places_kernel(out, inside, program, numel, BLOCK: tl.constexpr):
    _, at, within = _flat_tile(program + tl.zeros([1], tl.int32), numel, BLOCK)
    tl.store(out + tl.arange(0, BLOCK), at)
    tl.store(inside + tl.arange(0, BLOCK), within.to(tl.int32))


@triton.jit
def _factors_kernel(out, seed, first, VECTORS: tl.constexpr, VECTOR: tl.constexpr):
    vector = first + tl.arange(0, VECTORS).to(tl.int64)
    factors = dropout_factors(tl.load(seed), vector, 32768, 1.0, VECTOR)
    tl.store(out + tl.arange(0, VECTORS * VECTOR), tl.reshape(factors, [VECTORS * VECTOR]))


def row_places(row: int, columns: int, width: int) -> Tensor:
    """Places that the norm's kernel reads for two rows, [2, width]."""
    out = torch.zeros(2, width, dtype=torch.int64, device=DEVICE)
    _row_places_kernel[(1,)](out, row, columns, WIDTH=width)
    return out


def flat_places(program: int, numel: int, block: int) -> tuple[Tensor, Tensor]:
    """Places that a program of the gated GELU's kernel reads, and whether they are inside, both [block]."""
    out, inside = (torch.zeros(block, dtype=torch.int64, device=DEVICE) for _ in range(2))
    _flat_places_kernel[(1,)](out, inside, program, numel, BLOCK=block)
    return out, inside


def factors(seed: int, first: int, vectors: int, vector: int) -> Tensor:
    """What dropout of one half multiplies by, from a vector on, [vectors * vector]."""
    out = torch.zeros(vectors * vector, device=DEVICE)
    _factors_kernel[(1,)](out, torch.tensor([seed], device=DEVICE), first, VECTORS=vectors, VECTOR=vector)
    return out
