"""Eager attention as transformers wrote it until 4.47, for comparison with measurements of that time.

From 4.48 on models share one eager attention, which moves other bytes: BERT no longer adds a mask that hides nothing,
OPT no longer compares its scores with the least number (whose backward takes five more passes over them), T5 and
SwitchTransformers no longer add bias and mask in place, in one pass. GPT-2 selects by its mask in place of adding one.
The formulas are those of the release 4.35 (November 2023); models that are not named here move what they moved then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import UsageError

if TYPE_CHECKING:
    import torch

#: What ``--attention`` calls it.
CLASSIC = "eager-2023"

_MASKED_ENCODERS = frozenset({"bert", "roberta", "xlm-roberta", "camembert", "electra", "albert", "data2vec-text"})
_T5_LIKE = frozenset({"t5", "mt5", "umt5", "longt5", "switch_transformers"})


def implementation(attention: str) -> str:
    """The name under which transformers knows an attention; the classic one is registered there when it is asked for.

    Raises:
        UsageError: this transformers is too old to be given an attention.
    """
    if attention != CLASSIC:
        return attention
    try:
        from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
    except ImportError as error:
        raise UsageError(f"{CLASSIC} attention needs transformers 4.53 or later; use eager") from error
    ALL_ATTENTION_FUNCTIONS.register(CLASSIC, _attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(CLASSIC, eager_mask)
    return CLASSIC


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    position_bias: torch.Tensor | None = None,
    **ignored: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The interface of transformers' attention functions: (batch, heads, length, head dimension) each."""
    import torch
    from torch.nn import functional

    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (each.repeat_interleave(groups, dim=1) for each in (key, value))
    raw = torch.matmul(query, key.transpose(2, 3))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = _FAMILIES.get(_family(module.config.model_type), _masked)(raw, attention_mask, scale, position_bias)
    weights = functional.dropout(functional.softmax(scores, dim=-1), p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


def _family(model_type: str) -> str:
    if model_type in _MASKED_ENCODERS:
        return "encoder"
    return "t5" if model_type in _T5_LIKE else model_type


def _masked(raw: Any, mask: Any, scale: float, bias: Any) -> Any:
    scores = raw / (1.0 / scale) if scale != 1.0 else raw
    for term in (bias, mask):
        scores = scores if term is None else scores + term
    return scores


def _encoder(raw: Any, mask: Any, scale: float, bias: Any) -> Any:
    """A mask was always there."""
    return _masked(raw, _no_mask(raw) if mask is None else mask, scale, bias)


def _gpt2(raw: Any, mask: Any, scale: float, bias: Any) -> Any:
    import torch

    scores = raw / (1.0 / scale)
    if mask is None:
        return scores
    return torch.where(mask == 0, scores, torch.finfo(scores.dtype).min)


def _opt(raw: Any, mask: Any, scale: float, bias: Any) -> Any:
    """The query came scaled, so ``scale`` is 1."""
    import torch

    scores = raw + (_no_mask(raw) if mask is None else mask)
    return torch.maximum(scores, scores.new_full((), torch.finfo(scores.dtype).min))


def _t5(raw: Any, mask: Any, scale: float, bias: Any) -> Any:
    """Bias and mask were added to each other in the first layer, and the sum to the scores in place in all of them."""
    if bias is None:
        return _masked(raw, mask, scale, bias)
    if not hasattr(bias, "with_mask"):
        bias.with_mask = bias + (_no_mask(raw) if mask is None else mask)
    raw += bias.with_mask
    return raw


def _no_mask(raw: Any) -> Any:
    return raw.new_zeros(raw.shape[0], 1, 1, raw.shape[-1])


_FAMILIES: dict[str, Callable[[Any, Any, float, Any], Any]] = {
    "encoder": _encoder,
    "gpt2": _gpt2,
    "opt": _opt,
    "t5": _t5,
}
