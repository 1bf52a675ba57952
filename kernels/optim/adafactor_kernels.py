# ruff: noqa: N803
# mypy: disable-error-code=no-untyped-def
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
from .gradient_kernels import gradient_factor
from .tiles import load, store

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
MAX_NORM = tl.constexpr(columns.MAX_NORM)
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
GRAD_FACTOR = tl.constexpr(geo.GRAD_FACTOR)
RMS = tl.constexpr(geo.RMS)
COEFFICIENT_WIDTH = tl.constexpr(geo.COEFFICIENT_WIDTH)
TILE_ROWS = tl.constexpr(geo.TILE_ROWS)
TILE_COLS = tl.constexpr(geo.TILE_COLS)
STRIP = tl.constexpr(geo.STRIP)
TAIL_STRIP = tl.constexpr(geo.TAIL_STRIP)
SEGMENT = tl.constexpr(geo.SEGMENT)


@triton.jit(do_not_specialize=["tensors", "groups", "sums"])
def adafactor_begin_kernel(
    table, steps, hyper, coefficients, partials, norm, grad_scale, found_inf, tensors, groups, sums,
    CLIP: tl.constexpr, SKIP_NONFINITE: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """One program: count the step of every tensor that has a gradient, and set the decay of its averages.

    ``partials`` and ``norm``, ``grad_scale`` and ``found_inf`` may be ``None``. A skipped step changes nothing.
    """
    limit = hyper + groups * HYPER_WIDTH + MAX_NORM
    skip, factor = gradient_factor(partials, norm, grad_scale, found_inf, limit, sums, CLIP, SKIP_NONFINITE, LANES)
    for first in range(0, tensors, LANES):
        index = first + tl.arange(0, LANES)
        inside = index < tensors
        row = table + index.to(tl.int64) * WIDTH
        active = tl.where(skip == 0, tl.load(row + GRAD, mask=inside, other=0), 0) != 0
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
        tl.store(out + GRAD_FACTOR, factor.to(tl.float32) + tl.zeros([LANES], tl.float32), mask=inside)
        tl.store(out + KEEP, (1.0 - take).to(tl.float32), mask=inside)
        tl.store(out + TAKE, take.to(tl.float32), mask=inside)
        tl.store(out + KEEP1, beta1.to(tl.float32), mask=inside)
        tl.store(out + TAKE1, (1.0 - beta1).to(tl.float32), mask=inside)
        tl.store(out + EPS, eps.to(tl.float32), mask=inside)


@triton.jit
def _place(tiles, tile):
    """Tensor, matrix within it, and first row and column of a tile."""
    place = tiles + tile * 4
    row0 = tl.load(place + 2).to(tl.int64) * TILE_ROWS
    col0 = tl.load(place + 3).to(tl.int64) * TILE_COLS
    return tl.load(place).to(tl.int64), tl.load(place + 1).to(tl.int64), row0, col0


@triton.jit
def _fits(row, row0, col0):
    """Whether a tile is whole and its memory may be read 16 bytes at a time."""
    cols = tl.load(row + COLS)
    whole = (row0 + TILE_ROWS <= tl.load(row + ROWS)) & (col0 + TILE_COLS <= cols)
    whole = whole & ((row0 + TILE_ROWS) * cols <= tl.load(row + NUMEL))
    return whole & (tl.load(row + ALIGNED) != 0) & (tl.load(row + VECTOR) != 0)


@triton.jit
def _strip(matrix, row0, col0, strip, rows, cols, numel, HEIGHT: tl.constexpr, MASKED: tl.constexpr):
    """A strip of a tile: its first element, the others' distances and mask ``[HEIGHT, TILE_COLS]``, and its rows."""
    lines = row0 + strip + tl.arange(0, HEIGHT)
    across = tl.arange(0, TILE_COLS)
    start = (matrix * rows + row0 + strip) * cols + col0
    offsets = tl.arange(0, HEIGHT)[:, None] * cols + across[None, :]
    if MASKED:
        mask = (lines < rows)[:, None] & (col0 + across < cols)[None, :] & (start + offsets < numel)
    else:
        mask = tl.zeros([HEIGHT, TILE_COLS], tl.int32) == 0
    return start, offsets, mask, lines


@triton.jit
def _sums_of_tile(
    row, tile, matrix, row0, col0, cols, param, grad, factor, partials, sizes,
    SCALE: tl.constexpr, HEIGHT: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    rows = tl.load(row + ROWS)
    numel = tl.load(row + NUMEL)
    factored = tl.load(row + FACTORED)  # 0 or 1: times a limit, it masks what other tensors do not have
    row_out = partials + tl.load(row + ROW_PARTIAL) + (matrix * tl.load(row + COL_TILES) + col0 // TILE_COLS) * rows
    down = tl.zeros([HEIGHT, TILE_COLS], tl.float32)
    size = tl.zeros([HEIGHT, TILE_COLS], tl.float32)
    for strip in range(0, TILE_ROWS, HEIGHT):
        start, offsets, mask, lines = _strip(matrix, row0, col0, strip, rows, cols, numel, HEIGHT, MASKED)
        g = load(grad + start + offsets, mask, MASKED) * factor
        down += g * g
        tl.store(row_out + lines, tl.sum(g * g, axis=1), mask=lines < rows * factored)
        if SCALE:
            p = load(param + start + offsets, mask, MASKED)
            size += p * p
    col_out = partials + tl.load(row + COL_PARTIAL) + (matrix * tl.load(row + ROW_TILES) + row0 // TILE_ROWS) * cols
    across = col0 + tl.arange(0, TILE_COLS)
    tl.store(col_out + across, tl.sum(down, axis=0), mask=across < cols * factored)
    if SCALE:
        tl.store(sizes + tile, tl.sum(tl.sum(size, axis=1), axis=0))


@triton.jit
def adafactor_sums_kernel(
    table, coefficients, tiles, partials, sizes,
    PARAM_DTYPE: tl.constexpr, GRAD_DTYPE: tl.constexpr, SCALE: tl.constexpr,
):  # fmt: skip
    """Partial sums over one tile: squared gradients along rows and columns; squared parameters with ``SCALE``."""
    tile = tl.program_id(0).to(tl.int64)
    tensor, matrix, row0, col0 = _place(tiles, tile)
    row = table + tensor * WIDTH
    coefficients += tensor * COEFFICIENT_WIDTH
    if tl.load(coefficients + APPLY) != 0.0:
        factor = tl.load(coefficients + GRAD_FACTOR)
        param = tl.load(row + PARAM)
        grad = tl.load(row + GRAD)
        if _fits(row, row0, col0):
            cols = tl.multiple_of(tl.load(row + COLS), 8)
            fast_param = tl.multiple_of(param.to(tl.pointer_type(PARAM_DTYPE)), 16)
            fast_grad = tl.multiple_of(grad.to(tl.pointer_type(GRAD_DTYPE)), 16)
            _sums_of_tile(
                row, tile, matrix, row0, col0, cols, fast_param, fast_grad, factor, partials, sizes, SCALE,
                STRIP, False,
            )  # fmt: skip
        else:
            cols = tl.load(row + COLS)
            slow_param = param.to(tl.pointer_type(PARAM_DTYPE))
            slow_grad = grad.to(tl.pointer_type(GRAD_DTYPE))
            _sums_of_tile(
                row, tile, matrix, row0, col0, cols, slow_param, slow_grad, factor, partials, sizes, SCALE,
                TAIL_STRIP, True,
            )  # fmt: skip


@triton.jit
def adafactor_factors_kernel(table, coefficients, segments, partials, factors, segment_sums):
    """Average one segment of row or column means into the state; row segments also write the sum of their factors."""
    program = tl.program_id(0).to(tl.int64)
    tensor = tl.load(segments + program * 4).to(tl.int64)
    matrix = tl.load(segments + program * 4 + 1).to(tl.int64)
    along_columns = tl.load(segments + program * 4 + 2) != 0
    row = table + tensor * WIDTH
    coefficients += tensor * COEFFICIENT_WIDTH
    if tl.load(coefficients + APPLY) != 0.0:
        rows = tl.load(row + ROWS)
        cols = tl.load(row + COLS)
        length = tl.where(along_columns, cols, rows)
        pieces = tl.where(along_columns, tl.load(row + ROW_TILES), tl.load(row + COL_TILES))
        source = tl.where(along_columns, tl.load(row + COL_PARTIAL), tl.load(row + ROW_PARTIAL))
        target = tl.where(along_columns, tl.load(row + COL_STATE), tl.load(row + ROW_STATE)) + matrix * length
        position = tl.load(segments + program * 4 + 3).to(tl.int64) * SEGMENT + tl.arange(0, SEGMENT)
        inside = position < length
        total = tl.zeros([SEGMENT], tl.float32)
        for piece in range(pieces.to(tl.int32)):
            total += tl.load(partials + source + (matrix * pieces + piece) * length + position, mask=inside, other=0.0)
        mean = total / tl.where(along_columns, rows, cols).to(tl.float32) + tl.load(coefficients + EPS)
        before = tl.load(factors + target + position, mask=inside, other=0.0)
        after = tl.load(coefficients + KEEP) * before + tl.load(coefficients + TAKE) * mean
        tl.store(factors + target + position, after, mask=inside)
        tl.store(segment_sums + program, tl.sum(tl.where(inside, after, 0.0), axis=0))


@triton.jit
def _mean_row_factor(row, matrix, segment_sums):
    """Mean of a matrix's row factors; 1 for tensors that have none."""
    count = tl.load(row + SEGMENT_COUNT)
    first = tl.load(row + SEGMENT_FIRST) + matrix * count
    lanes = tl.arange(0, 128)
    total = tl.zeros([128], tl.float32)
    for start in range(0, count.to(tl.int32), 128):
        total += tl.load(segment_sums + first + start + lanes, mask=start + lanes < count, other=0.0)
    return tl.where(count > 0, tl.sum(total, axis=0) / tl.load(row + ROWS).to(tl.float32), 1.0)


@triton.jit
def _in_full(factored):
    """Mask ``[1, TILE_COLS]`` of tensors whose second moment is kept in full."""
    return (tl.arange(0, TILE_COLS) < TILE_COLS * (1 - factored.to(tl.int32)))[None, :]


@triton.jit
def _raw_update(g, full, mask, lines, column_factor, mean, row_factors, rows, factored, keep, take, eps):
    """The update before clipping, and the new full second moment where it is not factored.

    A tensor has either row factors or full second moments; loads of what it does not have are masked in all threads
    alike and cost no traffic.
    """
    row_factor = tl.load(row_factors + lines, mask=lines < rows * factored, other=1.0)
    v = tl.load(full, mask=mask & _in_full(factored), other=0.0)
    v = keep * v + take * (g * g + eps)
    scale = tl.where(factored != 0, (tl.rsqrt(row_factor / mean))[:, None] * column_factor[None, :], tl.rsqrt(v))
    return g * scale, v


@triton.jit
def _column_factor(row, matrix, col0, cols, factors):
    across = col0 + tl.arange(0, TILE_COLS)
    present = across < cols * tl.load(row + FACTORED)
    return tl.rsqrt(tl.load(factors + tl.load(row + COL_STATE) + matrix * cols + across, mask=present, other=1.0))


@triton.jit
def _rms_of_tile(
    row, tile, matrix, row0, col0, cols, grad, coefficients, factors, full, mean, squares,
    HEIGHT: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    column_factor = _column_factor(row, matrix, col0, cols, factors)
    rows = tl.load(row + ROWS)
    numel = tl.load(row + NUMEL)
    factored = tl.load(row + FACTORED)
    row_factors = factors + tl.load(row + ROW_STATE) + matrix * rows
    full += tl.multiple_of(tl.load(row + FULL_STATE), 256)
    keep = tl.load(coefficients + KEEP)
    take = tl.load(coefficients + TAKE)
    eps = tl.load(coefficients + EPS)
    factor = tl.load(coefficients + GRAD_FACTOR)
    total = tl.zeros([HEIGHT, TILE_COLS], tl.float32)
    for strip in range(0, TILE_ROWS, HEIGHT):
        start, offsets, mask, lines = _strip(matrix, row0, col0, strip, rows, cols, numel, HEIGHT, MASKED)
        g = load(grad + start + offsets, mask, MASKED) * factor
        update, _ = _raw_update(
            g, full + start + offsets, mask, lines, column_factor, mean, row_factors, rows, factored, keep, take, eps
        )
        total += update * update
    tl.store(squares + tile, tl.sum(tl.sum(total, axis=1), axis=0))


@triton.jit
def adafactor_rms_kernel(table, coefficients, tiles, factors, full, segment_sums, squares, GRAD_DTYPE: tl.constexpr):
    """Sum of squares of the raw update over one tile."""
    tile = tl.program_id(0).to(tl.int64)
    tensor, matrix, row0, col0 = _place(tiles, tile)
    row = table + tensor * WIDTH
    coefficients += tensor * COEFFICIENT_WIDTH
    if tl.load(coefficients + APPLY) != 0.0:
        grad = tl.load(row + GRAD)
        mean = _mean_row_factor(row, matrix, segment_sums)
        if _fits(row, row0, col0):
            cols = tl.multiple_of(tl.load(row + COLS), 8)
            fast = tl.multiple_of(grad.to(tl.pointer_type(GRAD_DTYPE)), 16)
            _rms_of_tile(
                row, tile, matrix, row0, col0, cols, fast, coefficients, factors, full, mean, squares, STRIP, False
            )
        else:
            cols = tl.load(row + COLS)
            slow = grad.to(tl.pointer_type(GRAD_DTYPE))
            _rms_of_tile(
                row, tile, matrix, row0, col0, cols, slow, coefficients, factors, full, mean, squares, TAIL_STRIP, True
            )


@triton.jit
def _total(partials, first, count, LANES: tl.constexpr):
    """Sum of ``count`` partial sums in float64."""
    lanes = tl.arange(0, LANES)
    total = tl.zeros([LANES], tl.float64)
    for start in range(0, count.to(tl.int32), LANES):
        total += tl.load(partials + first + start + lanes, mask=start + lanes < count, other=0.0).to(tl.float64)
    return tl.sum(total, axis=0)


@triton.jit
def adafactor_finish_kernel(table, steps, hyper, coefficients, squares, sizes, LANES: tl.constexpr):
    """One program per tensor: its learning rate, clipped by the root mean square of its raw update."""
    tensor = tl.program_id(0).to(tl.int64)
    row = table + tensor * WIDTH
    coefficients += tensor * COEFFICIENT_WIDTH
    if tl.load(coefficients + APPLY) != 0.0:
        group = hyper + tl.load(row + GROUP) * HYPER_WIDTH
        flags = tl.load(group + FLAGS).to(tl.int32)
        step = tl.load(steps + tensor).to(tl.float64)
        numel = tl.maximum(tl.load(row + NUMEL), 1).to(tl.float64)
        first = tl.load(row + TILE_FIRST)
        count = tl.load(row + TILE_COUNT)
        rate = tl.load(group + LR)
        if (flags & RELATIVE_STEP) != 0:
            warm = tl.where((flags & WARMUP_INIT) != 0, step * 1e-6, 1e-2)
            rate = tl.minimum(warm, 1.0 / tl.sqrt(step))
        if sizes is not None:
            rms = tl.sqrt(_total(sizes, first, count, LANES) / numel)
            tl.store(coefficients + RMS, rms.to(tl.float32))
            if (flags & SCALE_PARAMETER) != 0:
                floor = tl.load(group + EPS_SCALE)
                rate = rate * tl.where(rms < floor, floor, rms)
        update = tl.sqrt(_total(squares, first, count, LANES) / numel)
        clipping = update / tl.load(group + CLIP)
        clipping = tl.where(clipping < 1.0, 1.0, clipping)  # NaN stays NaN
        tl.store(coefficients + UPDATE, (rate / clipping).to(tl.float32))
        tl.store(coefficients + DECAY, (rate * tl.load(group + WEIGHT_DECAY)).to(tl.float32))


@triton.jit
def _apply_tile(
    row, matrix, row0, col0, cols, param, grad, coefficients, factors, full, exp_avg, mean,
    HEIGHT: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    column_factor = _column_factor(row, matrix, col0, cols, factors)
    rows = tl.load(row + ROWS)
    numel = tl.load(row + NUMEL)
    factored = tl.load(row + FACTORED)
    row_factors = factors + tl.load(row + ROW_STATE) + matrix * rows
    full += tl.multiple_of(tl.load(row + FULL_STATE), 256)
    keep = tl.load(coefficients + KEEP)
    take = tl.load(coefficients + TAKE)
    eps = tl.load(coefficients + EPS)
    factor = tl.load(coefficients + GRAD_FACTOR)
    step_size = tl.load(coefficients + UPDATE)
    decay = tl.load(coefficients + DECAY)
    keep1 = tl.load(coefficients + KEEP1)
    take1 = tl.load(coefficients + TAKE1)
    for strip in range(0, TILE_ROWS, HEIGHT):
        start, offsets, mask, lines = _strip(matrix, row0, col0, strip, rows, cols, numel, HEIGHT, MASKED)
        g = load(grad + start + offsets, mask, MASKED) * factor
        p = load(param + start + offsets, mask, MASKED)
        update, v = _raw_update(
            g, full + start + offsets, mask, lines, column_factor, mean, row_factors, rows, factored, keep, take, eps
        )
        tl.store(full + start + offsets, v, mask=mask & _in_full(factored))
        update = update * step_size
        if exp_avg is not None:
            first = exp_avg + tl.multiple_of(tl.load(row + STATE), 256)
            update = keep1 * load(first + start + offsets, mask, MASKED) + take1 * update
            store(first + start + offsets, update, mask, MASKED)
        p = p - decay * p
        store(param + start + offsets, p - update, mask, MASKED)


@triton.jit
def adafactor_apply_kernel(
    table, coefficients, tiles, factors, full, segment_sums, exp_avg,
    PARAM_DTYPE: tl.constexpr, GRAD_DTYPE: tl.constexpr,
):  # fmt: skip
    """Update one tile; ``exp_avg`` is ``None`` unless a first moment is kept."""
    tile = tl.program_id(0).to(tl.int64)
    tensor, matrix, row0, col0 = _place(tiles, tile)
    row = table + tensor * WIDTH
    coefficients += tensor * COEFFICIENT_WIDTH
    if tl.load(coefficients + APPLY) != 0.0:
        param = tl.load(row + PARAM)
        grad = tl.load(row + GRAD)
        mean = _mean_row_factor(row, matrix, segment_sums)
        if _fits(row, row0, col0):
            cols = tl.multiple_of(tl.load(row + COLS), 8)
            fast_param = tl.multiple_of(param.to(tl.pointer_type(PARAM_DTYPE)), 16)
            fast_grad = tl.multiple_of(grad.to(tl.pointer_type(GRAD_DTYPE)), 16)
            _apply_tile(
                row, matrix, row0, col0, cols, fast_param, fast_grad, coefficients, factors, full, exp_avg, mean,
                STRIP, False,
            )  # fmt: skip
        else:
            cols = tl.load(row + COLS)
            slow_param = param.to(tl.pointer_type(PARAM_DTYPE))
            slow_grad = grad.to(tl.pointer_type(GRAD_DTYPE))
            _apply_tile(
                row, matrix, row0, col0, cols, slow_param, slow_grad, coefficients, factors, full, exp_avg, mean,
                TAIL_STRIP, True,
            )  # fmt: skip
