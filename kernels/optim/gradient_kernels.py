# ruff: noqa: N803
# mypy: disable-error-code=no-untyped-def
"""Triton kernels over all gradients, whatever the optimizer: their norm, and what it means for the step."""

import triton
import triton.language as tl

from . import columns

GRAD = tl.constexpr(columns.GRAD)
ALIGNED = tl.constexpr(columns.ALIGNED)
NUMEL = tl.constexpr(columns.NUMEL)


@triton.jit(do_not_specialize=["chunks", "programs"])
def gradient_norm_kernel(
    table,
    chunk_map,
    partials,
    chunks,
    programs,
    WIDTH: tl.constexpr,
    GRAD_DTYPE: tl.constexpr,
    CHUNK: tl.constexpr,
    TILE: tl.constexpr,
):
    """Sum of squares of the gradients: program ``i`` takes chunks ``i, i + programs, …`` and writes one partial sum.

    A gradient that is not finite makes its partial sum not finite, so this read is also the finite check. ``table`` has
    ``WIDTH`` columns.
    """
    program = tl.program_id(0)
    lanes = tl.arange(0, TILE)
    total = tl.zeros([TILE], tl.float32)
    for chunk in range(program, chunks, programs):
        row = table + tl.load(chunk_map + chunk * 2).to(tl.int64) * WIDTH
        start = tl.load(chunk_map + chunk * 2 + 1).to(tl.int64) * CHUNK
        address = tl.load(row + GRAD)
        count = tl.where(address == 0, 0, tl.minimum(tl.load(row + NUMEL) - start, CHUNK)).to(tl.int32)
        whole = tl.where(tl.load(row + ALIGNED) != 0, count // TILE, 0)
        aligned = tl.multiple_of(address.to(tl.pointer_type(GRAD_DTYPE)), 16) + start
        for tile in range(whole):
            value = tl.load(aligned + tile * TILE + lanes).to(tl.float32)
            total += value * value
        anyhow = address.to(tl.pointer_type(GRAD_DTYPE)) + start
        for first in range(whole * TILE, count, TILE):
            value = tl.load(anyhow + first + lanes, mask=first + lanes < count, other=0).to(tl.float32)
            total += value * value
    tl.store(partials + program, tl.sum(total))


@triton.jit
def gradient_factor(
    partials, norm, grad_scale, found_inf, limit, sums,
    CLIP: tl.constexpr, SKIP_NONFINITE: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Whether the step is skipped (int32), and what gradients are multiplied by (float64); writes the norm.

    ``partials`` and ``norm``, ``grad_scale`` and ``found_inf`` may be ``None``; ``limit`` is where the largest norm is.
    """
    lanes = tl.arange(0, WIDTH)
    skip = tl.full([], 0, tl.int32)
    factor = tl.full([], 1.0, tl.float64)
    if grad_scale is not None:
        factor = 1.0 / tl.load(grad_scale).to(tl.float64)
    if found_inf is not None:
        skip = (tl.load(found_inf) != 0.0).to(tl.int32)
    if partials is not None:
        total = tl.zeros([WIDTH], tl.float64)
        for first in range(0, sums, WIDTH):
            total += tl.load(partials + first + lanes, mask=first + lanes < sums, other=0.0).to(tl.float64)
        length = tl.sqrt(tl.sum(total)) * tl.abs(factor)
        tl.store(norm, length.to(tl.float32))
        if SKIP_NONFINITE:
            skip = skip | ((length - length) != 0.0).to(tl.int32)
        if CLIP:
            ratio = tl.load(limit) / (length + 1e-6)
            factor = factor * tl.where(ratio > 1.0, 1.0, ratio)  # NaN stays NaN, as in clip_grad_norm_
    return skip, factor
