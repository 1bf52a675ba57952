"""Softmax with bias and mask in float64, from its definition."""

from __future__ import annotations

import torch
from torch import Tensor


def softmax_reference(scores: Tensor, bias: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
    """Probabilities in float64, differentiable by autograd. Dropout is left to the caller, who knows what was kept.

    Args:
        scores: [..., K].
        bias: added to the scores, with broadcasting.
        mask: boolean (True takes part) or to be added. Where nothing takes part, or all is minus infinity, the
            probabilities and their gradients are zero.
    """
    value = scores.double()
    if bias is not None:
        value = value + bias.double()
    if mask is not None and mask.dtype == torch.bool:
        value = value.masked_fill(~mask, -torch.inf)
    elif mask is not None:
        value = value + mask.double()
    hidden = (value == -torch.inf).all(-1, keepdim=True)
    return torch.softmax(value.masked_fill(hidden, 0.0), -1).masked_fill(hidden, 0.0)
