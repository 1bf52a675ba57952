"""Attention in the flash style with T5's position bias, mask and dropout: scores never reach memory.

What lies between T5's two products, :mod:`.softmax` does in one pass; but it reads scores and writes probabilities, and
their products with keys and values write and read them again. Here a program takes a tile of queries past all keys.
Bytes are those of queries, keys, values, the result and eight bytes a row; scores and probabilities, which are
``keys / head width`` times as large as the queries, cost none. The position bias is not made either: its table of 32
numbers a head is read, see :mod:`.attention_position`.

The backward pass computes each tile again, in one kernel that goes along the keys, for the gradient of the queries, and
one that goes along the queries, for those of keys, values and the table. The latter leaves sums along diagonals, tile
by tile, since the bias depends on ``key - query`` alone; a last kernel adds them up in a fixed order.

A row's logsumexp is kept in two parts, see :mod:`.attention_kernels`. fp32 products are made of three TF32 ones, which
is as exact as fp32 and runs on matrix units, or of one where PyTorch's own may.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from ..profiler.costs import Cost, register
from ..profiler.costs.cost import bytes_read, bytes_written, matrix_unit, tensor
from ..profiler.ops import OpRecord
from . import attention_torch
from .attention_launch import Position, Problem, launch_backward, launch_forward, rows_of, takes_triton
from .attention_position import buckets_by_distance, by_distance, position_bias, table_gradient
from .dropout import seed_for
from .operator import define, differentiate, refuse_second_derivative

#: Products that a pass needs: scores and averages; then scores again and four gradients.
FORWARD_PRODUCTS, BACKWARD_PRODUCTS = 2, 5


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    table: Tensor | None = None,
    bidirectional: bool = True,
    max_distance: int = 128,
    causal: bool = False,
    offset: int = 0,
    mask: Tensor | None = None,
    dropout: float = 0.0,
    seed: Tensor | None = None,
) -> Tensor:
    """T5's attention: ``dropout(softmax(query keyᵀ + position bias + mask)) value``. Scores are not scaled.

    Arithmetic between the products is fp32 for half precision, whether autocast is on or not. A row of which the mask
    leaves nothing, or that is minus infinity throughout, becomes zeros; the most negative finite number is no minus
    infinity. The Triton kernels take heads up to 64 wide, in fp32, bf16 and fp16; anything else takes torch's path.
    They and torch's path draw different elements from a seed.

    Args:
        query: [B, H, Q, D], any strides; it is copied if its rows are not contiguous, as are the others.
        key: [B, H, K, D], of the same type.
        value: [B, H, K, D], of the same type.
        table: weight of T5's relative attention bias, [number of buckets, H], any floating type; ``None`` for no bias.
        bidirectional: whether keys after a query have buckets of their own, as in an encoder.
        max_distance: from which on all is one bucket.
        causal: whether only keys up to a query's own position take part.
        offset: position of the first query among the keys, for the bias and for ``causal``.
        mask: [B or 1, H or 1, Q or 1, K or 1], boolean (True takes part) or to be added; it has no gradient.
        dropout: probability with which an element is dropped, 0 to 1; the others are divided by its complement.
        seed: int64 of one element, on the device of the queries; drawn from torch's generator when ``None``.

    Returns:
        [B, Q, H, D], contiguous, which is how the output projection reads it.

    Raises:
        UsageError: an argument makes no sense.
    """
    _check(query, key, value, table, mask, max_distance, bidirectional)
    seed = seed_for(dropout, seed, query.device)
    return attention_op(
        query, key, value, table, mask, seed, float(dropout), causal, offset, bidirectional, max_distance
    )[0]  # fmt: skip


def _check(
    query: Tensor, key: Tensor, value: Tensor, table: Tensor | None, mask: Tensor | None, max_distance: int,
    bidirectional: bool,
) -> None:  # fmt: skip
    if query.dim() != 4 or not query.is_floating_point():
        raise UsageError(f"queries are floating numbers [B, H, Q, D], not {query.dtype} {tuple(query.shape)}")
    fits = key.dim() == 4 and key.shape[:2] == query.shape[:2] and key.shape[3] == query.shape[3]
    if not fits or value.shape != key.shape:
        raise UsageError(
            f"keys {tuple(key.shape)} and values {tuple(value.shape)} do not fit queries {tuple(query.shape)}"
        )
    for name, other in (("keys", key), ("values", value)):
        if other.dtype != query.dtype or other.device != query.device:
            raise UsageError(f"{name} are {other.dtype} on {other.device}, queries {query.dtype} on {query.device}")
    if table is not None:
        _check_table(query, table, max_distance, bidirectional)
    if mask is not None:
        _check_mask(query, key, mask)


def _check_table(query: Tensor, table: Tensor, max_distance: int, bidirectional: bool) -> None:
    if table.dim() != 2 or table.shape[1] != query.shape[1] or not table.is_floating_point():
        raise UsageError(
            f"a table of {query.shape[1]} heads is floating numbers [buckets, {query.shape[1]}], not {table.dtype} "
            f"{tuple(table.shape)}"
        )
    if table.device != query.device:
        raise UsageError(f"the table is on {table.device}, the queries are on {query.device}")
    least = 4 if bidirectional else 2
    exact = table.shape[0] // least
    if not exact or max_distance <= exact:
        raise UsageError(
            f"{table.shape[0]} buckets and a largest distance of {max_distance} leave no room: there must be {least} "
            "buckets or more, and a distance beyond those that have one of their own"
        )


def _check_mask(query: Tensor, key: Tensor, mask: Tensor) -> None:
    shape = (*query.shape[:3], key.shape[2])
    if mask.dim() != 4 or any(size not in (1, full) for size, full in zip(mask.shape, shape)):
        raise UsageError(f"a mask of shape {tuple(mask.shape)} does not fit scores {shape}")
    if not mask.is_floating_point() and mask.dtype != torch.bool:
        raise UsageError(f"a mask is boolean, or floating numbers to be added, not {mask.dtype}")
    if mask.device != query.device:
        raise UsageError(f"the mask is on {mask.device}, the queries are on {query.device}")
    if mask.requires_grad:
        raise UsageError("a mask has no gradient; what is to be trained is a table")


# -------------------------------------------------------------------- the operators


def _forward(
    query: Tensor, key: Tensor, value: Tensor, table: Tensor | None, mask: Tensor | None, seed: Tensor | None,
    dropout: float, causal: bool, offset: int, bidirectional: bool, max_distance: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Averages, and what the backward pass needs of each row: nothing in torch's path."""
    buckets = _buckets(table, max_distance, bidirectional)
    if takes_triton(query, *_dtypes(table, mask)):
        return launch_forward(_problem(query, key, value, table, buckets, mask, seed, dropout, causal, offset))
    bias, mask = _added(query, key, table, buckets, mask, causal, offset)
    out = attention_torch.forward(query, key, value, bias, mask, seed, dropout)
    return out.transpose(1, 2).contiguous(), query.new_empty(0, dtype=torch.float32)


