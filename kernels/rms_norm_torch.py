"""T5's layer norm in PyTorch's own operators, where the Triton kernels cannot run.

It is computed in fp32, or in fp64 where a tensor is fp64, and rounded where T5 rounds.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .dropout import drop


def forward(
    residual: Tensor | None, x: Tensor, weight: Tensor, seed: Tensor | None, eps: float, dropout: float,
    total_dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """``residual + dropout(x)`` or ``x`` itself, its norm, and the factors of its rows."""
    wide = _wide(x, weight)
    total = x.contiguous()
    if residual is not None:
        total = (residual.contiguous() + drop(total.to(wide), seed, dropout)).to(total_dtype)
    value = total.to(wide)
    rstd = (torch.linalg.vector_norm(value, dim=-1).square_() / value.shape[-1]).add_(eps).rsqrt_()
    normed = value * rstd[..., None]
    if weight.dtype.itemsize == 2:
        normed = normed.to(weight.dtype)
    return total, normed.mul_(weight), rstd


def backward(
    grad: Tensor, grad_total: Tensor | None, total: Tensor, weight: Tensor, rstd: Tensor, *, weight_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """Gradients of the sum and, if it is wanted, of the weight, in the type that they are computed in."""
    wide = _wide(total, weight)
    columns = weight.shape[0]
    slope, gain = grad.contiguous().to(wide), weight.to(wide)
    normed = total.contiguous().to(wide) * rstd[..., None]
    product = slope * normed
    grad_weight = product.reshape(-1, columns).sum(0) if weight_gradient else None
    shared = (product @ gain) / columns
    result = (slope * gain).sub_(normed.mul_(shared[..., None])).mul_(rstd[..., None])
    return result if grad_total is None else result.add_(grad_total), grad_weight


def _wide(*tensors: Tensor) -> torch.dtype:
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32
