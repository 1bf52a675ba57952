"""Dropout of the fused operators on the host's side: seeds, thresholds, and torch's path."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import UsageError
from .operator import keep_mask, new_seed


def seed_for(dropout: float, seed: Tensor | None, device: torch.device) -> Tensor | None:
    """The seed that an operator gets: ``None`` without dropout, else the given one or one from torch's generator.

    Raises:
        UsageError: the probability or the seed makes no sense.
    """
    if not 0.0 <= dropout <= 1.0:
        raise UsageError(f"dropout is a probability between 0 and 1, not {dropout}")
    if seed is not None and (seed.dtype != torch.int64 or seed.numel() != 1 or seed.device != device):
        raise UsageError(f"a seed is one int64 on {device}, not {seed.numel()} {seed.dtype} on {seed.device}")
    if dropout == 0.0:
        return None
    return new_seed(device) if seed is None else seed


def threshold_and_scale(dropout: float) -> tuple[int, float]:
    """Below which of sixteen random bits an element goes, and the factor of those that stay."""
    return round(dropout * 65536), 0.0 if dropout == 1.0 else 1.0 / (1.0 - dropout)


def drop(value: Tensor, seed: Tensor | None, dropout: float) -> Tensor:
    """``value`` after dropout, in torch's path; what is dropped is multiplied by zero, as torch's own dropout does."""
    if seed is None:
        return value
    return value.mul(keep_mask(seed, tuple(value.shape), dropout)).mul_(threshold_and_scale(dropout)[1])
