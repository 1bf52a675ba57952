"""The suite ``attention``: T5's attention whole, from queries, keys and values to what the output projection reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ..declarations import Suite
from .operator_problems import Operation, OperatorProblem, OperatorProvider, Sizes, Tensors, cut_problems
from .operator_providers import compiled_provider, eager_provider, not_built, our_provider, triton_provider
from .operators import operator_suite, refresh
from .softmax import BACKWARD_FLOPS, D_KV, FORWARD_FLOPS, attention_mask
from .t5_shapes import POSITION_BUCKETS, T5Size
from .tensors import Draw

MAX_DISTANCE = 128


def attention_suite(wanted: Sizes) -> Suite:
    """The suite for problems of given sizes."""
    suite = operator_suite(
        "attention",
        "scores, position bias and mask, softmax, dropout, averages of values",
        (
            eager_provider("transformers' eager attention: product, additions, softmax, dropout, product", _eager),
            compiled_provider(_eager, wanted),
            our_provider("attention", _ours),
            triton_provider(_ours),
            OperatorProvider(
                "edgeroof-softmax",
                "edgeroof's softmax between PyTorch's products",
                not_built,
                run=_softmax,
                register_costs=_register_softmax,
            ),
            OperatorProvider(
                "sdpa",
                "scaled_dot_product_attention with bias + mask, as transformers' sdpa attention",
                not_built,
                run=_sdpa,
            ),
        ),
        problems=cut_problems(_cut, wanted),
        defaults={
            "cpu": ("base-encoder", "base-cross"),
            "cuda": (
                "base-encoder",
                "base-decoder",
                "base-cross",
                "base-encoder-b8",
                "base-decoder-b8",
                "base-cross-b8",
            ),
        },
        quick={"cpu": ("small-encoder",), "cuda": ("base-encoder",)},
        of=Operation(_make, _truth, _eager, awkward=_awkward),
        notes=(
            "All but edgeroof's attention are given the position bias that T5's first layer makes for all, and return "
            "its gradient, summed over the batch; what the first layer does with both is not timed.",
            "Results are checked without dropout, which does not show in them; its tests are in tests/kernels.",
        ),
    )
    return dataclasses.replace(suite, refresh=_refresh)


def _cut(numbers: T5Size, wanted: Sizes) -> Mapping[str, OperatorProblem]:
    lengths = {
        "encoder": (wanted.source_length, wanted.source_length),
        "decoder": (wanted.target_length, wanted.target_length),
        "cross": (wanted.target_length, wanted.source_length),
    }
    return {
        place: _problem((wanted.batch_size, numbers.heads, *of_place), place, wanted)
        for place, of_place in lengths.items()
    }


def _problem(shape: tuple[int, ...], place: str, wanted: Sizes) -> OperatorProblem:
    """Forward reads queries, keys, values and mask and writes averages; backward reads all and writes as much."""
    batch, heads, queries, keys = shape
    scores, table = batch * heads * queries * keys, POSITION_BUCKETS * heads if place != "cross" else 0
    ends, mask = 2 * batch * heads * (queries + keys) * D_KV, batch * queries * keys
    flops = scores * wanted.of_mode(4 * D_KV + FORWARD_FLOPS, 10 * D_KV + BACKWARD_FLOPS)
    moved = wanted.of_mode(ends + mask + table, 2 * ends + mask + 2 * table)
    return OperatorProblem(
        name="",
        title=f"{place} attention",
        parameters=scores,
        tensors=5,
        flops=flops,
        floor_bytes=wanted.item * moved,
        unit="tensor" if wanted.dtype == "bf16" else "vector",
        place=place,
        shape=shape,
        dropout=wanted.dropout,
        items="scores",
    )


def _awkward(problem: OperatorProblem) -> tuple[int, ...]:
    """Lengths that are no multiples of a tile's."""
    return (1, 2, 11, 37)


