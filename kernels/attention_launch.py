"""Launches of the attention kernels: tiles, programs, and what the kernels are told of strides."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import operator, support
from .dropout import threshold_and_scale
from .support import launch_options, on_device

#: Widest head that the kernels take.
MAX_DIM = 64

#: Tiles whose diagonals are summed up at once.
TILES = 32

_TRITON_DTYPES = frozenset({torch.float32, torch.bfloat16, torch.float16})


class Form(NamedTuple):
    """How a program is laid out.

    Attributes:
        rows: queries of a tile, a power of two, at least 16.
        columns: keys of a tile, a power of two, at least 16.
        warps: of a program.
        stages: tiles that are loaded ahead, and the one at work.
    """

    rows: int
    columns: int
    warps: int
    stages: int


class Position(NamedTuple):
    """The position bias as the kernels read it.

    Attributes:
        by_distance: fp32 [heads, 2 span + 1], of ``key - query`` from -span to span.
        span: distance from which on the bias is constant.
    """

    by_distance: Tensor
    span: int


class Problem(NamedTuple):
    """The inputs of the forward pass.

    Attributes:
        query: [B, H, Q, D], elements of a row side by side, as in all.
        key: [B, H, K, D].
        value: [B, H, K, D].
        position: bias, if any.
        mask: [B or 1, H or 1, Q or 1, K or 1], boolean or to be added, if any.
        seed: of dropout, if any.
        dropout: probability.
        causal: whether only keys up to a query's own position take part.
        offset: position of the first query among the keys.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    position: Position | None
    mask: Tensor | None
    seed: Tensor | None
    dropout: float
    causal: bool
    offset: int


def takes_triton(query: Tensor, *dtypes: torch.dtype | None) -> bool:
    """Whether the kernels run for such queries, with other tensors of these types (booleans are masks)."""
    known = all(dtype is None or dtype in _TRITON_DTYPES or dtype == torch.bool for dtype in (query.dtype, *dtypes))
    known = known and (query.dtype != torch.bfloat16 or support.multiplies_bf16())
    return known and 0 < query.shape[-1] <= MAX_DIM and operator.use_triton(query)


def forward_form(dtype: torch.dtype) -> Form:
    """Tiles of the forward pass: what fits in registers, as compiled for an A100, an Orin and an H100."""
    return Form(32, 32, 4, 2) if dtype == torch.float32 else Form(64, 32, 4, 3)


def query_form(dtype: torch.dtype) -> Form:
    """Tiles of the backward pass of queries, likewise."""
    return Form(16, 32, 4, 2) if dtype == torch.float32 else Form(32, 64, 4, 3)


def key_form(dtype: torch.dtype) -> Form:
    """Tiles of the backward pass of keys and values, likewise; they are square, for the sums along diagonals."""
    side = 16 if dtype == torch.float32 else 32
    return Form(side, side, 4, 2)


def launch_forward(problem: Problem) -> tuple[Tensor, Tensor]:
    """Averages [B, Q, H, D] and statistics [2, B, H, Q]: a row's maximum, and the logarithm of its sum."""
    from .attention_kernels import attention_kernel

    query, key = problem.query, problem.key
    batches, heads, queries, dim = query.shape
    out = query.new_empty(batches, queries, heads, dim)
    statistics = query.new_empty(2, batches, heads, queries, dtype=torch.float32)
    if not key.numel() or not query.numel():
        return out.zero_(), statistics.zero_()
    form = forward_form(query.dtype)
    mask, mask_strides = _mask(problem)
    with on_device(query.device):
        attention_kernel[(math.ceil(queries / form.rows), batches * heads)](
            query, key, problem.value, _bias(problem), mask, problem.seed, out, statistics,
            *_counts(problem), *_strides(query, key, problem.value), *mask_strides,
            **constants_of(form, dim, causal=problem.causal, mask_rows=_has_rows(problem.mask), precision=_precision()),
            **options_of(form),
        )  # fmt: skip
    return out, statistics


