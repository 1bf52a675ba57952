# ruff: noqa: N803
# mypy: disable-error-code=no-untyped-def
"""Triton kernels of attention with T5's position bias: scores and probabilities live in registers, tile by tile.

A tile has ``ROWS`` queries and ``COLUMNS`` keys. T5's bias depends on ``key - query`` alone, and beyond ``span`` either
way it is constant: a head's is ``2 span + 1`` numbers, from which a tile is gathered, and which stay in the L1 cache.
The online softmax is that of M. Milakov and N. Gimelshein, arXiv 1805.02867, its use in attention and the backward pass
by tiles that of T. Dao, arXiv 2307.08691.

A row's logsumexp is kept in two parts, its maximum and the logarithm of its sum: where a mask adds the most negative
finite number to a whole row, their sum would lose the latter.
"""

import triton
import triton.language as tl

from .dropout_kernels import dropout_factors

MINUS_INFINITY = tl.constexpr(float("-inf"))


@triton.jit
def _load(pointer, row, rows, stride, DIM: tl.constexpr, WIDTH: tl.constexpr):
    """Rows of ``DIM`` elements side by side, padded with zeros: [rows of the tile, WIDTH]."""
    lane = tl.arange(0, WIDTH)
    inside = (row < rows)[:, None]
    if DIM < WIDTH:
        inside = inside & (lane < DIM)[None, :]
    return tl.load(pointer + row[:, None] * stride + lane[None, :], mask=inside, other=0.0)


@triton.jit
def _store(pointer, value, row, rows, stride, DIM: tl.constexpr, WIDTH: tl.constexpr):
    """The opposite of :func:`_load`."""
    lane = tl.arange(0, WIDTH)
    inside = (row < rows)[:, None]
    if DIM < WIDTH:
        inside = inside & (lane < DIM)[None, :]
    value = value.to(pointer.dtype.element_ty)
    tl.store(pointer + row[:, None] * stride + lane[None, :], value, mask=inside)


@triton.jit
def _scores(
    product, bias, mask, row, column, queries, keys, offset, span, mask_q, mask_k,
    CAUSAL: tl.constexpr, MASK_ROWS: tl.constexpr,
):  # fmt: skip
    """Products of a tile plus bias and mask; minus infinity outside and where nothing takes part.

    ``row`` and ``column`` are two-dimensional, either along either axis. ``bias`` points at distance zero of this head,
    ``mask`` at this batch and head; both may be ``None``. Without ``MASK_ROWS`` all queries have the same mask.
    """
    distance = column - row - offset
    inside = (row < queries) & (column < keys)
    score = product
    if bias is not None:
        score += tl.load(bias + tl.minimum(tl.maximum(distance, -span), span))
    if mask is not None:
        if MASK_ROWS:
            added = tl.load(mask + (row * mask_q + column * mask_k), mask=inside, other=0)
        else:
            added = tl.load(mask + column * mask_k, mask=column < keys, other=0)
        if mask.dtype.element_ty.is_int():
            inside = inside & (added != 0)
        else:
            score += added.to(tl.float32)
    if CAUSAL:
        inside = inside & (distance <= 0)
    return tl.where(inside, score, MINUS_INFINITY)