def _make(problem: OperatorProblem, device: str, seed: int) -> Tensors:
    draw = Draw(problem.dtype, device, seed)
    batch, heads, queries, keys = problem.shape
    spread = D_KV**-0.25  # T5 does not scale, so scores are as spread as trained weights leave them
    tensors = {
        "query": draw.normal(batch, heads, queries, D_KV, spread=spread),
        "key": draw.normal(batch, heads, keys, D_KV, spread=spread),
        "value": draw.normal(batch, heads, keys, D_KV),
        "mask": attention_mask(problem, draw),
    }
    if problem.place != "cross":
        tensors["table"] = draw.normal(POSITION_BUCKETS, heads)
        tensors["bias"] = _position_bias(tensors["table"], queries, keys).requires_grad_()
    return tensors


def _refresh(tensors: Tensors, seed: int) -> None:
    refresh(tensors, seed)
    if "table" in tensors:
        bias = tensors["bias"].detach()
        bias.copy_(_position_bias(tensors["table"], *bias.shape[2:]))


def _position_bias(table: Any, queries: int, keys: int) -> Any:
    """As the first layer of an encoder makes it; a decoder's mask leaves half of its distances."""
    from ..attention_position import buckets_by_distance, position_bias

    buckets = buckets_by_distance(POSITION_BUCKETS, MAX_DISTANCE, True, table.device)
    return position_bias(table.detach(), buckets, queries, keys, 0).to(table.dtype)


def _eager(tensors: Mapping[str, Any], dropout: float) -> tuple[Any, ...]:
    import torch
    from torch.nn import functional

    weights = torch.matmul(tensors["query"], tensors["key"].transpose(2, 3))
    if "bias" in tensors:
        weights = weights + tensors["bias"]
    weights = functional.softmax(weights + tensors["mask"], dim=-1)
    return _applied(functional.dropout(weights, p=dropout), tensors)


def _applied(probabilities: Any, tensors: Mapping[str, Any]) -> tuple[Any]:
    """Averages of the values in the layout that transformers asks for."""
    import torch

    return (torch.matmul(probabilities, tensors["value"]).transpose(1, 2).contiguous(),)


def _ours(tensors: Mapping[str, Any], dropout: float) -> tuple[Any, ...]:
    from ..attention import attention

    inputs = (tensors["query"], tensors["key"], tensors["value"])
    return (attention(*inputs, table=tensors.get("table"), mask=tensors["mask"], dropout=dropout),)


def _softmax(tensors: Mapping[str, Any], dropout: float) -> tuple[Any, ...]:
    import torch

    from ..softmax import softmax

    scores = torch.matmul(tensors["query"], tensors["key"].transpose(2, 3))
    return _applied(softmax(scores, bias=tensors.get("bias"), mask=tensors["mask"], dropout=dropout), tensors)


def _register_softmax(problem: OperatorProblem) -> None:
    from ..softmax import register_costs

    register_costs()


def _sdpa(tensors: Mapping[str, Any], dropout: float) -> tuple[Any, ...]:
    from torch.nn import functional

    added = tensors["bias"] + tensors["mask"] if "bias" in tensors else tensors["mask"]
    inputs = (tensors["query"], tensors["key"], tensors["value"])
    found = functional.scaled_dot_product_attention(*inputs, attn_mask=added, dropout_p=dropout, scale=1.0)
    return (found.transpose(1, 2).contiguous(),)


def _truth(problem: OperatorProblem, tensors: Mapping[str, Any], kept: Any) -> tuple[Any, ...]:
    """From the table; what stands for it, the bias, gets its gradient as well."""
    from ..reference.attention import attention_reference, position_bias_reference

    bias = None
    if "table" in tensors:
        _, _, queries, keys = problem.shape
        bias = position_bias_reference(tensors["table"], queries, keys, bidirectional=True, max_distance=MAX_DISTANCE)
        bias = bias + (tensors["bias"] - tensors["bias"].detach())
    inputs = (tensors["query"], tensors["key"], tensors["value"])
    return (attention_reference(*inputs, bias=bias, mask=tensors["mask"]),)
