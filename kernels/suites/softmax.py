"""The suite ``softmax``: T5's attention probabilities, from scores, position bias and mask to what dropout leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..declarations import Suite
from .operator_problems import Operation, OperatorProblem, OperatorProvider, Sizes, Tensors, cut_problems
from .operator_providers import (
    compiled_provider,
    eager_provider,
    library_provider,
    not_built,
    our_provider,
    triton_provider,
)
from .operators import operator_suite
from .t5_shapes import T5Size
from .tensors import Draw

#: The form with the matmul before and the one after: what SDPA replaces as a whole.
ATTENTION = "attention"
D_KV = 64

#: Arithmetic of an element: two sums, maximum, difference, exponential, sum, division, dropout's two; and backward.
FORWARD_FLOPS, BACKWARD_FLOPS = 9, 6


def softmax_suite(wanted: Sizes) -> Suite:
    """The suite for problems of given sizes."""
    return operator_suite(
        "softmax",
        "scores + position bias + mask, softmax, dropout",
        (
            eager_provider("transformers' eager attention: two additions, softmax, dropout", _eager),
            compiled_provider(_eager, wanted),
            our_provider("softmax", _ours),
            triton_provider(_ours),
            OperatorProvider(
                "sdpa",
                "scaled_dot_product_attention with bias + mask, as transformers' sdpa attention",
                not_built,
                lambda problem, device: (
                    None if problem.form == ATTENTION else "it replaces the matmuls too: see problems -attention"
                ),
                run=_sdpa,
            ),
            library_provider(
                "liger",
                "PyTorch's additions and dropout around Liger's softmax",
                "liger-kernel",
                "liger_kernel.ops.softmax",
                _liger,
            ),
        ),
        problems=cut_problems(_cut, wanted),
        defaults={
            "cpu": ("base-encoder", "base-cross", "base-encoder-attention"),
            "cuda": (
                "base-encoder",
                "base-decoder",
                "base-cross",
                "base-encoder-attention",
                "base-encoder-b8",
                "base-decoder-b8",
                "base-cross-b8",
            ),
        },
        quick={"cpu": ("small-encoder",), "cuda": ("base-encoder",)},
        of=Operation(_make, _truth, _eager, awkward=_awkward, kept=_kept),
        notes=(
            "The problems -attention have the matmuls before and after, and no dropout: its mask would not show in the "
            "output.",
        ),
    )


def _cut(numbers: T5Size, wanted: Sizes) -> Mapping[str, OperatorProblem]:
    lengths = {
        "encoder": (wanted.source_length, wanted.source_length),
        "decoder": (wanted.target_length, wanted.target_length),
        "cross": (wanted.target_length, wanted.source_length),
    }
    problems = {}
    for place, (queries, keys) in lengths.items():
        for form in ("", ATTENTION):
            shape = (wanted.batch_size, numbers.heads, queries, keys)
            problems[f"{place}-{form}" if form else place] = _problem(shape, place, form, wanted)
    return problems


def _problem(shape: tuple[int, ...], place: str, form: str, wanted: Sizes) -> OperatorProblem:
    """Forward reads scores, bias and mask and writes probabilities; backward reads two of that size and writes one."""
    batch, heads, queries, keys = shape
    elements, item = batch * heads * queries * keys, wanted.item
    bias, mask = heads * queries * keys, batch * queries * keys
    forward, backward = 2 * elements + bias + mask, 3 * elements + (bias if place != "cross" else 0)
    flops = elements * wanted.of_mode(FORWARD_FLOPS, BACKWARD_FLOPS)
    if form == ATTENTION:
        ends = 2 * batch * heads * (queries + keys) * D_KV  # q, k, v and the output; likewise their gradients
        forward, backward = ends + bias + mask, 2 * ends + (bias if place != "cross" else 0)
        flops += elements * wanted.of_mode(4 * D_KV, 8 * D_KV)
    return OperatorProblem(
        name="",
        title=f"{place} attention" if form else f"{place} probabilities",
        parameters=elements,
        tensors=5 if form else 3,
        flops=flops,
        floor_bytes=item * wanted.of_mode(forward, backward),
        unit="tensor" if form and wanted.dtype == "bf16" else "vector",
        form=form,
        place=place,
        shape=shape,
        dropout=0.0 if form else wanted.dropout,
        items="elements",
    )


def _awkward(problem: OperatorProblem) -> tuple[int, ...]:
    """A few rows; 37 keys are no power of two."""
    return (2, 2, 11, 37)


def _make(problem: OperatorProblem, device: str, seed: int) -> Tensors:
    import torch

    draw = Draw(problem.dtype, device, seed)
    batch, heads, queries, keys = problem.shape
    mask = attention_mask(problem, draw)
    bias = draw.normal(1, heads, queries, keys)
    if problem.place == "cross":  # transformers adds zeros there
        bias = torch.zeros_like(bias, requires_grad=False)
    common = {"bias": bias, "mask": mask}
    if problem.form == ATTENTION:
        spread = D_KV**-0.25  # T5 does not scale, so scores are as spread as trained weights leave them
        query = draw.normal(batch, heads, queries, D_KV, spread=spread)
        return {
            "query": query,
            "key": draw.normal(batch, heads, keys, D_KV, spread=spread),
            "value": draw.normal(batch, heads, keys, D_KV),
            **common,
        }
    return {"scores": draw.normal(*problem.shape, spread=2.0), **common}


def attention_mask(problem: OperatorProblem, draw: Draw) -> Any:
    """Padding, and what comes after a query of a decoder, to be added: [B, 1, Q, K], as eager attention is given it."""
    import torch

    batch, _, queries, keys = problem.shape
    lengths = draw.integers(keys // 2, keys + 1, batch, 1, 1, 1)
    attend = torch.arange(keys, device=draw.device) < lengths
    if problem.place == "decoder":
        attend = attend & torch.ones(queries, keys, dtype=torch.bool, device=draw.device).tril()
    lowest = torch.finfo(draw.dtype).min
    return torch.where(attend, 0.0, lowest).to(draw.dtype).expand(batch, 1, queries, keys).contiguous()


def _scores(tensors: Mapping[str, Any]) -> Any:
    import torch

    return tensors["scores"] if "scores" in tensors else torch.matmul(tensors["query"], tensors["key"].transpose(2, 3))


def _applied(probabilities: Any, tensors: Mapping[str, Any]) -> tuple[Any]:
    """The probabilities, or where there are values, their averages in the layout that transformers asks for."""
    import torch

    if "value" not in tensors:
        return (probabilities,)
    return (torch.matmul(probabilities, tensors["value"]).transpose(1, 2).contiguous(),)


def _eager(tensors: Mapping[str, Any], dropout: float) -> tuple[Any, ...]:
    from torch.nn import functional

    weights = _scores(tensors) + tensors["bias"]
    weights = weights + tensors["mask"]
    weights = functional.softmax(weights, dim=-1)
    return _applied(functional.dropout(weights, p=dropout), tensors)


def _ours(tensors: Mapping[str, Any], dropout: float) -> tuple[Any, ...]:
    from ..softmax import softmax

    return _applied(softmax(_scores(tensors), bias=tensors["bias"], mask=tensors["mask"], dropout=dropout), tensors)


def _liger(tensors: Mapping[str, Any], dropout: float) -> tuple[Any, ...]:
    from liger_kernel.ops.softmax import LigerSoftmaxFunction
    from torch.nn import functional

    weights = LigerSoftmaxFunction.apply(_scores(tensors) + tensors["bias"] + tensors["mask"])
    return _applied(functional.dropout(weights, p=dropout), tensors)


def _sdpa(tensors: Mapping[str, Any], dropout: float) -> tuple[Any, ...]:
    from torch.nn import functional

    found = functional.scaled_dot_product_attention(
        tensors["query"],
        tensors["key"],
        tensors["value"],
        attn_mask=tensors["bias"] + tensors["mask"],
        dropout_p=dropout,
        scale=1.0,
    )
    return (found.transpose(1, 2).contiguous(),)


def _truth(problem: OperatorProblem, tensors: Mapping[str, Any], kept: Any) -> tuple[Any, ...]:
    from ..reference.softmax import softmax_reference

    probabilities = softmax_reference(_scores(tensors), tensors["bias"], tensors["mask"])
    if kept is not None:
        probabilities = probabilities * kept / (1 - problem.dropout)
    return _applied(probabilities, tensors)


def _kept(tensors: Mapping[str, Any], outputs: Any, gradients: Mapping[str, Any]) -> Any:
    """Probabilities that are not zero; what the mask forbids tells nothing."""
    return outputs[0] != 0, tensors["mask"] == 0
