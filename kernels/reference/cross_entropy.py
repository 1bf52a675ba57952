"""Cross-entropy in float64, from its definition (label smoothing: C. Szegedy et al., arXiv 1512.00567, section 7)."""

from __future__ import annotations

import torch
from torch import Tensor


def cross_entropy_reference(
    logits: Tensor,
    labels: Tensor,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """Loss in float64, differentiable by autograd.

    Args:
        logits: [N, V].
        labels: [N], class indices or ``ignore_index``.
        ignore_index: label of rows without a loss.
        label_smoothing: share of the target spread evenly over all classes.
        z_loss: weight of the squared log partition function.
        reduction: ``"mean"`` over rows that count, ``"sum"`` or ``"none"``.
    """
    scores = logits.double()
    counted = labels != ignore_index
    target = torch.where(counted, labels, 0)
    log_partition = torch.logsumexp(scores, 1)
    negative = log_partition - scores.gather(1, target[:, None])[:, 0]
    even = log_partition - scores.mean(1)
    losses = (1 - label_smoothing) * negative + label_smoothing * even + z_loss * log_partition**2
    losses = torch.where(counted, losses, 0.0)
    if reduction == "none":
        return losses
    return losses.sum() / counted.sum() if reduction == "mean" else losses.sum()


def linear_cross_entropy_reference(
    hidden: Tensor, weight: Tensor, labels: Tensor, bias: Tensor | None = None, **options: float | str
) -> Tensor:
    """The same for the logits ``hidden [N, D] @ weight [V, D]ᵀ + bias``, all of it in float64."""
    logits = hidden.double() @ weight.double().t()
    if bias is not None:
        logits = logits + bias.double()
    return cross_entropy_reference(logits, labels, **options)  # type: ignore[arg-type]