def _fake_forward(
    query: Tensor, key: Tensor, value: Tensor, table: Tensor | None, mask: Tensor | None, seed: Tensor | None,
    dropout: float, causal: bool, offset: int, bidirectional: bool, max_distance: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    batches, heads, queries, dim = query.shape
    shape = (2, batches, heads, queries) if takes_triton(query, *_dtypes(table, mask)) else (0,)
    return query.new_empty(batches, queries, heads, dim), query.new_empty(shape, dtype=torch.float32)


def _backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, table: Tensor | None, mask: Tensor | None,
    seed: Tensor | None, out: Tensor, statistics: Tensor, dropout: float, causal: bool, offset: int,
    bidirectional: bool, max_distance: int, wants_table: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of queries, keys, values and the table, the last one empty unless it is wanted.

    Those of [B, H, L, D] have the heads side by side in memory, as the projections have made them.
    """
    buckets = _buckets(table, max_distance, bidirectional)
    grad_table = query.new_empty(0) if table is None or not wants_table else table.new_empty(table.shape)
    if takes_triton(query, *_dtypes(table, mask)):
        problem = _problem(query, key, value, table, buckets, mask, seed, dropout, causal, offset)
        grads = launch_backward(problem, grad, out, statistics, buckets, grad_table if grad_table.numel() else None)
        return (*grads, grad_table)
    bias, mask = _added(query, key, table, buckets, mask, causal, offset)
    *some, slope = attention_torch.backward(grad.transpose(1, 2), query, key, value, bias, mask, seed, dropout)
    grad_query, grad_key, grad_value = (one.transpose(1, 2).contiguous().transpose(1, 2) for one in some)
    if table is not None and buckets is not None and wants_table:
        grad_table = table_gradient(slope.sum(0), buckets, table.shape[0], offset).to(table.dtype).contiguous()
    return grad_query, grad_key, grad_value, grad_table


def _fake_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, table: Tensor | None, mask: Tensor | None,
    seed: Tensor | None, out: Tensor, statistics: Tensor, dropout: float, causal: bool, offset: int,
    bidirectional: bool, max_distance: int, wants_table: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    some = (one.new_empty(one.transpose(1, 2).shape).transpose(1, 2) for one in (query, key, value))
    grad_query, grad_key, grad_value = some
    grad_table = query.new_empty(0) if table is None or not wants_table else table.new_empty(table.shape)
    return grad_query, grad_key, grad_value, grad_table


def _dtypes(*tensors: Tensor | None) -> list[torch.dtype | None]:
    return [None if one is None else one.dtype for one in tensors]


def _buckets(table: Tensor | None, max_distance: int, bidirectional: bool) -> Tensor | None:
    return None if table is None else buckets_by_distance(table.shape[0], max_distance, bidirectional, table.device)


def _problem(
    query: Tensor, key: Tensor, value: Tensor, table: Tensor | None, buckets: Tensor | None, mask: Tensor | None,
    seed: Tensor | None, dropout: float, causal: bool, offset: int,
) -> Problem:  # fmt: skip
    position = None
    if table is not None and buckets is not None:
        position = Position(by_distance(table, buckets), buckets.numel() // 2)
    return Problem(rows_of(query), rows_of(key), rows_of(value), position, mask, seed, dropout, causal, offset)


def _added(
    query: Tensor, key: Tensor, table: Tensor | None, buckets: Tensor | None, mask: Tensor | None, causal: bool,
    offset: int,
) -> tuple[Tensor | None, Tensor | None]:  # fmt: skip
    """Bias and mask as torch's path wants them."""
    queries, keys = query.shape[2], key.shape[2]
    if causal:
        mask = attention_torch.with_causal(mask, queries, keys, offset, query.device)
    if table is None or buckets is None:
        return None, mask
    return position_bias(table, buckets, queries, keys, offset), mask


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:6], *output)
    ctx.settings = inputs[6:]


