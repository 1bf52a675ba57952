"""Attention with T5's position bias in PyTorch's own operators, where the Triton kernels cannot run.

Without dropout the forward pass is PyTorch's own fused attention with the bias and the mask added up, unless that sum
would have to be rounded to half precision: the most negative finite number of a wider type would become minus infinity.
The backward pass computes the scores and the probabilities again.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .softmax_torch import drop_in_place, probabilities


def forward(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, mask: Tensor | None, seed: Tensor | None,
    dropout: float,
) -> Tensor:  # fmt: skip
    """Averages [B, H, Q, D]; ``bias`` is [1, H, Q, K], the others are as in :mod:`.attention`."""
    if seed is None and query.numel() and key.numel():
        added = mask if bias is None else _sum(bias, mask)
        if added is None or added.dtype == torch.bool or _holds(query.dtype, added.dtype):
            return _without_dropout(query, key, value, added)
    probs = probabilities(query @ key.mT, bias, mask)
    if seed is not None:
        drop_in_place(probs, seed, dropout)
    return probs.to(value.dtype) @ value


def _without_dropout(query: Tensor, key: Tensor, value: Tensor, added: Tensor | None) -> Tensor:
    if added is not None and added.is_floating_point():
        added = added.to(query.dtype)
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=added, scale=1.0)


def _holds(dtype: torch.dtype, other: torch.dtype) -> bool:
    """Whether a type has all numbers of another one."""
    return torch.promote_types(dtype, other) == dtype


def _sum(bias: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return bias
    return torch.where(mask, bias, -torch.inf) if mask.dtype == torch.bool else bias + mask


def backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, mask: Tensor | None,
    seed: Tensor | None, dropout: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of queries, keys, values, and of the scores, from ``grad`` [B, H, Q, D]."""
    probs = probabilities(query @ key.mT, bias, mask)
    slope = (grad @ value.mT).to(probs.dtype)
    kept = probs
    if seed is not None:
        kept = drop_in_place(probs.clone(), seed, dropout)
        slope = drop_in_place(slope, seed, dropout)
    grad_value = kept.to(grad.dtype).mT @ grad
    slope = torch._softmax_backward_data(slope, probs, -1, probs.dtype)
    narrow = slope.to(query.dtype)
    return narrow @ key, narrow.mT @ query, grad_value, slope


def with_causal(mask: Tensor | None, queries: int, keys: int, offset: int, device: torch.device) -> Tensor:
    """A mask that also hides the keys after each query."""
    allowed = torch.ones(queries, keys, dtype=torch.bool, device=device).tril(offset)[None, None]
    if mask is None:
        return allowed
    return mask & allowed if mask.dtype == torch.bool else mask.masked_fill(~allowed, -torch.inf)
