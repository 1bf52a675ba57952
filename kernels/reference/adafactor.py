"""Adafactor in float64, with the numerics of ``transformers.optimization.Adafactor`` (arXiv 1804.04235)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class AdafactorState:
    """State of one tensor, float64: row and column factors, or the full second moment; perhaps a first moment."""

    step: int = 0
    moments: dict[str, Tensor] = field(default_factory=dict)


def adafactor_reference(
    param: Tensor,
    grad: Tensor,
    state: AdafactorState,
    *,
    lr: float | None = None,
    eps: tuple[float, float] = (1e-30, 1e-3),
    clip_threshold: float = 1.0,
    decay_rate: float = -0.8,
    beta1: float | None = None,
    weight_decay: float = 0.0,
    scale_parameter: bool = True,
    relative_step: bool = True,
    warmup_init: bool = False,
) -> Tensor:
    """One step in float64; the arguments are those of the optimizer.

    Returns:
        The parameter after the step, float64. ``state`` is updated in place.
    """
    p, g = param.double(), grad.double()
    state.step += 1
    rate = lr if lr is not None else 0.0
    if relative_step:
        rate = min(1e-6 * state.step if warmup_init else 1e-2, state.step**-0.5)
    if scale_parameter:
        rate *= max(eps[1], _rms(p))
    keep = 1.0 - state.step**decay_rate
    square = g**2 + eps[0]
    if p.dim() >= 2:
        rows = _average(state, "row", square.mean(dim=-1), keep)
        cols = _average(state, "col", square.mean(dim=-2), keep)
        factor = (rows / rows.mean(dim=-1, keepdim=True)).rsqrt().unsqueeze(-1) * cols.rsqrt().unsqueeze(-2)
    else:
        factor = _average(state, "full", square, keep).rsqrt()
    update = factor * g
    update = update / max(1.0, _rms(update) / clip_threshold) * rate
    if beta1 is not None:
        update = _average(state, "first", update, beta1)
    return p - weight_decay * rate * p - update


def _average(state: AdafactorState, name: str, value: Tensor, keep: float) -> Tensor:
    """Moving average under ``name``, zero before the first step."""
    previous = state.moments.get(name, torch.zeros_like(value))
    state.moments[name] = keep * previous + (1.0 - keep) * value
    return state.moments[name]


def _rms(value: Tensor) -> float:
    return float(value.norm() / value.numel() ** 0.5) if value.numel() else 0.0
