"""Triton kernels of Adafactor: six launches for all tensors of a bucket, three reads of the gradients.

``begin`` counts the step, ``sums`` takes partial row and column sums of the squared gradients, ``factors`` averages
them into the state, ``rms`` sums the squares of the raw update, ``finish`` turns that into the tensor's step size, and
``apply`` recomputes the update and writes the parameters. All sums go through partial sums in a fixed order, so that
a step is reproducible. See :mod:`.adafactor_geometry` for tiles and segments.
"""

import triton
import triton.language as tl

from . import adafactor_geometry as geo
from . import columns

PARAM = tl.constexpr(columns.PARAM)
GRAD = tl.constexpr(columns.GRAD)
ALIGNED = tl.constexpr(columns.ALIGNED)
NUMEL = tl.constexpr(columns.NUMEL)
STATE = tl.constexpr(columns.STATE)
GROUP = tl.constexpr(columns.GROUP)
ROWS = tl.constexpr(geo.ROWS)
COLS = tl.constexpr(geo.COLS)
FACTORED = tl.constexpr(geo.FACTORED)
ROW_STATE = tl.constexpr(geo.ROW_STATE)
COL_STATE = tl.constexpr(geo.COL_STATE)
FULL_STATE = tl.constexpr(geo.FULL_STATE)
ROW_PARTIAL = tl.constexpr(geo.ROW_PARTIAL)
COL_PARTIAL = tl.constexpr(geo.COL_PARTIAL)
ROW_TILES = tl.constexpr(geo.ROW_TILES)
COL_TILES = tl.constexpr(geo.COL_TILES)
TILE_FIRST = tl.constexpr(geo.TILE_FIRST)
TILE_COUNT = tl.constexpr(geo.TILE_COUNT)
SEGMENT_FIRST = tl.constexpr(geo.SEGMENT_FIRST)
SEGMENT_COUNT = tl.constexpr(geo.SEGMENT_COUNT)
VECTOR = tl.constexpr(geo.VECTOR)
WIDTH = tl.constexpr(geo.WIDTH)
LR = tl.constexpr(geo.LR)
WEIGHT_DECAY = tl.constexpr(geo.WEIGHT_DECAY)
BETA1 = tl.constexpr(geo.BETA1)
DECAY_RATE = tl.constexpr(geo.DECAY_RATE)
EPS_SQUARE = tl.constexpr(geo.EPS_SQUARE)
EPS_SCALE = tl.constexpr(geo.EPS_SCALE)
CLIP = tl.constexpr(geo.CLIP)
FLAGS = tl.constexpr(geo.FLAGS)
HYPER_WIDTH = tl.constexpr(geo.HYPER_WIDTH)
SCALE_PARAMETER = tl.constexpr(geo.FLAG_SCALE_PARAMETER)
RELATIVE_STEP = tl.constexpr(geo.FLAG_RELATIVE_STEP)
WARMUP_INIT = tl.constexpr(geo.FLAG_WARMUP_INIT)
APPLY = tl.constexpr(geo.APPLY)
KEEP = tl.constexpr(geo.KEEP)
TAKE = tl.constexpr(geo.TAKE)
UPDATE = tl.constexpr(geo.UPDATE)
DECAY = tl.constexpr(geo.DECAY)
KEEP1 = tl.constexpr(geo.KEEP1)
TAKE1 = tl.constexpr(geo.TAKE1)
EPS = tl.constexpr(geo.EPS)
RMS = tl.constexpr(geo.RMS)
COEFFICIENT_WIDTH = tl.constexpr(geo.COEFFICIENT_WIDTH)
TILE_ROWS = tl.constexpr(geo.TILE_ROWS)
TILE_COLS = tl.constexpr(geo.TILE_COLS)
STRIP = tl.constexpr(geo.STRIP)
SEGMENT = tl.constexpr(geo.SEGMENT)


