# ruff: noqa: N803
# mypy: disable-error-code=no-untyped-def
"""Triton kernels of T5's layer norm, alone or after ``residual + dropout(x)``, forward and backward.

A block has about as many threads as a row has 16-byte vectors, and takes a few rows at once: one exchange between its
warps sums all of them, and what a thread adds to the weight's gradient belongs to columns that are its own. Rows are
shared out evenly to as many programs as run at the same time; each writes its part of the weight's gradient, and a
second kernel adds the parts in a fixed order.
"""

import triton
import triton.language as tl

from .dropout_kernels import dropout_factors


@triton.jit
def _tile(row, rows, columns, WIDTH: tl.constexpr):
    """Offsets of the elements of rows [ROWS], and whether they are inside."""
    column = tl.arange(0, WIDTH)[None, :]
    inside = (row < rows)[:, None] & (column < columns)
    return row.to(tl.int64)[:, None] * columns + column, inside


@triton.jit
def _load(pointer, at, inside):
    return tl.load(pointer + at, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _factors(
    seed, row, columns, threshold, scale, ROWS: tl.constexpr, WIDTH: tl.constexpr, VECTOR: tl.constexpr
):  # fmt: skip
    vectors = (columns + 7) // 8 * (8 // VECTOR)
    vector = row.to(tl.int64)[:, None] * vectors + tl.arange(0, WIDTH // VECTOR)[None, :]
    return tl.reshape(dropout_factors(tl.load(seed), vector, threshold, scale, VECTOR), [ROWS, WIDTH])


@triton.jit(do_not_specialize=["rows", "threshold"])
def rms_norm_kernel(
    residual, x, weight, seed, total, normed, rstd, rows, columns, eps, threshold, scale,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    """Norm of ``ROWS`` rows, and ``rstd``, the factor of each.

    ``residual`` and ``total`` are ``None`` for the norm of ``x`` itself, ``seed`` for no dropout. The sum is normed as
    it is stored, and the normed row takes the type of a half-precision weight before it is multiplied, as T5 does it.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    at, inside = _tile(row, rows, columns, WIDTH)
    value = _load(x, at, inside)
    if residual is not None:
        if seed is not None:
            value *= _factors(seed, row, columns, threshold, scale, ROWS, WIDTH, VECTOR)
        stored = (_load(residual, at, inside) + value).to(total.dtype.element_ty)
        tl.store(total + at, stored, mask=inside)
        value = stored.to(tl.float32)
    factor = tl.rsqrt(tl.sum(value * value, 1) / columns + eps)
    tl.store(rstd + row, factor, mask=row < rows)
    value *= factor[:, None]
    if weight.dtype.element_ty.primitive_bitwidth == 16:
        value = value.to(weight.dtype.element_ty).to(tl.float32)
    column = tl.arange(0, WIDTH)
    value *= _load(weight, column, column < columns)[None, :]
    tl.store(normed + at, value.to(normed.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["rows", "threshold"])
def rms_norm_backward_kernel(
    grad_total, grad, total, weight, rstd, seed, grad_residual, grad_x, parts, rows, columns, threshold, scale,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    """Gradient of the normed sum, ``ROWS`` rows at a time.

    Args that may be ``None``: ``grad_total``, what the sum gets from elsewhere; ``seed``; ``grad_x``, the gradient of
    what was dropped from, or of another type than ``grad_residual``; ``parts`` [programs, columns], this program's
    part of the weight's gradient.
    """
    column = tl.arange(0, WIDTH)
    gain = _load(weight, column, column < columns)[None, :]
    part = tl.zeros([WIDTH], tl.float32)
    for first in range(tl.program_id(0) * ROWS, rows, tl.num_programs(0) * ROWS):
        row = first + tl.arange(0, ROWS)
        at, inside = _tile(row, rows, columns, WIDTH)
        factor = tl.load(rstd + row, mask=row < rows, other=0.0)[:, None]
        slope = _load(grad, at, inside)
        normed = _load(total, at, inside) * factor
        if parts is not None:
            part += tl.sum(slope * normed, 0)
        slope *= gain
        shared = tl.sum(slope * normed, 1) / columns
        slope = (slope - normed * shared[:, None]) * factor
        if grad_total is not None:
            slope += _load(grad_total, at, inside)
        tl.store(grad_residual + at, slope.to(grad_residual.dtype.element_ty), mask=inside)
        if grad_x is not None:
            if seed is not None:
                slope *= _factors(seed, row, columns, threshold, scale, ROWS, WIDTH, VECTOR)
            tl.store(grad_x + at, slope.to(grad_x.dtype.element_ty), mask=inside)
    if parts is not None:
        tl.store(parts + tl.program_id(0).to(tl.int64) * columns + column, part, mask=column < columns)


@triton.jit(do_not_specialize=["count"])
def add_parts_kernel(parts, result, count, columns, COUNT: tl.constexpr, WIDTH: tl.constexpr):
    """Sum of ``parts`` [count, columns] over its rows, ``WIDTH`` columns a program."""
    column = tl.program_id(0) * WIDTH + tl.arange(0, WIDTH)[None, :]
    total = tl.zeros([COUNT, WIDTH], tl.float32)
    for first in range(0, count, COUNT):
        index = first + tl.arange(0, COUNT)[:, None]
        inside = (index < count) & (column < columns)
        total += tl.load(parts + index.to(tl.int64) * columns + column, mask=inside, other=0.0)
    column = tl.program_id(0) * WIDTH + tl.arange(0, WIDTH)
    tl.store(result + column, tl.sum(total, 0).to(result.dtype.element_ty), mask=column < columns)
