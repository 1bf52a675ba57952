"""The suite ``gated_gelu``: the middle of T5's feed-forward layer, ``gelu_new(a) * b`` and its dropout."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..declarations import Suite
from .operator_problems import Operation, OperatorProblem, Sizes, Tensors, cut_problems
from .operator_providers import compiled_provider, eager_provider, library_provider, our_provider, triton_provider
from .operators import operator_suite
from .t5_shapes import T5Size
from .tensors import Draw

#: Arithmetic of an element: the cube 2, scales and sums 4, tanh 1, products 3, dropout 2; backward, recomputing, twice.
FORWARD_FLOPS, BACKWARD_FLOPS = 12, 24


def gated_gelu_suite(wanted: Sizes) -> Suite:
    """The suite for problems of given sizes."""
    return operator_suite(
        "gated_gelu",
        "gelu_new(a) * b and dropout",
        (
            eager_provider("transformers' NewGELUActivation, product and dropout, op by op", _eager),
            compiled_provider(_eager, wanted),
            our_provider("gated_gelu", _ours),
            triton_provider(_ours),
            library_provider(
                "liger", "Liger's GEGLU, and PyTorch's dropout", "liger-kernel", "liger_kernel.ops.geglu", _liger
            ),
        ),
        problems=cut_problems(_cut, wanted),
        defaults={
            "cpu": ("base-encoder",),
            "cuda": (
                "base-encoder",
                "base-decoder",
                "base-encoder-b8",
                "base-decoder-b8",
            ),
        },
        quick={"cpu": ("small-encoder",), "cuda": ("base-encoder",)},
        of=Operation(_make, _truth, _eager, awkward=_awkward, kept=_kept),
    )


def _cut(numbers: T5Size, wanted: Sizes) -> Mapping[str, OperatorProblem]:
    lengths = {"encoder": wanted.source_length, "decoder": wanted.target_length}
    return {place: _problem((wanted.batch_size, n, numbers.d_ff), place, wanted) for place, n in lengths.items()}


def _problem(shape: tuple[int, ...], place: str, wanted: Sizes) -> OperatorProblem:
    """Forward reads two and writes one; backward reads two and a gradient and writes two."""
    elements = math.prod(shape)
    return OperatorProblem(
        name="",
        title=f"{place} gated GELU",
        parameters=elements,
        tensors=2,
        flops=elements * wanted.of_mode(FORWARD_FLOPS, BACKWARD_FLOPS),
        floor_bytes=wanted.item * wanted.of_mode(3, 5) * elements,
        place=place,
        shape=shape,
        dropout=wanted.dropout,
        items="elements",
    )


def _awkward(problem: OperatorProblem) -> tuple[int, ...]:
    return (3, 21, 321)


def _make(problem: OperatorProblem, device: str, seed: int) -> Tensors:
    draw = Draw(problem.dtype, device, seed)
    return {"a": draw.normal(*problem.shape), "b": draw.normal(*problem.shape)}


def _eager(tensors: Mapping[str, Any], dropout: float) -> tuple[Any, ...]:
    """What ``T5DenseGatedActDense`` does between its matmuls, the activation spelled out as transformers has it."""
    import torch

    a = tensors["a"]
    inner = math.sqrt(2.0 / math.pi) * (a + 0.044715 * torch.pow(a, 3.0))
    gelu = 0.5 * a * (1.0 + torch.tanh(inner))
    return (torch.nn.functional.dropout(gelu * tensors["b"], p=dropout),)


def _ours(tensors: Mapping[str, Any], dropout: float) -> tuple[Any, ...]:
    from ..gated_gelu import gated_gelu

    return (gated_gelu(tensors["a"], tensors["b"], dropout=dropout),)


def _liger(tensors: Mapping[str, Any], dropout: float) -> tuple[Any, ...]:
    from liger_kernel.ops.geglu import LigerGELUMulFunction
    from torch.nn import functional

    return (functional.dropout(LigerGELUMulFunction.apply(tensors["a"], tensors["b"]), p=dropout),)


def _truth(problem: OperatorProblem, tensors: Mapping[str, Any], kept: Any) -> tuple[Any, ...]:
    from ..reference.gated_gelu import gated_gelu_reference

    gated = gated_gelu_reference(tensors["a"], tensors["b"])
    return (gated if kept is None else gated * kept / (1 - problem.dropout),)


def _kept(tensors: Mapping[str, Any], outputs: Any, gradients: Mapping[str, Any]) -> tuple[Any, Any]:
    """Elements that are not zero; far below zero the GELU itself is, and tells nothing."""
    return outputs[0] != 0, tensors["a"] > -3