def launch_backward(
    problem: Problem, grad: Tensor, out: Tensor, statistics: Tensor, buckets: Tensor | None, grad_table: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values, [B, H, L, D] with heads side by side in memory.

    Args:
        problem: of the forward pass.
        grad: [B, Q, H, D], of the averages.
        out: averages, contiguous.
        statistics: of the forward pass.
        buckets: int32 [2 span + 1], of distances.
        grad_table: [number of buckets, heads], contiguous, is filled; ``None`` to do without.
    """
    query, key, value = problem.query, problem.key, problem.value
    grads = [one.new_empty(one.transpose(1, 2).shape) for one in (query, key, value)]
    if not key.numel() or not query.numel():
        for one in (*grads, grad_table):
            if one is not None:
                one.zero_()
        return _heads_first(grads)
    grad = rows_of(grad.transpose(1, 2)).transpose(1, 2)
    means = torch.empty_like(statistics[0])
    with on_device(query.device):
        _launch_query(problem, grad, out, statistics, means, grads[0])
        _launch_key(problem, grad, statistics, means, grads[1], grads[2], buckets, grad_table)
    return _heads_first(grads)


def _launch_query(
    problem: Problem, grad: Tensor, out: Tensor, statistics: Tensor, means: Tensor, grad_query: Tensor
) -> None:
    from .attention_kernels import attention_query_kernel

    query, key, value = problem.query, problem.key, problem.value
    batches, heads, queries, dim = query.shape
    form = query_form(query.dtype)
    mask, mask_strides = _mask(problem)
    attention_query_kernel[(math.ceil(queries / form.rows), batches * heads)](
        query, key, value, _bias(problem), mask, problem.seed, out, statistics, grad, means, grad_query,
        *_counts(problem), *_strides(query, key, value, grad.transpose(1, 2)), *mask_strides,
        **constants_of(form, dim, causal=problem.causal, mask_rows=_has_rows(problem.mask), precision=_precision()),
        **options_of(form),
    )  # fmt: skip


def _launch_key(
    problem: Problem, grad: Tensor, statistics: Tensor, means: Tensor, grad_key: Tensor, grad_value: Tensor,
    buckets: Tensor | None, grad_table: Tensor | None,
) -> None:  # fmt: skip
    from .attention_kernels import attention_key_kernel, bucket_sums_kernel

    query, key, value = problem.query, problem.key, problem.value
    batches, heads, queries, dim = query.shape
    form = key_form(query.dtype)
    tiles = (math.ceil(key.shape[2] / form.columns), math.ceil(queries / form.rows))
    diagonals = None
    if grad_table is not None:
        diagonals = statistics.new_empty(batches, heads, tiles[0], tiles[1] + 1, form.columns)
    mask, mask_strides = _mask(problem)
    attention_key_kernel[(tiles[0], batches * heads)](
        query, key, value, _bias(problem), mask, problem.seed, statistics, grad, means, grad_key, grad_value, diagonals,
        *_counts(problem), *_strides(query, key, value, grad.transpose(1, 2)), *mask_strides,
        **constants_of(form, dim, causal=problem.causal, mask_rows=_has_rows(problem.mask), precision=_precision()),
        **options_of(form),
    )  # fmt: skip
    if diagonals is not None and grad_table is not None:
        assert problem.position is not None
        summed = diagonals.sum(0) if batches > 1 else diagonals[0]
        bucket_sums_kernel[grad_table.shape](
            summed, buckets, grad_table, heads, *tiles, problem.offset, problem.position.span,
            SIDE=form.columns, TILES=TILES, **launch_options(),
        )  # fmt: skip


def rows_of(tensor: Tensor) -> Tensor:
    """A tensor [B, H, L, D] with contiguous rows, each head of which spans fewer than 2³¹ elements."""
    whole = tensor.shape[2] * tensor.stride(2) < 2**31
    return tensor if whole and (tensor.stride(3) == 1 or tensor.shape[3] == 1) else tensor.contiguous()


def _heads_first(grads: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    query, key, value = (one.transpose(1, 2) for one in grads)
    return query, key, value


def _counts(problem: Problem) -> tuple[Any, ...]:
    """What the kernels are told of sizes and dropout."""
    _, heads, queries, _ = problem.query.shape
    span = problem.position.span if problem.position else 0
    return heads, queries, problem.key.shape[2], problem.offset, span, *threshold_and_scale(problem.dropout)


def _bias(problem: Problem) -> Tensor | None:
    return problem.position.by_distance if problem.position else None


def _strides(*tensors: Tensor) -> list[int]:
    """Strides of batch, head and row of each."""
    return [tensor.stride(dim) for tensor in tensors for dim in range(3)]


def _mask(problem: Problem) -> tuple[Tensor | None, list[int]]:
    """The mask, booleans as bytes, and its strides; zero where one serves all."""
    mask = problem.mask
    if mask is None:
        return None, [0] * 4
    if sum(size * stride for size, stride in zip(mask.shape[2:], mask.stride()[2:])) >= 2**31:
        mask = mask.contiguous()
    strides = [0 if size == 1 else stride for size, stride in zip(mask.shape, mask.stride())]
    return mask.view(torch.uint8) if mask.dtype == torch.bool else mask, strides


def _has_rows(mask: Tensor | None) -> bool:
    """Whether queries have masks of their own."""
    return mask is not None and mask.shape[2] > 1 and mask.stride(2) != 0


def _precision() -> str:
    """How fp32 is multiplied: by three products of TF32, or by one where PyTorch's own products may be."""
    return "tf32x3" if torch.get_float32_matmul_precision() == "highest" else "tf32"


def options_of(form: Form) -> dict[str, Any]:
    """Options of a launch."""
    return launch_options() | {"num_warps": form.warps, "num_stages": form.stages}


def constants_of(
    form: Form, dim: int, *, causal: bool = False, mask_rows: bool = False, precision: str = "tf32x3"
) -> dict[str, Any]:
    """The constants of a launch."""
    return {
        "CAUSAL": causal, "MASK_ROWS": mask_rows, "DIM": dim, "WIDTH": max(16, 1 << (dim - 1).bit_length()),
        "ROWS": form.rows, "COLUMNS": form.columns, "PRECISION": precision,
    }  # fmt: skip
