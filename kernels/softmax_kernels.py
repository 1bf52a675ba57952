# ruff: noqa: N803
# mypy: disable-error-code=no-untyped-def
"""Triton kernels of softmax over scores with bias, mask and dropout.

A program takes ``ROWS`` neighbouring queries of one head through some batches: their bias stays in registers. A tile is
[rows, groups, 8 neighbours], because dropout draws the bits of eight neighbours at once. Strides and ``columns`` come
divided by ``ALIGN``, so that the compiler knows what they are divisible by, and merges accesses of rows whose length is
no power of two.
"""

import triton
import triton.language as tl

from .dropout_kernels import dropout_factors

MINUS_INFINITY = tl.constexpr(float("-inf"))


@triton.jit
def _rows_of_program(heads, chunks, ROWS: tl.constexpr):
    """Chunk of the batch, head, and queries [ROWS, 1, 1] of this program.

    Batches are neighbours, then heads: what all batches or all heads share, bias and mask, is read again while it is
    still in the L2 cache, however large the whole is.
    """
    program = tl.program_id(0)
    query = program // (chunks * heads) * ROWS + tl.arange(0, ROWS)[:, None, None]
    return program % chunks, (program // chunks) % heads, query


@triton.jit
def _first_batch(pointer, head, query, column, head_stride, query_stride, ALIGN: tl.constexpr):
    """Pointers to the tile in the first batch."""
    return pointer + (head.to(tl.int64) * head_stride + query.to(tl.int64) * query_stride) * ALIGN + column


@triton.jit
def _load(pointers, inside):
    return tl.load(pointers, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _biased(scores, shared_bias, bias, bias_offset, mask, mask_offset, inside, BIAS_PER_BATCH: tl.constexpr):
    """Scores plus bias, minus infinity where the mask forbids.

    ``shared_bias`` is the tile of a bias that all batches share, or ``None``; the others are pointers, and where to go
    from them for this batch.
    """
    value = tl.load(scores, mask=inside, other=MINUS_INFINITY).to(tl.float32)
    if BIAS_PER_BATCH:
        value += _load(bias + bias_offset, inside)
    elif shared_bias is not None:
        value += shared_bias
    if mask is not None:
        if mask.dtype.scalar.element_ty.is_int():
            value = tl.where(tl.load(mask + mask_offset, mask=inside, other=0) != 0, value, MINUS_INFINITY)
        else:
            value += _load(mask + mask_offset, inside)
    return value


@triton.jit
def _sum(value):
    return tl.sum(tl.sum(value, 2), 1)[:, None, None]


@triton.jit
def _softmax(value):
    """Softmax of each row; zeros where all is minus infinity."""
    highest = tl.max(tl.max(value, 2), 1)[:, None, None]
    power = tl.exp(value - tl.where(highest == MINUS_INFINITY, 0.0, highest))
    total = _sum(power)
    return power * (1.0 / tl.where(total == 0.0, 1.0, total))


@triton.jit
def _factors(seed, batch, head, query, heads, queries, threshold, scale, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """What dropout multiplies a tile by; rows are counted through all batches and heads, and padded to ``WIDTH``."""
    row = (batch * heads + head) * queries + query.reshape(ROWS, 1)
    vector = row * (WIDTH // 8) + tl.arange(0, WIDTH // 8)[None, :]
    return tl.reshape(dropout_factors(seed, vector, threshold, scale, 8), [ROWS, WIDTH // 8, 8])


@triton.jit(
    do_not_specialize=[
        "batches", "heads", "queries", "columns", "chunk", "chunks", "threshold", "scores_b", "scores_h", "scores_q",
        "bias_b", "bias_h", "bias_q", "mask_b", "mask_h", "mask_q",
    ]
)  # fmt: skip
def softmax_kernel(
    scores, bias, mask, seed, probs, batches, heads, queries, columns, chunk, chunks, threshold, scale,
    scores_b, scores_h, scores_q, bias_b, bias_h, bias_q, mask_b, mask_h, mask_q,
    BIAS_PER_BATCH: tl.constexpr, ALIGN: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Probabilities after dropout; ``bias``, ``mask`` and ``seed`` may be ``None``, ``probs`` is contiguous."""
    part, head, query = _rows_of_program(heads, chunks, ROWS)
    column = tl.arange(0, WIDTH // 8)[None, :, None] * 8 + tl.arange(0, 8)[None, None, :]
    inside = (query < queries) & (column < columns * ALIGN)

    scores = _first_batch(scores, head, query, column, scores_h, scores_q, ALIGN)
    whole_h = queries.to(tl.int64) * columns
    probs = _first_batch(probs, head, query, column, whole_h, columns, ALIGN)
    shared_bias = None
    if bias is not None:
        bias = _first_batch(bias, head, query, column, bias_h, bias_q, ALIGN)
        if not BIAS_PER_BATCH:
            shared_bias = _load(bias, inside)
    if mask is not None:
        mask = _first_batch(mask, head, query, column, mask_h, mask_q, ALIGN)
    if seed is not None:
        key = tl.load(seed)

    first = (part * chunk).to(tl.int64)
    for step in range(tl.minimum(chunk, batches - part * chunk)):
        batch = first + step
        value = _biased(
            scores + batch * scores_b * ALIGN, shared_bias, bias, batch * bias_b * ALIGN, mask, batch * mask_b * ALIGN,
            inside, BIAS_PER_BATCH,
        )  # fmt: skip
        result = _softmax(value)
        if seed is not None:
            result *= _factors(key, batch, head, query, heads, queries, threshold, scale, ROWS, WIDTH)
        tl.store(probs + batch * heads * whole_h * ALIGN, result.to(probs.dtype.scalar.element_ty), mask=inside)


@triton.jit(
    do_not_specialize=[
        "batches", "heads", "queries", "columns", "chunk", "chunks", "threshold", "saved_b", "saved_h", "saved_q",
        "grad_b", "grad_h", "grad_q", "bias_b", "bias_h", "bias_q", "mask_b", "mask_h", "mask_q",
    ]
)  # fmt: skip
def softmax_backward_kernel(
    saved, bias, mask, seed, grad, grad_scores, grad_bias, batches, heads, queries, columns, chunk, chunks,
    threshold, scale, saved_b, saved_h, saved_q, grad_b, grad_h, grad_q, bias_b, bias_h, bias_q, mask_b, mask_h, mask_q,
    BIAS_PER_BATCH: tl.constexpr, ALIGN: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Gradient of the scores, and of a bias that all batches share unless ``grad_bias`` is ``None``.

    ``saved`` is the probabilities, or, with a ``seed``, the scores, from which they are computed again, as is what
    dropout kept. ``grad_bias`` is [chunks, heads, queries, columns]: each program sums the batches of its chunk. Both
    gradients are contiguous.
    """
    part, head, query = _rows_of_program(heads, chunks, ROWS)
    column = tl.arange(0, WIDTH // 8)[None, :, None] * 8 + tl.arange(0, 8)[None, None, :]
    inside = (query < queries) & (column < columns * ALIGN)

    saved = _first_batch(saved, head, query, column, saved_h, saved_q, ALIGN)
    grad = _first_batch(grad, head, query, column, grad_h, grad_q, ALIGN)
    whole_h = queries.to(tl.int64) * columns
    grad_scores = _first_batch(grad_scores, head, query, column, whole_h, columns, ALIGN)
    shared_bias = None
    if bias is not None:
        bias = _first_batch(bias, head, query, column, bias_h, bias_q, ALIGN)
        if not BIAS_PER_BATCH:
            shared_bias = _load(bias, inside)
    if mask is not None:
        mask = _first_batch(mask, head, query, column, mask_h, mask_q, ALIGN)
    if seed is not None:
        key = tl.load(seed)
    if grad_bias is not None:
        bias_slope = tl.zeros([ROWS, WIDTH // 8, 8], tl.float32)

    first = (part * chunk).to(tl.int64)
    for step in range(tl.minimum(chunk, batches - part * chunk)):
        batch = first + step
        slope = _load(grad + batch * grad_b * ALIGN, inside)
        if seed is None:
            probs = _load(saved + batch * saved_b * ALIGN, inside)
        else:
            value = _biased(
                saved + batch * saved_b * ALIGN, shared_bias, bias, batch * bias_b * ALIGN, mask,
                batch * mask_b * ALIGN, inside, BIAS_PER_BATCH,
            )  # fmt: skip
            probs = _softmax(value)
            slope *= _factors(key, batch, head, query, heads, queries, threshold, scale, ROWS, WIDTH)
        slope = probs * (slope - _sum(probs * slope))
        tl.store(
            grad_scores + batch * heads * whole_h * ALIGN, slope.to(grad_scores.dtype.scalar.element_ty), mask=inside
        )
        if grad_bias is not None:
            bias_slope += slope

    if grad_bias is not None:
        grad_bias += part.to(tl.int64) * heads * whole_h * ALIGN
        out = _first_batch(grad_bias, head, query, column, whole_h, columns, ALIGN)
        tl.store(out, bias_slope.to(grad_bias.dtype.element_ty), mask=inside)
