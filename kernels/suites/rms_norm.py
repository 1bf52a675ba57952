"""The suite ``rms_norm``: T5's layer norm, alone and behind the residual sum of the layer before it."""

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

#: The form with ``residual + dropout(x)`` before the norm; both the sum and the norm are outputs.
ADD = "add"
EPSILON = 1e-6

#: Arithmetic of an element: square, sum, two products; backward: twice that, and the weight's gradient. And of the sum.
FORWARD_FLOPS, BACKWARD_FLOPS, ADD_FLOPS = 4, 9, 3


def rms_norm_suite(wanted: Sizes) -> Suite:
    """The suite for problems of given sizes."""
    return operator_suite(
        "rms_norm",
        "T5's layer norm, alone or after the residual sum",
        (
            eager_provider("transformers' T5LayerNorm, op by op", _eager),
            compiled_provider(_eager, wanted),
            our_provider("rms_norm", _ours),
            triton_provider(_ours),
            OperatorProvider("torch-rms-norm", "torch.nn.functional.rms_norm", not_built, _without_torchs, run=_torchs),
            library_provider("apex", "apex FusedRMSNorm", "apex", "apex.normalization.fused_layer_norm", _apex),
            library_provider("liger", "Liger's RMS norm", "liger-kernel", "liger_kernel.ops.rms_norm", _liger),
        ),
        problems=cut_problems(_cut, wanted),
        defaults={
            "cpu": ("base-encoder", "base-encoder-add"),
            "cuda": (
                "base-encoder",
                "base-encoder-add",
                "base-decoder-add",
                "base-encoder-b8",
                "base-encoder-add-b8",
                "base-decoder-add-b8",
            ),
        },
        quick={"cpu": ("small-encoder-add",), "cuda": ("base-encoder-add",)},
        of=Operation(_make, _truth, _eager, awkward=_awkward, kept=_kept),
        notes=("In the problems -add the others do the sum and its dropout in PyTorch.",),
    )


def _cut(numbers: T5Size, wanted: Sizes) -> Mapping[str, OperatorProblem]:
    problems = {}
    for place, length in (("encoder", wanted.source_length), ("decoder", wanted.target_length)):
        for form in ("", ADD):
            shape = (wanted.batch_size, length, numbers.d_model)
            problems[f"{place}-{form}" if form else place] = _problem(shape, place, form, wanted)
    return problems


def _problem(shape: tuple[int, ...], place: str, form: str, wanted: Sizes) -> OperatorProblem:
    """Forward reads x and writes y; backward reads x and the gradient of y and writes that of x; more with a sum."""
    elements = shape[0] * shape[1] * shape[2]
    forward, backward = (4, 5) if form else (2, 3)  # sum: two read, two written; backward: two gradients in, two out
    arithmetic = wanted.of_mode(FORWARD_FLOPS, BACKWARD_FLOPS) + (wanted.of_mode(ADD_FLOPS, ADD_FLOPS) if form else 0)
    return OperatorProblem(
        name="",
        title=f"{place} norm after the residual sum" if form else f"{place} norm",
        parameters=elements,
        tensors=3 if form else 2,
        flops=elements * arithmetic,
        floor_bytes=wanted.item * wanted.of_mode(forward, backward) * elements,
        form=form,
        place=place,
        shape=shape,
        dropout=wanted.dropout if form else 0.0,
        items="elements",
    )


def _awkward(problem: OperatorProblem) -> tuple[int, ...]:
    return (3, 21, 321)


def _make(problem: OperatorProblem, device: str, seed: int) -> Tensors:
    draw = Draw(problem.dtype, device, seed)
    tensors = {"residual": draw.normal(*problem.shape)} if problem.form == ADD else {}
    weight = draw.normal(problem.shape[-1], spread=0.1, mean=1.0)
    return {**tensors, "x": draw.normal(*problem.shape), "weight": weight}


def _summed(tensors: Mapping[str, Any], dropout: float) -> Any:
    from torch.nn import functional

    if "residual" not in tensors:
        return tensors["x"]
    return tensors["residual"] + functional.dropout(tensors["x"], p=dropout)


def _with_sum(summed: Any, normed: Any, tensors: Mapping[str, Any]) -> tuple[Any, ...]:
    return (summed, normed) if "residual" in tensors else (normed,)


def _eager(tensors: Mapping[str, Any], dropout: float) -> tuple[Any, ...]:
    """Line by line what ``T5LayerNorm`` does, whose own class apex replaces where it is installed."""
    import torch

    summed, weight = _summed(tensors, dropout), tensors["weight"]
    variance = summed.to(torch.float32).pow(2).mean(-1, keepdim=True)
    normed = summed * torch.rsqrt(variance + EPSILON)
    if weight.dtype in (torch.float16, torch.bfloat16):
        normed = normed.to(weight.dtype)
    return _with_sum(summed, weight * normed, tensors)


def _ours(tensors: Mapping[str, Any], dropout: float) -> tuple[Any, ...]:
    from ..rms_norm import add_rms_norm, rms_norm

    if "residual" in tensors:
        return tuple(add_rms_norm(tensors["residual"], tensors["x"], tensors["weight"], EPSILON, dropout=dropout))
    return (rms_norm(tensors["x"], tensors["weight"], EPSILON),)


def _without_torchs(problem: OperatorProblem, device: str) -> str | None:
    from torch.nn import functional

    return None if hasattr(functional, "rms_norm") else "this PyTorch has no rms_norm"


def _torchs(tensors: Mapping[str, Any], dropout: float) -> tuple[Any, ...]:
    from torch.nn import functional

    summed, weight = _summed(tensors, dropout), tensors["weight"]
    return _with_sum(summed, functional.rms_norm(summed, weight.shape, weight, EPSILON), tensors)


def _apex(tensors: Mapping[str, Any], dropout: float) -> tuple[Any, ...]:
    from apex.normalization.fused_layer_norm import fused_rms_norm_affine

    summed, weight = _summed(tensors, dropout), tensors["weight"]
    return _with_sum(summed, fused_rms_norm_affine(summed, weight, weight.shape, EPSILON), tensors)


def _liger(tensors: Mapping[str, Any], dropout: float) -> tuple[Any, ...]:
    from liger_kernel.ops.rms_norm import LigerRMSNormFunction

    summed = _summed(tensors, dropout)
    normed = LigerRMSNormFunction.apply(summed, tensors["weight"], EPSILON, 0.0, "llama", False)
    return _with_sum(summed, normed, tensors)


def _truth(problem: OperatorProblem, tensors: Mapping[str, Any], kept: Any) -> tuple[Any, ...]:
    from ..reference.rms_norm import rms_norm_reference

    summed = tensors["x"]
    if problem.form == ADD:
        summed = tensors["residual"] + (summed if kept is None else summed * kept / (1 - problem.dropout))
    return _with_sum(summed, rms_norm_reference(summed, tensors["weight"], EPSILON), tensors)


def _kept(tensors: Mapping[str, Any], outputs: Any, gradients: Mapping[str, Any]) -> tuple[Any, Any]:
    """Where x gets a gradient, or the sum contains it; each of the two is then compared with what both together say."""
    moved = (outputs[0] - tensors["residual"]).abs() > tensors["x"].abs() / 2
    return (gradients["x"] != 0) | moved, None