def _differentiate(ctx: Any, grad: Tensor | None, of_statistics: None) -> tuple[Tensor | None, ...]:
    refuse_second_derivative("attention", "torch.nn.functional.scaled_dot_product_attention")
    if grad is None:
        return (None,) * 11
    wants_table = ctx.needs_input_grad[3]
    *grads, grad_table = attention_backward_op(grad, *ctx.saved_tensors, *ctx.settings, wants_table)
    return (*grads, grad_table if wants_table else None, *[None] * 7)


_INPUTS = "Tensor query, Tensor key, Tensor value, Tensor? table, Tensor? mask, Tensor? seed"
_SETTINGS = "float dropout, bool causal, SymInt offset, bool bidirectional, int max_distance"

attention_op = define(f"attention({_INPUTS}, {_SETTINGS}) -> (Tensor, Tensor)", _forward, _fake_forward)
attention_backward_op = define(
    f"attention_backward(Tensor grad, {_INPUTS}, Tensor out, Tensor statistics, {_SETTINGS}, bool wants_table) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _fake_backward,
)
differentiate("attention", _differentiate, _setup)


# -------------------------------------------------------------------- costs


def attention_cost(record: OpRecord) -> Cost:
    """Two products. Queries, keys, values, table and mask are read once; the result and the rows' statistics written.

    As with PyTorch's own attention, what a causal mask spares is not subtracted.
    """
    query, key = tensor(record, 0), tensor(record, 1)
    return _cost(record, FORWARD_PRODUCTS, query.shape, key.shape, query.dtype)


def attention_backward_cost(record: OpRecord) -> Cost:
    """Five products. Our two kernels compute the scores and the probabilities' gradient twice, which is not counted.

    Neither are the sums along diagonals, which are written and read again: at 512 keys, half as many bytes as queries.
    """
    query, key = tensor(record, 1), tensor(record, 2)
    return _cost(record, BACKWARD_PRODUCTS, query.shape, key.shape, query.dtype)


def _cost(record: OpRecord, products: int, query: tuple[int, ...], key: tuple[int, ...], dtype: str) -> Cost:
    batches, heads, queries, dim = query
    flops = 2.0 * products * batches * heads * queries * key[2] * dim
    return Cost(flops, bytes_read(record), bytes_written(record), matrix_unit(dtype), dtype)


def register_costs() -> None:
    """Teach the profiler to price attention and its gradient."""
    register("edgeroof::attention", attention_cost)
    register("edgeroof::attention_backward", attention_backward_cost)
