"""T5's gated GELU in float64 (the approximation with tanh of D. Hendrycks and K. Gimpel, arXiv 1606.08415)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def gated_gelu_reference(a: Tensor, b: Tensor) -> Tensor:
    """``gelu_new(a) * b`` in float64, differentiable by autograd; tensors of one shape."""
    value = a.double()
    inner = math.sqrt(2 / math.pi) * (value + 0.044715 * value**3)
    return 0.5 * value * (1 + torch.tanh(inner)) * b.double()
