"""The suite ``adafactor``: one step of Adafactor as Hugging Face's Trainer sets it (fixed rate, no momentum)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..declarations import Suite
from .compiled import CompiledAdafactor, why_not
from .optimizers import (
    CLIP_PASSES,
    Hyper,
    OptimizerProblem,
    OptimizerProvider,
    optimizer_provider,
    optimizer_suite,
    t5_problems,
    without_ours,
)
from .t5_shapes import Shape

DECAY, CLIP_THRESHOLD = -0.8, 1.0

#: Square, epsilon, sums over rows and columns, factors, update, its norm, clipping, rate, decay, subtraction.
FLOPS_PER_PARAMETER = 13

#: Items of a factored parameter that have to be moved: the gradient for the sums, again for the norm of the update,
#: then gradient and parameter once more, and the parameter written.
FUSED_ITEMS = 5
#: Hugging Face's ops on a factored parameter: norm of p 1, square 2, epsilon 2, sums 2, factors 1, update 3, norm 1,
#: clipping 2, rate 2, decay 2, negation 2, subtraction 3.
EAGER_ITEMS = 23
#: The same for a vector: norm of p 1, square 2, epsilon 2, decay and add 2 + 3, root 2, update 3, and the last seven.
EAGER_ITEMS_VECTOR = 27
#: With bf16 parameters everything happens in fp32 copies: gradient and parameter widened, the parameter narrowed.
CONVERSION_BYTES = 3 * (2 + 4)


def adafactor_suite(dtype: str = "fp32", clip_norm: float | None = None) -> Suite:
    """The suite for parameters and gradients of one dtype.

    Args:
        dtype: ``fp32`` or ``bf16``.
        clip_norm: clip the gradient to this norm within the call; ``None`` does not clip.
    """
    return optimizer_suite(
        "adafactor",
        "one Adafactor step",
        providers=_providers(),
        problems=t5_problems(FLOPS_PER_PARAMETER, _floor_bytes, dtype, clip_norm),
        clip_norm=clip_norm,
        baseline="huggingface",
        reference=adafactor_float64,
        notes=(
            "torch.optim.Adafactor is no provider: its step size and clipping differ, so it computes another update.",
        ),
    )


def adafactor_float64(before: list[Any], gradients: list[list[Any]], hyper: Hyper) -> list[Any]:
    """The truth: steps of :func:`edgeroof.kernels.reference.adafactor_reference` from empty states."""
    from ..reference import AdafactorState, adafactor_reference

    after = []
    for index, parameter in enumerate(before):
        state = AdafactorState()
        for of_step in gradients:
            parameter = adafactor_reference(parameter, of_step[index], state, **_settings(hyper))
        after.append(parameter)
    return after


def _elements(shapes: Sequence[Shape]) -> tuple[int, int]:
    """Elements of matrices and of vectors."""
    matrices = sum(math.prod(shape) for shape in shapes if len(shape) >= 2)
    return matrices, sum(math.prod(shape) for shape in shapes if len(shape) < 2)


def _floor_bytes(shapes: Sequence[Shape], item: int) -> float:
    return FUSED_ITEMS * item * sum(_elements(shapes))


def _eager_bytes(problem: OptimizerProblem) -> float:
    matrices, vectors = _elements(problem.shapes)
    moved = 4 * (EAGER_ITEMS * matrices + EAGER_ITEMS_VECTOR * vectors)
    if problem.dtype != "fp32":
        moved += CONVERSION_BYTES * problem.parameters
    return moved + _clip_bytes(problem)


def _fused_bytes(problem: OptimizerProblem) -> float:
    return _floor_bytes(problem.shapes, problem.item_bytes) + _clip_bytes(problem)


def _our_bytes(problem: OptimizerProblem) -> float:
    """Clipping that is fused reads the gradient once more."""
    reads = 0.0 if problem.clip_norm is None else 1.0 * problem.item_bytes * problem.parameters
    return _floor_bytes(problem.shapes, problem.item_bytes) + reads


def _clip_bytes(problem: OptimizerProblem) -> float:
    """``clip_grad_norm_``: read the gradient for the norm, then read and write it."""
    return 0.0 if problem.clip_norm is None else float(CLIP_PASSES) * problem.item_bytes * problem.parameters


def _providers() -> tuple[OptimizerProvider, ...]:
    return (
        optimizer_provider(
            "huggingface",
            "transformers' Adafactor, two dozen ops per tensor",
            _huggingface,
            adafactor_float64,
            bytes_moved=_eager_bytes,
            unavailable=lambda problem, device: _without_transformers(),
        ),
        optimizer_provider(
            "torch-compile",
            "the same update compiled by inductor, tensor by tensor",
            lambda parameters, problem, hyper: CompiledAdafactor(parameters, hyper.lr, hyper.weight_decay),
            adafactor_float64,
            bytes_moved=_fused_bytes,
            unavailable=lambda problem, device: why_not(device),
        ),
        optimizer_provider(
            "edgeroof",
            "FusedAdafactor: the fewest passes over memory",
            _fused,
            adafactor_float64,
            bytes_moved=_our_bytes,
            unavailable=lambda problem, device: without_ours("FusedAdafactor"),
            clips_itself=True,
            judged=True,
        ),
    )


def _settings(hyper: Hyper) -> dict[str, Any]:
    return {
        "lr": hyper.lr,
        "weight_decay": hyper.weight_decay,
        "scale_parameter": False,
        "relative_step": False,
        "clip_threshold": CLIP_THRESHOLD,
        "decay_rate": DECAY,
    }


def _huggingface(parameters: list[Any], problem: OptimizerProblem, hyper: Hyper) -> Any:
    from transformers.optimization import Adafactor

    return Adafactor(parameters, **_settings(hyper))


def _fused(parameters: list[Any], problem: OptimizerProblem, hyper: Hyper) -> Any:
    from ..optim import FusedAdafactor

    return FusedAdafactor(parameters, **_settings(hyper), max_grad_norm=problem.clip_norm)


def _without_transformers() -> str | None:
    try:
        from transformers.optimization import Adafactor  # noqa: F401
    except ImportError as error:
        return f"transformers has no Adafactor here: {error}"
    return None
