"""T5's layer norm in float64, from its definition (B. Zhang and R. Sennrich, arXiv 1910.07467)."""

from __future__ import annotations

import torch
from torch import Tensor


def rms_norm_reference(x: Tensor, weight: Tensor, eps: float = 1e-6) -> Tensor:
    """Norm in float64, differentiable by autograd.

    Args:
        x: [..., D].
        weight: [D].
        eps: added to the mean of squares.
    """
    rows = x.double()
    return weight.double() * rows / torch.sqrt(rows.square().mean(-1, keepdim=True) + eps)


def add_rms_norm_reference(
    residual: Tensor, x: Tensor, weight: Tensor, eps: float = 1e-6, *, factors: Tensor | float = 1.0
) -> tuple[Tensor, Tensor]:
    """``residual + factors * x`` and its norm; ``factors`` is what dropout multiplies by."""
    total = residual.double() + factors * x.double()
    return total, rms_norm_reference(total, weight, eps)