@triton.jit(do_not_specialize=["tensors"])
def adafactor_begin_kernel(table, steps, hyper, coefficients, tensors, LANES: tl.constexpr):  # noqa: N803
    """One program: count the step of every tensor that has a gradient, and set the decay of its averages."""
    for first in range(0, tensors, LANES):
        index = first + tl.arange(0, LANES)
        inside = index < tensors
        row = table + index.to(tl.int64) * WIDTH
        active = tl.load(row + GRAD, mask=inside, other=0) != 0
        step = tl.load(steps + index, mask=inside, other=1.0) + tl.where(active, 1.0, 0.0)
        tl.store(steps + index, step, mask=active)
        group = hyper + tl.load(row + GROUP, mask=inside, other=0) * HYPER_WIDTH
        rate = tl.load(group + DECAY_RATE, mask=inside, other=0.0)
        power = tl.where(active, step, 1.0).to(tl.float64)
        take = tl.exp(rate * tl.log(power))
        beta1 = tl.load(group + BETA1, mask=inside, other=0.0)
        eps = tl.load(group + EPS_SQUARE, mask=inside, other=0.0)
        out = coefficients + index.to(tl.int64) * COEFFICIENT_WIDTH
        tl.store(out + APPLY, tl.where(active, 1.0, 0.0), mask=inside)
        tl.store(out + KEEP, (1.0 - take).to(tl.float32), mask=inside)
        tl.store(out + TAKE, take.to(tl.float32), mask=inside)
        tl.store(out + KEEP1, beta1.to(tl.float32), mask=inside)
        tl.store(out + TAKE1, (1.0 - beta1).to(tl.float32), mask=inside)
        tl.store(out + EPS, eps.to(tl.float32), mask=inside)


@triton.jit
def _load(pointers, mask, MASKED: tl.constexpr):  # noqa: N803
    if MASKED:
        return tl.load(pointers, mask=mask, other=0.0).to(tl.float32)
    else:
        return tl.load(pointers).to(tl.float32)


@triton.jit
def _store(pointers, value, mask, MASKED: tl.constexpr):  # noqa: N803
    if MASKED:
        tl.store(pointers, value.to(pointers.dtype.element_ty), mask=mask)
    else:
        tl.store(pointers, value.to(pointers.dtype.element_ty))


@triton.jit
def _whole(row, row0, col0):
    """Whether a tile is whole and its memory may be read 16 bytes at a time."""
    rows = tl.load(row + ROWS)
    cols = tl.load(row + COLS)
    fits = (row0 + TILE_ROWS <= rows) & (col0 + TILE_COLS <= cols) & ((row0 + TILE_ROWS) * cols <= tl.load(row + NUMEL))
    factored = tl.load(row + FACTORED) != 0
    complete = (row0 + TILE_ROWS <= rows) & (col0 + TILE_COLS <= cols)
    return (fits | (complete & factored)) & (tl.load(row + ALIGNED) != 0) & (tl.load(row + VECTOR) != 0)


@triton.jit
def _positions(row, matrix, row0, col0, strip, cols, MASKED: tl.constexpr):  # noqa: N803
    """Offsets ``[STRIP, TILE_COLS]`` in the tensor of one strip of a tile, its rows, columns and mask."""
    rows = tl.load(row + ROWS)
    r = row0 + strip + tl.arange(0, STRIP)
    c = col0 + tl.arange(0, TILE_COLS)
    offsets = (matrix * rows + row0 + strip) * cols + tl.arange(0, STRIP)[:, None] * cols + c[None, :]
    mask = (r[:, None] < rows) & (c[None, :] < cols) & (offsets < tl.load(row + NUMEL))
    return offsets, r, c, mask


@triton.jit
def _sums_of_tile(
    row, matrix, row0, col0, cols, param, grad, row_out, PARAM_SQUARES: tl.constexpr, MASKED: tl.constexpr  # noqa: N803
):
    """Column sums of squares ``[TILE_COLS]`` and the parameters' sum of squares; writes row sums."""
    columns_sum = tl.zeros([STRIP, TILE_COLS], tl.float32)
    size = tl.zeros([STRIP, TILE_COLS], tl.float32)
    rows = tl.load(row + ROWS)
    for strip in range(0, TILE_ROWS, STRIP):
        offsets, r, c, mask = _positions(row, matrix, row0, col0, strip, cols, MASKED)
        g = _load(grad + offsets, mask, MASKED)
        square = g * g
        columns_sum += square
        if row_out is not None:
            tl.store(row_out + r, tl.sum(square, axis=1), mask=r < rows)
        if PARAM_SQUARES:
            p = _load(param + offsets, mask, MASKED)
            size += p * p
    return tl.sum(columns_sum, axis=0), tl.sum(tl.sum(size, axis=1), axis=0)
