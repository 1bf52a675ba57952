"""The loss, outside the model's forward, equal to what ``model(labels=...).loss`` computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .batches import IGNORED

if TYPE_CHECKING:
    import torch


def seq2seq_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy over labels that are not -100.

    Args:
        logits: (batch, target length, vocabulary).
        labels: (batch, target length).
    """
    from torch.nn import functional

    return functional.cross_entropy(logits.view(-1, logits.size(-1)), labels.view(-1), ignore_index=IGNORED)


def causal_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy of predicting the next token, in fp32 as transformers does it.

    Args:
        logits: (batch, length, vocabulary).
        labels: (batch, length), not shifted.
    """
    from torch.nn import functional

    following = functional.pad(labels, (0, 1), value=IGNORED)[..., 1:].contiguous()
    return seq2seq_loss(logits.float(), following)
