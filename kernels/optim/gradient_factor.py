"""Unscaling, clipping and skipping where torch makes the step: one factor for all gradients, which stay as they are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .options import StepOptions


def gradient_norm(grads: Sequence[Tensor], scale: float) -> Tensor:
    """Norm of all gradients after division by ``scale``, as ``clip_grad_norm_`` takes it."""
    norms = torch._foreach_norm([grad.float() if grad.dtype != torch.float64 else grad for grad in grads], 2.0)
    return torch.linalg.vector_norm(torch.stack([norm.to(torch.float64) for norm in norms])) / scale


def gradient_factor(
    grads: Sequence[Tensor], scale: Tensor | None, found_inf: Tensor | None, options: StepOptions
) -> tuple[float | None, Tensor | None]:
    """What gradients are multiplied by, None when the step is skipped, and their norm, None when it was not taken.

    Args:
        grads: all gradients of the step.
        scale: GradScaler's scale.
        found_inf: its flag.
        options: whether and where to clip, and whether a norm that is not finite skips the step.
    """
    if found_inf is not None and float(found_inf):
        return None, None
    factor = 1.0 if scale is None else 1.0 / float(scale)
    if not options.takes_norm:
        return factor, None
    total = gradient_norm(grads, 1.0 / factor)
    norm = float(total)
    if options.skip_nonfinite and not math.isfinite(norm):
        return None, total
    if options.max_grad_norm is not None:
        ratio = options.max_grad_norm / (norm + 1e-6)
        factor *= 1.0 if ratio > 1.0 else ratio  # NaN stays NaN
    return factor, total
