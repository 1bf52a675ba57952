"""How Adafactor's tensors are cut into tiles and their factors into segments; plain integers, computed once.

A tensor of two or more dimensions is a stack of matrices over its last two; anything else is one "matrix" of 128
columns whose second moment is kept in full. Tiles are ``TILE_ROWS × TILE_COLS``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from . import columns
from .layout import padded

TILE_ROWS = 64
TILE_COLS = 128
STRIP = 8  # rows that a program holds at once: 1024 elements
TAIL_STRIP = 4  # the same where masks are needed, whose addresses and predicates take registers
SEGMENT = 256  # rows or columns of factors that a program updates

# Columns of the table after those that every optimizer has.
ROWS, COLS, FACTORED, MATRICES, ROW_STATE, COL_STATE, FULL_STATE = range(columns.TABLE_WIDTH, columns.TABLE_WIDTH + 7)
ROW_PARTIAL, COL_PARTIAL, ROW_TILES, COL_TILES, TILE_FIRST, TILE_COUNT, SEGMENT_FIRST, SEGMENT_COUNT, VECTOR = range(
    columns.TABLE_WIDTH + 7, columns.TABLE_WIDTH + 16
)
WIDTH = columns.TABLE_WIDTH + 16

# Hyper-parameters (float64) of a group.
LR, WEIGHT_DECAY, BETA1, DECAY_RATE, EPS_SQUARE, EPS_SCALE, CLIP, FLAGS = range(8)
HYPER_WIDTH = 8
FLAG_SCALE_PARAMETER = 1
FLAG_RELATIVE_STEP = 2
FLAG_WARMUP_INIT = 4

# Coefficients (float32) of a tensor.
APPLY, KEEP, TAKE, UPDATE, DECAY, KEEP1, TAKE1, EPS, RMS, GRAD_FACTOR = range(10)
COEFFICIENT_WIDTH = 16


def _up(value: int, size: int) -> int:
    return -(-value // size)


@dataclass(frozen=True)
class Geometry:
    """Tables and sizes of a bucket.

    Attributes:
        columns: int64 ``[tensors, 16]``, appended to the pointer table.
        tiles: int32 ``[tiles, 4]``: tensor, matrix, row of tiles, column of tiles.
        segments: int32 ``[segments, 4]``: tensor, matrix, 0 for rows or 1 for columns, number of the segment.
        factors: elements of the flat row and column factors.
        full: elements of the flat unfactored second moments.
        partials: elements of the partial row and column sums.
        first: elements of the flat first moments, were there any.
    """

    columns: np.ndarray
    tiles: np.ndarray
    segments: np.ndarray
    factors: int
    full: int
    partials: int
    first: int


def matrix_shape(shape: Sequence[int]) -> tuple[int, int, int, bool]:
    """Matrices, rows and columns that a tensor is taken for, and whether its second moment is factored."""
    if len(shape) >= 2:
        return prod(shape[:-2]), shape[-2], shape[-1], True
    numel = prod(shape)
    return 1, _up(numel, TILE_COLS), TILE_COLS, False


def geometry(shapes: Sequence[Sequence[int]]) -> Geometry:
    """Cut tensors of the given shapes."""
    table = np.zeros((len(shapes), WIDTH), dtype=np.int64)
    tiles: list[np.ndarray] = []
    segments: list[np.ndarray] = []
    factors = full = partials = tile_count = segment_count = 0
    for index, shape in enumerate(shapes):
        matrices, rows, cols, factored = matrix_shape(shape)
        row_tiles, col_tiles = _up(rows, TILE_ROWS), _up(cols, TILE_COLS)
        made = _grid(index, matrices, row_tiles, col_tiles) if prod(shape) else np.zeros((0, 4), np.int64)
        row = table[index]
        row[[ROWS, COLS, FACTORED, MATRICES]] = rows, cols, factored, matrices
        row[[ROW_TILES, COL_TILES, TILE_FIRST, TILE_COUNT]] = row_tiles, col_tiles, tile_count, len(made)
        row[VECTOR] = cols % 8 == 0  # then rows start at multiples of 16 bytes in every type
        row[FULL_STATE] = full
        row[SEGMENT_FIRST] = segment_count
        tiles.append(made)
        tile_count += len(made)
        if not factored:
            full += padded(prod(shape))
            continue
        row[[ROW_STATE, COL_STATE]] = factors, factors + matrices * rows
        row[[ROW_PARTIAL, COL_PARTIAL]] = partials, partials + matrices * rows * col_tiles
        factors += matrices * (rows + cols)
        partials += matrices * (rows * col_tiles + cols * row_tiles)
        if not prod(shape):
            continue
        row_segments = _up(rows, SEGMENT)
        row[SEGMENT_COUNT] = row_segments
        cut = np.concatenate([_grid(index, matrices, 1, row_segments), _grid(index, matrices, 1, _up(cols, SEGMENT))])
        cut[matrices * row_segments :, 2] = 1
        segments.append(cut)
        segment_count += len(cut)
    return Geometry(
        table[:, columns.TABLE_WIDTH :], _joined(tiles), _joined(segments), factors, full, partials,
        sum(padded(prod(shape)) for shape in shapes),
    )  # fmt: skip


def _grid(index: int, *sizes: int) -> np.ndarray:
    """Every combination of three numbers below ``sizes``, after the tensor's index."""
    mesh = np.meshgrid(*(np.arange(size) for size in sizes), indexing="ij")
    numbers = np.stack([axis.ravel() for axis in mesh], axis=1)
    return np.concatenate([np.full((len(numbers), 1), index), numbers], axis=1)


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros((0, 4), np.int64), *parts]).astype(np.int32)
