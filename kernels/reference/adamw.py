"""AdamW in float64, straight from the formulas (I. Loshchilov and F. Hutter, arXiv 1711.05101, Algorithm 2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class AdamWState:
    """Moments of one tensor, float64, and the number of steps made."""

    exp_avg: Tensor
    exp_avg_sq: Tensor
    step: int = 0

    @classmethod
    def zeros_like(cls, param: Tensor) -> AdamWState:
        """State before the first step."""
        zero = torch.zeros_like(param, dtype=torch.float64)
        return cls(zero, zero.clone())


def adamw_reference(
    param: Tensor,
    grad: Tensor,
    state: AdamWState,
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    maximize: bool = False,
    grad_factor: float = 1.0,
) -> Tensor:
    """One step in float64.

    Args:
        param: parameter before the step, any shape.
        grad: its gradient.
        state: updated in place.
        lr: learning rate.
        betas: decay rates of the moments.
        eps: added to the denominator.
        weight_decay: decoupled decay.
        maximize: step along the gradient.
        grad_factor: multiplies the gradient: the reciprocal of a loss scale, a clipping coefficient.

    Returns:
        The parameter after the step, float64.
    """
    p = param.double()
    g = grad.double() * (-grad_factor if maximize else grad_factor)
    beta1, beta2 = betas
    state.step += 1
    state.exp_avg = beta1 * state.exp_avg + (1 - beta1) * g
    state.exp_avg_sq = beta2 * state.exp_avg_sq + (1 - beta2) * g * g
    mean = state.exp_avg / (1 - beta1**state.step)
    variance = state.exp_avg_sq / (1 - beta2**state.step)
    return p - lr * weight_decay * p - lr * mean / (variance.sqrt() + eps)
