"""The loss, outside the model's forward, equal to what ``model(labels=...).loss`` computes.

The fused losses are those of :mod:`edgeroof.kernels`: the same numbers, in one pass over the logits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .batches import IGNORED

if TYPE_CHECKING:
    from typing import Any

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


def fused_seq2seq_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """:func:`seq2seq_loss` and its gradient in one pass over the logits.

    Args:
        logits: (batch, target length, vocabulary).
        labels: (batch, target length).
    """
    from ..kernels.cross_entropy import cross_entropy

    return cross_entropy(logits, labels, ignore_index=IGNORED)


def decoder_states(model: Any, **inputs: torch.Tensor) -> torch.Tensor:
    """What a T5's output projection is applied to: (batch, target length, width); see :func:`chunked_seq2seq_loss`.

    Args:
        model: a T5 language model.
        **inputs: ``input_ids``, ``attention_mask`` and ``decoder_input_ids``.
    """
    from ..kernels.patching.loss import decoder_states as states_of

    return states_of(model, **inputs)


def chunked_seq2seq_loss(model: Any, states: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """:func:`seq2seq_loss` of a T5's output projection, whose logits are never there as a whole.

    Args:
        model: a T5 language model.
        states: from :func:`decoder_states`.
        labels: (batch, target length).
    """
    from ..kernels.patching.loss import loss_of_states

    return loss_of_states(model, states, labels)
