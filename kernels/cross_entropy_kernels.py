# ruff: noqa: N803
# mypy: disable-error-code=no-untyped-def
"""Triton kernels of cross-entropy: the loss and gradient of a row, the weight of a mean, and the final scaling.

A row is taken in tiles of ``VECTORS`` vectors of ``WIDTH`` elements, 16 bytes each. A thread keeps one running maximum
and sum a vector, not an element, which is few registers, and threads meet only once, at the end of the row (M. Milakov
and N. Gimelshein, arXiv 1805.02867).
"""

import triton
import triton.language as tl

#: Where the running maximum starts: finite, so that subtracting it from minus infinity is no NaN.
LOWEST = tl.constexpr(-3.4028234663852886e38)


@triton.jit
def _tile(first, WIDTH: tl.constexpr, VECTORS: tl.constexpr):
    return first + tl.arange(0, VECTORS)[:, None] * WIDTH + tl.arange(0, WIDTH)[None, :]


@triton.jit(do_not_specialize=["ignore_index"])
def cross_entropy_kernel(
    logits, labels, weights, losses, gradient, columns, logits_stride, gradient_stride, weights_stride,
    ignore_index, smoothing, z_loss, SMOOTHING: tl.constexpr, WIDTH: tl.constexpr, VECTORS: tl.constexpr,
):  # fmt: skip
    """One row a program: its loss, and its gradient unless ``gradient`` is ``None``; both times the row's weight.

    The first pass finds maximum and sum and asks the cache to keep the row; the second finds it there, last tile first.
    ``gradient`` may be ``logits``: every thread writes what it alone has read. Rows that are ignored are not read.
    A label outside the row makes loss and gradient NaN. ``weights`` may be ``None``, for ones.
    """
    row = tl.program_id(0).to(tl.int64)
    source = logits + row * logits_stride
    tile_size: tl.constexpr = WIDTH * VECTORS
    label = tl.load(labels + row).to(tl.int64)
    ignored = label == ignore_index
    known = (label >= 0) & (label < columns)
    readable = tl.where(ignored, 0, columns)
    weight = tl.full([], 1.0, tl.float32)
    if weights is not None:
        weight = tl.load(weights + row * weights_stride)

    highest = tl.full([VECTORS], LOWEST, tl.float32)
    total = tl.zeros([VECTORS], tl.float32)
    plain = tl.zeros([VECTORS], tl.float32)
    for first in range(0, readable, tile_size):
        column = _tile(first, WIDTH, VECTORS)
        inside = column < readable
        value = tl.load(source + column, mask=inside, other=float("-inf"), eviction_policy="evict_last").to(tl.float32)
        higher = tl.maximum(highest, tl.max(value, 1))
        total = total * tl.exp(highest - higher) + tl.sum(tl.exp(value - higher[:, None]), 1)
        highest = higher
        if SMOOTHING:
            plain += tl.sum(tl.where(inside, value, 0.0), 1)

    target = tl.load(source + label, mask=known, other=float("nan")).to(tl.float32)
    maximum = tl.max(highest, 0)
    total_of_row = tl.sum(total * tl.exp(highest - maximum), 0)
    log_total = tl.log(total_of_row)
    log_partition = maximum + log_total
    loss = (maximum - target) + log_total
    if SMOOTHING:
        loss = (1.0 - smoothing) * loss + smoothing * ((maximum - tl.sum(plain, 0) / columns) + log_total)
    loss += tl.where(z_loss != 0.0, z_loss * log_partition * log_partition, 0.0)
    # The weight is infinite when all rows are ignored: their mean is NaN, as PyTorch's.
    tl.store(losses + row, tl.where(ignored, 0.0, loss) * weight)

    if gradient is not None:
        weight = tl.where(ignored, 0.0, tl.where(known, weight, float("nan")))
        tilt = tl.where(z_loss != 0.0, 1.0 + 2.0 * z_loss * log_partition, 1.0)
        factor = tl.where(ignored, 0.0, weight * tilt / total_of_row)
        at_all = weight * smoothing / columns
        at_label = weight * (1.0 - smoothing)
        position = tl.where(known, label, -1).to(tl.int32)
        tiles = (columns + tile_size - 1) // tile_size
        for tile in range(tiles):
            column = _tile((tiles - 1 - tile) * tile_size, WIDTH, VECTORS)
            inside = column < readable
            value = tl.load(source + column, mask=inside, other=float("-inf"), eviction_policy="evict_first")
            slope = tl.exp(value.to(tl.float32) - maximum) * factor
            if SMOOTHING:
                slope -= at_all
            slope = tl.where(column == position, slope - at_label, slope)
            out = gradient + row * gradient_stride + column
            tl.store(out, slope.to(gradient.dtype.element_ty), mask=column < columns, eviction_policy="evict_first")


@triton.jit(do_not_specialize=["rows", "ignore_index"])
def mean_weight_kernel(labels, weight, rows, ignore_index, BLOCK: tl.constexpr):
    """One program: the reciprocal of how many labels are not ignored; infinite when all are."""
    lanes = tl.arange(0, BLOCK)
    count = tl.zeros([BLOCK], tl.int64)
    for first in range(0, rows, BLOCK):
        inside = first + lanes < rows
        label = tl.load(labels + first + lanes, mask=inside, other=0)
        count += (inside & (label != ignore_index)).to(tl.int64)
    tl.store(weight, 1.0 / tl.sum(count, 0).to(tl.float32))


@triton.jit(do_not_specialize=["tiles"])
def scale_kernel(
    source, factors, result, columns, tiles, factors_stride,
    SKIP_ONES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One tile of a row a program: ``source`` times the row's factor, in fp32.

    With ``SKIP_ONES``, when ``result`` is ``source``, rows whose factor is one are neither read nor written.
    """
    program = tl.program_id(0)
    row = (program // tiles).to(tl.int64)
    column = (program % tiles).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    factor = tl.load(factors + row * factors_stride).to(tl.float32)
    touched = column < columns
    if SKIP_ONES:
        touched = column < tl.where(factor == 1.0, 0, columns)
    value = tl.load(source + row * columns + column, mask=touched, other=0.0).to(tl.float32) * factor
    tl.store(result + row * columns + column, value.to(result.dtype.element_ty), mask=touched)