@triton.jit
def _factors(seed, line, row, first, queries, keys, threshold, scale, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """What dropout multiplies a tile's probabilities by; ``line`` counts the heads of all batches."""
    vectors = (keys + 7) // 8
    number = (line.to(tl.int64) * queries + row.to(tl.int64)) * vectors
    vector = number[:, None] + (first // 8 + tl.arange(0, COLUMNS // 8))[None, :]
    return tl.reshape(dropout_factors(seed, vector, threshold, scale, 8), [ROWS, COLUMNS])


@triton.jit
def _diagonals(slope, SIDE: tl.constexpr):
    """Sums along the diagonals of a square tile of [keys, queries]: those before ``key = query``, and from there on.

    Column ``i`` is turned up by ``i``, so that a row holds two diagonals: one that begins in the first column, and
    after its end the one that comes in from below, which is ``SIDE`` before the former.
    """
    turn = tl.arange(0, SIDE)[:, None] + tl.arange(0, SIDE)[None, :]
    turned = tl.gather(slope, turn % SIDE, 0)
    before = tl.sum(tl.where(turn >= SIDE, turned, 0.0), 1)
    return before, tl.sum(tl.where(turn < SIDE, turned, 0.0), 1)


@triton.jit(do_not_specialize=["heads", "queries", "keys", "offset", "span", "threshold"])
def attention_kernel(
    query, key, value, bias, mask, seed, out, statistics, heads, queries, keys, offset, span, threshold, scale,
    query_b, query_h, query_r, key_b, key_h, key_r, value_b, value_h, value_r, mask_b, mask_h, mask_q, mask_k,
    CAUSAL: tl.constexpr, MASK_ROWS: tl.constexpr, DIM: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Averages of values for ``ROWS`` queries of a head, and the two parts of their logsumexp.

    ``bias`` [heads, 2 span + 1], ``mask`` and ``seed`` may be ``None``; ``out`` is [batches, queries, heads, DIM] and
    ``statistics`` [2, batches, heads, queries], both contiguous.
    """
    line = tl.program_id(1)
    batch, head = (line // heads).to(tl.int64), (line % heads).to(tl.int64)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    key += batch * key_b + head * key_h
    value += batch * value_b + head * value_h
    if bias is not None:
        bias += head * (2 * span + 1) + span
    if mask is not None:
        mask += batch * mask_b + head * mask_h
    if seed is not None:
        seed = tl.load(seed)
    asked = _load(query + batch * query_b + head * query_h, row, queries, query_r, DIM, WIDTH)

    highest = tl.full([ROWS], MINUS_INFINITY, tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    mixed = tl.zeros([ROWS, WIDTH], tl.float32)
    end = keys
    if CAUSAL:
        end = tl.minimum(keys, (tl.program_id(0) + 1) * ROWS + offset)
    for first in range(0, end, COLUMNS):
        column = first + tl.arange(0, COLUMNS)
        keys_here = _load(key, column, keys, key_r, DIM, WIDTH)
        score = _scores(
            tl.dot(asked, tl.trans(keys_here), input_precision=PRECISION), bias, mask, row[:, None], column[None, :],
            queries, keys, offset, span, mask_q, mask_k, CAUSAL, MASK_ROWS,
        )  # fmt: skip
        higher = tl.maximum(highest, tl.max(score, 1))
        finite = tl.where(higher == MINUS_INFINITY, 0.0, higher)
        power = tl.exp(score - finite[:, None])
        shrink = tl.exp(highest - finite)
        total = total * shrink + tl.sum(power, 1)
        if seed is not None:
            power *= _factors(seed, line, row, first, queries, keys, threshold, scale, ROWS, COLUMNS)
        values = _load(value, column, keys, value_r, DIM, WIDTH)
        mixed = tl.dot(power.to(values.dtype), values, mixed * shrink[:, None], input_precision=PRECISION)
        highest = higher

    total = tl.where(total == 0.0, 1.0, total)
    width = heads.to(tl.int64) * DIM
    out += batch * queries * width + head * DIM
    _store(out, mixed / total[:, None], row, queries, width, DIM, WIDTH)
    statistics += line.to(tl.int64) * queries
    tl.store(statistics + row, tl.where(highest == MINUS_INFINITY, 0.0, highest), mask=row < queries)
    tl.store(statistics + tl.num_programs(1).to(tl.int64) * queries + row, tl.log(total), mask=row < queries)


@triton.jit(do_not_specialize=["heads", "queries", "keys", "offset", "span", "threshold"])
def attention_query_kernel(
    query, key, value, bias, mask, seed, out, statistics, grad, means, grad_query, heads, queries, keys, offset, span,
    threshold, scale, query_b, query_h, query_r, key_b, key_h, key_r, value_b, value_h, value_r, grad_b, grad_h, grad_r,
    mask_b, mask_h, mask_q, mask_k,
    CAUSAL: tl.constexpr, MASK_ROWS: tl.constexpr, DIM: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradient of ``ROWS`` queries of a head, as ``out`` is laid out.

    It also writes ``means`` [batches, heads, queries], the average slope of each row's probabilities, which the kernel
    of keys and values needs as well.
    """
    line = tl.program_id(1)
    batch, head = (line // heads).to(tl.int64), (line % heads).to(tl.int64)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    width = heads.to(tl.int64) * DIM
    key += batch * key_b + head * key_h
    value += batch * value_b + head * value_h
    if bias is not None:
        bias += head * (2 * span + 1) + span
    if mask is not None:
        mask += batch * mask_b + head * mask_h
    if seed is not None:
        seed = tl.load(seed)
    asked = _load(query + batch * query_b + head * query_h, row, queries, query_r, DIM, WIDTH)
    above = _load(grad + batch * grad_b + head * grad_h, row, queries, grad_r, DIM, WIDTH)
    made = _load(out + batch * queries * width + head * DIM, row, queries, width, DIM, WIDTH)
    mean = tl.sum(above.to(tl.float32) * made.to(tl.float32), 1)
    place = line.to(tl.int64) * queries + row
    tl.store(means + place, mean, mask=row < queries)
    highest = tl.load(statistics + place, mask=row < queries, other=0.0)
    log_total = tl.load(statistics + tl.num_programs(1).to(tl.int64) * queries + place, mask=row < queries, other=0.0)

    slope_of_query = tl.zeros([ROWS, WIDTH], tl.float32)
    end = keys
    if CAUSAL:
        end = tl.minimum(keys, (tl.program_id(0) + 1) * ROWS + offset)
    for first in range(0, end, COLUMNS):
        column = first + tl.arange(0, COLUMNS)
        keys_here = _load(key, column, keys, key_r, DIM, WIDTH)
        score = _scores(
            tl.dot(asked, tl.trans(keys_here), input_precision=PRECISION), bias, mask, row[:, None], column[None, :],
            queries, keys, offset, span, mask_q, mask_k, CAUSAL, MASK_ROWS,
        )  # fmt: skip
        probability = tl.exp((score - highest[:, None]) - log_total[:, None])
        values = _load(value, column, keys, value_r, DIM, WIDTH)
        slope = tl.dot(above, tl.trans(values), input_precision=PRECISION)
        if seed is not None:
            slope *= _factors(seed, line, row, first, queries, keys, threshold, scale, ROWS, COLUMNS)
        slope = probability * (slope - mean[:, None])
        slope_of_query = tl.dot(slope.to(keys_here.dtype), keys_here, slope_of_query, input_precision=PRECISION)
    _store(grad_query + batch * queries * width + head * DIM, slope_of_query, row, queries, width, DIM, WIDTH)


@triton.jit(do_not_specialize=["heads", "queries", "keys", "offset", "span", "threshold"])
def attention_key_kernel(
    query, key, value, bias, mask, seed, statistics, grad, means, grad_key, grad_value, diagonals, heads, queries, keys,
    offset, span, threshold, scale, query_b, query_h, query_r, key_b, key_h, key_r, value_b, value_h, value_r,
    grad_b, grad_h, grad_r, mask_b, mask_h, mask_q, mask_k,
    CAUSAL: tl.constexpr, MASK_ROWS: tl.constexpr, DIM: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of ``COLUMNS`` keys and values of a head, as ``out`` is laid out, and what the bias's is made of.

    Tiles lie the other way here: keys and values, which stay, are then shared out among the warps.

    ``diagonals`` is [batches, heads, tiles of keys, tiles of queries + 1, COLUMNS], ``None`` to do without: sums of the
    scores' gradient along diagonals, from the first element of each tile on, and from one more tile after the last
    query. Half of a tile's diagonals go on in the next tile, which is why tiles must be square.
    """
    line = tl.program_id(1)
    batch, head = (line // heads).to(tl.int64), (line % heads).to(tl.int64)
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    width = heads.to(tl.int64) * DIM
    query += batch * query_b + head * query_h
    grad += batch * grad_b + head * grad_h
    statistics += line.to(tl.int64) * queries
    means += line.to(tl.int64) * queries
    if bias is not None:
        bias += head * (2 * span + 1) + span
    if mask is not None:
        mask += batch * mask_b + head * mask_h
    if seed is not None:
        seed = tl.load(seed)
    keys_here = _load(key + batch * key_b + head * key_h, column, keys, key_r, DIM, WIDTH)
    values = _load(value + batch * value_b + head * value_h, column, keys, value_r, DIM, WIDTH)
    tiles = (queries + ROWS - 1) // ROWS
    if diagonals is not None:
        place = (line.to(tl.int64) * tl.num_programs(0) + tl.program_id(0)) * (tiles + 1) * COLUMNS
        diagonals += place + tl.arange(0, COLUMNS)
        carried = tl.zeros([COLUMNS], tl.float32)

    slope_of_key = tl.zeros([COLUMNS, WIDTH], tl.float32)
    slope_of_value = tl.zeros([COLUMNS, WIDTH], tl.float32)
    for tile in range(tiles):
        row = tile * ROWS + tl.arange(0, ROWS)
        asked = _load(query, row, queries, query_r, DIM, WIDTH)
        score = _scores(
            tl.dot(keys_here, tl.trans(asked), input_precision=PRECISION), bias, mask, row[None, :], column[:, None],
            queries, keys, offset, span, mask_q, mask_k, CAUSAL, MASK_ROWS,
        )  # fmt: skip
        highest = tl.load(statistics + row, mask=row < queries, other=0.0)
        log_total = tl.load(statistics + tl.num_programs(1).to(tl.int64) * queries + row, mask=row < queries, other=0.0)
        mean = tl.load(means + row, mask=row < queries, other=0.0)
        probability = tl.exp((score - highest[None, :]) - log_total[None, :])
        above = _load(grad, row, queries, grad_r, DIM, WIDTH)
        slope = tl.dot(values, tl.trans(above), input_precision=PRECISION)
        kept = probability
        if seed is not None:
            first = tl.program_id(0) * COLUMNS
            factors = tl.trans(_factors(seed, line, row, first, queries, keys, threshold, scale, ROWS, COLUMNS))
            kept *= factors
            slope *= factors
        slope_of_value = tl.dot(kept.to(above.dtype), above, slope_of_value, input_precision=PRECISION)
        slope = probability * (slope - mean[None, :])
        slope_of_key = tl.dot(slope.to(asked.dtype), asked, slope_of_key, input_precision=PRECISION)
        if diagonals is not None:
            before, after = _diagonals(slope, COLUMNS)
            tl.store(diagonals + tile * COLUMNS, carried + after)
            carried = before
    if diagonals is not None:
        tl.store(diagonals + tiles * COLUMNS, carried)
    _store(grad_key + batch * keys * width + head * DIM, slope_of_key, column, keys, width, DIM, WIDTH)
    _store(grad_value + batch * keys * width + head * DIM, slope_of_value, column, keys, width, DIM, WIDTH)


@triton.jit(do_not_specialize=["heads", "key_tiles", "query_tiles", "offset", "span"])
def bucket_sums_kernel(
    diagonals, buckets, grad_table, heads, key_tiles, query_tiles, offset, span, SIDE: tl.constexpr, TILES: tl.constexpr
):  # fmt: skip
    """Gradient of one bucket of one head: the sum of the diagonals whose distance is in the bucket, in a fixed order.

    ``diagonals`` is [heads, key_tiles, query_tiles + 1, SIDE], ``buckets`` [2 span + 1], and ``grad_table`` [number of
    buckets, heads]; all contiguous. ``TILES`` are taken at once.
    """
    bucket, head = tl.program_id(0), tl.program_id(1)
    lane = tl.arange(0, SIDE)[None, :]
    total = tl.zeros([TILES, SIDE], tl.float32)
    many = key_tiles * (query_tiles + 1)
    diagonals += head.to(tl.int64) * many * SIDE
    for first in range(0, many, TILES):
        tile = first + tl.arange(0, TILES)[:, None]
        distance = (tile // (query_tiles + 1) - tile % (query_tiles + 1)) * SIDE + lane - offset
        found = tl.load(buckets + span + tl.minimum(tl.maximum(distance, -span), span))
        wanted = (found == bucket) & (tile < many)
        total += tl.load(diagonals + tile * SIDE + lane, mask=wanted, other=0.0)
    tl.store(grad_table + bucket * heads + head, tl.sum(tl.sum(total, 1), 0).to(grad_table.dtype.element_ty))
