"""The suite ``cross_entropy``: the loss over T5's vocabulary, from the logits or from the last hidden states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..declarations import Suite
from .operator_problems import Operation, OperatorProblem, Sizes, Tensors, cut_problems
from .operator_providers import compiled_provider, eager_provider, library_provider, our_provider, triton_provider
from .operators import operator_suite
from .t5_shapes import VOCABULARY, T5Size
from .tensors import Draw

#: The form with the matmul of lm_head before the loss, of shape (rows, width, vocabulary).
LINEAR = "linear"
IGNORED = -100
#: Share of labels that are padding.
IGNORED_SHARE = 0.3

#: Arithmetic of a logit: maximum, difference, exponential, sum; backward: product and difference.
FORWARD_FLOPS, BACKWARD_FLOPS = 4, 2


def cross_entropy_suite(wanted: Sizes) -> Suite:
    """The suite for problems of given sizes."""
    return operator_suite(
        "cross_entropy",
        "cross-entropy over the vocabulary, with or without the matmul before it",
        (
            eager_provider("transformers' loss: F.cross_entropy in the logits' dtype", _eager),
            compiled_provider(_eager, wanted),
            our_provider("cross_entropy", _ours, {LINEAR: "linear_cross_entropy"}),
            triton_provider(_ours),
            library_provider(
                "liger",
                "Liger's cross-entropy, fused with the matmul in the problems -linear",
                "liger-kernel",
                "liger_kernel.ops.cross_entropy",
                _liger,
            ),
        ),
        problems=cut_problems(_cut, wanted),
        defaults={
            "cpu": ("base-decoder", "base-linear"),
            "cuda": ("base-decoder", "base-linear", "base-decoder-b8", "base-linear-b8"),
        },
        quick={"cpu": ("small-decoder",), "cuda": ("base-decoder",)},
        of=Operation(_make, _truth, _eager, awkward=_awkward),
        notes=("In the problems -linear a provider's memory shows whether it keeps the logits.",),
    )


def _cut(numbers: T5Size, wanted: Sizes) -> Mapping[str, OperatorProblem]:
    rows = wanted.batch_size * wanted.target_length
    return {"decoder": _problem(rows, 0, wanted), LINEAR: _problem(rows, numbers.d_model, wanted)}


def _problem(rows: int, width: int, wanted: Sizes) -> OperatorProblem:
    """Forward reads the logits; backward reads them and writes their gradient. With the matmul none need be stored."""
    logits, weight = rows * VOCABULARY, width * VOCABULARY
    forward, backward = (rows * width + weight, 2 * (rows * width + weight)) if width else (logits, 2 * logits)
    flops = logits * wanted.of_mode(FORWARD_FLOPS + 2 * width, BACKWARD_FLOPS + 4 * width)
    return OperatorProblem(
        name="",
        title="lm_head and loss" if width else "loss",
        parameters=logits,
        tensors=3 if width else 2,
        flops=flops,
        floor_bytes=wanted.item * wanted.of_mode(forward, backward),
        unit="tensor" if width and wanted.dtype == "bf16" else "vector",
        form=LINEAR if width else "",
        place="decoder",
        shape=(rows, width, VOCABULARY) if width else (rows, VOCABULARY),
        items="logits",
    )


def _awkward(problem: OperatorProblem) -> tuple[int, ...]:
    return (37, 48, 1031) if problem.form == LINEAR else (37, 1031)


def _make(problem: OperatorProblem, device: str, seed: int) -> Tensors:
    import torch

    draw = Draw(problem.dtype, device, seed)
    rows, *between, vocabulary = problem.shape
    labels = draw.integers(0, vocabulary, rows)
    ignored = torch.rand(rows, device=device, generator=draw.generator) < IGNORED_SHARE
    labels = torch.where(ignored, IGNORED, labels)
    if not between:
        return {"logits": draw.normal(rows, vocabulary), "labels": labels}
    (width,) = between
    weight = draw.normal(vocabulary, width, spread=width**-0.5)
    return {"hidden": draw.normal(rows, width), "weight": weight, "labels": labels}


def _logits(tensors: Mapping[str, Any]) -> Any:
    from torch.nn import functional

    return tensors["logits"] if "logits" in tensors else functional.linear(tensors["hidden"], tensors["weight"])


def _eager(tensors: Mapping[str, Any], dropout: float) -> tuple[Any, ...]:
    from torch.nn import functional

    return (functional.cross_entropy(_logits(tensors), tensors["labels"], ignore_index=IGNORED),)


def _ours(tensors: Mapping[str, Any], dropout: float) -> tuple[Any, ...]:
    if "logits" in tensors:
        from ..cross_entropy import cross_entropy

        return (cross_entropy(tensors["logits"], tensors["labels"], ignore_index=IGNORED),)
    from ..linear_cross_entropy import linear_cross_entropy

    return (linear_cross_entropy(tensors["hidden"], tensors["weight"], tensors["labels"], ignore_index=IGNORED),)


def _liger(tensors: Mapping[str, Any], dropout: float) -> tuple[Any, ...]:
    if "logits" in tensors:
        from liger_kernel.transformers.functional import liger_cross_entropy

        copy = tensors["logits"].clone()  # Liger writes the gradient over the logits
        return (liger_cross_entropy(copy, tensors["labels"], ignore_index=IGNORED),)
    from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

    arguments = (tensors["hidden"], tensors["weight"], tensors["labels"])
    return (liger_fused_linear_cross_entropy(*arguments, ignore_index=IGNORED),)


def _truth(problem: OperatorProblem, tensors: Mapping[str, Any], kept: Any) -> tuple[Any, ...]:
    from ..reference.cross_entropy import cross_entropy_reference

    return (cross_entropy_reference(_logits(tensors), tensors["labels"], ignore_index=IGNORED),)
