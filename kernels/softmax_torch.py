"""Softmax with bias, mask and dropout in PyTorch's own operators, where the Triton kernels cannot run.

Probabilities are computed in fp32, or in fp64 for fp64 scores, and rounded once at the end.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .operator import keep_mask


def forward(
    scores: Tensor, bias: Tensor | None, mask: Tensor | None, seed: Tensor | None, dropout: float, dtype: torch.dtype
) -> Tensor:
    """Probabilities after dropout, of ``dtype``; see :mod:`.softmax` for the arguments."""
    probs = probabilities(scores, bias, mask)
    if seed is not None:
        drop_in_place(probs, seed, dropout)
    return probs.to(dtype)


def backward(
    grad: Tensor, saved: Tensor, bias: Tensor | None, mask: Tensor | None, seed: Tensor | None, dropout: float
) -> Tensor:
    """Gradient of the scores, in the type that it is computed in."""
    if seed is None:
        probs = saved.to(_wide(saved.dtype))
        slope = grad.to(probs.dtype)
    else:
        probs = probabilities(saved, bias, mask)
        slope = drop_in_place(grad.to(probs.dtype, copy=True), seed, dropout)
    return torch._softmax_backward_data(slope, probs, -1, probs.dtype)


def probabilities(scores: Tensor, bias: Tensor | None, mask: Tensor | None) -> Tensor:
    """Before dropout; rows that are minus infinity throughout become zeros."""
    value = scores.to(_wide(scores.dtype), copy=True)
    if bias is not None:
        value += bias
    if mask is not None and mask.dtype == torch.bool:
        value.masked_fill_(mask.logical_not(), -torch.inf)
    elif mask is not None:
        value += mask
    probs = torch.softmax(value, -1)
    hidden = value.amax(-1, keepdim=True) == -torch.inf if value.numel() else None
    if hidden is not None and (hidden.device.type != "cpu" or bool(hidden.any())):
        probs.masked_fill_(hidden, 0.0)
    return probs


def drop_in_place(value: Tensor, seed: Tensor, dropout: float) -> Tensor:
    """Drop elements of ``value`` in place and scale the others."""
    value.masked_fill_(keep_mask(seed, tuple(value.shape), dropout).logical_not_(), 0.0)
    return value if dropout == 1.0 else value.mul_(1.0 / (1.0 - dropout))


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32
