"""T5's attention with everything between its two matrix products in one operator.

Newer transformers look the attention up in a table by the name in the module's configuration; there we stand as
``"edgeroof"``. Older ones compute it inline, and there the whole forward of the module is ours. In both, the position
bias and the mask stay apart: [1, H, Q, K] and [B, 1, Q or 1, K] are little to read beside the scores.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..softmax import softmax
from .cache import own_cache
from .structure import PatchError, Replacement, find, new_forward, stacks, t5_code

if TYPE_CHECKING:
    from torch import nn

#: Our name in transformers' table of attentions.
NAME = "edgeroof"

#: Attentions of transformers whose masks are tensors [B, 1, Q or 1, K], or left out where they are causal.
MASKED_AS_OURS = ("eager", "sdpa")


def plan(model: nn.Module) -> Iterator[Replacement]:
    """What to replace so that all attentions of a model are fused."""
    check_masks(model)
    forward = table_forward if uses_table() else inline_forward
    for path, module in find(model, "T5Attention"):
        if getattr(module, "pruned_heads", None):
            raise PatchError(f"{path} has pruned heads, which cannot be fused")
        yield new_forward(path, module, partial(forward, module))
    if forward is table_forward:
        for stack in stacks(model):
            yield from _plan_table(stack)


def check_masks(model: nn.Module) -> None:
    """Refuse a model whose attentions, as it is set, get masks that ours do not know.

    Raises:
        PatchError: it has one of them.
    """
    for stack in stacks(model):
        chosen = getattr(stack.config, "_attn_implementation", None)
        if chosen is not None and chosen not in MASKED_AS_OURS:
            raise PatchError(
                f"attn_implementation is {chosen!r}, whose masks the fused attentions do not know; set 'sdpa' or "
                "'eager' when the model is loaded, or with model.set_attn_implementation('sdpa')"
            )


def restore(model: nn.Module) -> None:
    """Give the attentions back the configuration of their stack."""
    if not uses_table():
        return
    for stack in stacks(model):
        for attention in _attentions(stack):
            if getattr(attention.config, "_attn_implementation", None) == NAME:
                attention.config = stack.config


def uses_table() -> bool:
    """Whether this release of transformers looks attentions up in a table by name."""
    return hasattr(t5_code(), "eager_attention_forward")


def _plan_table(stack: Any) -> Iterator[Replacement]:
    """The attentions get a configuration of their own: the stack's still says how masks are made, and may be shared."""
    ours = copy.copy(stack.config)
    ours._attn_implementation = NAME
    for attention in _attentions(stack):
        if attention.config is not stack.config:
            raise PatchError("an attention has another configuration than its stack, so it cannot be fused")
        yield Replacement(attention, "config", ours)


def _attentions(stack: Any) -> list[Any]:
    return [module for _, module in find(stack, "T5Attention")]


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    position_bias: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, Tensor]:
    """An attention of transformers' table.

    Args:
        module: the attention it is called for.
        query: [B, H, Q, D].
        key: [B, H, K, D].
        value: [B, H, K, D].
        attention_mask: [B, 1, Q or 1, K], boolean or to be added. For SDPA, transformers leaves a purely causal mask
            out and goes by the module, as we do.
        dropout: of the probabilities.
        scaling: of the scores; T5 has 1.
        position_bias: [1, H, Q, K].
        **others: what other attentions need.

    Returns:
        [B, Q, H, D], and the probabilities after dropout.
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    if _is_cross_attention(module):
        position_bias = None  # transformers gives zeros
    if attention_mask is None and module.is_causal and query.shape[2] > 1:
        attention_mask = causal_mask(query.shape[2], key.shape[2], query.device)
    scores = torch.matmul(query if scaling == 1.0 else query * scaling, key.transpose(2, 3))
    weights = softmax(scores, bias=position_bias, mask=narrow(attention_mask), dropout=dropout)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


def table_forward(attention: nn.Module, *arguments: Any, **options: Any) -> Any:
    """The attention's own forward, which finds :func:`attend`: our name is in the table wherever this was imported."""
    return type(attention).forward(attention, *arguments, **options)


def inline_forward(
    attention: Any,
    hidden_states: Tensor,
    mask: Tensor | None = None,
    key_value_states: Tensor | None = None,
    position_bias: Tensor | None = None,
    past_key_values: Any = None,
    layer_head_mask: Tensor | None = None,
    query_length: Any = None,
    use_cache: bool = False,
    output_attentions: bool = False,
    cache_position: Tensor | None = None,
    **others: Any,
) -> tuple[Any, ...]:
    """Forward of the attention where transformers has no table; arguments and results are those of T5Attention.

    The position bias it returns for the layers after it does not contain the mask, which they are given anyway.
    """
    query = split_heads(attention, attention.q(hidden_states))
    key, value = _keys_and_values(attention, hidden_states, key_value_states, past_key_values, cache_position)
    if position_bias is None and attention.has_relative_attention_bias:
        position_bias = attention.compute_bias(
            query.shape[2], key.shape[2], device=query.device, cache_position=cache_position
        )
    scores = torch.matmul(query, key.transpose(2, 3))
    mask = None if mask is None else narrow(mask[:, :, :, : key.shape[2]])
    dropout = attention.dropout if attention.training else 0.0
    weights = softmax(scores, bias=position_bias, mask=mask, dropout=dropout)
    if layer_head_mask is not None:
        weights = weights * layer_head_mask
    mixed = torch.matmul(weights, value).transpose(1, 2).contiguous().flatten(2)
    return (attention.o(mixed), position_bias, *((weights,) if output_attentions else ()))


def _keys_and_values(
    attention: Any, hidden_states: Tensor, encoded: Tensor | None, cache: Any, position: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Keys and values [B, H, K, D], of ``encoded`` in a cross-attention, through the cache where there is one."""
    crosses, layer = encoded is not None, attention.layer_idx
    own = own_cache(cache, crosses)
    if crosses and own is not cache and cache.is_updated.get(layer):
        return own.layers[layer].keys, own.layers[layer].values
    source = hidden_states if encoded is None else encoded
    key, value = split_heads(attention, attention.k(source)), split_heads(attention, attention.v(source))
    if cache is not None:
        key, value = own.update(key, value, layer, {"cache_position": None if crosses else position})
        if crosses and own is not cache:
            cache.is_updated[layer] = True
    return key, value


def split_heads(attention: Any, projected: Tensor) -> Tensor:
    """[B, L, H D] as [B, H, L, D]."""
    return projected.unflatten(2, (attention.n_heads, attention.key_value_proj_dim)).transpose(1, 2)


def causal_mask(queries: int, keys: int, device: torch.device) -> Tensor:
    """True where a query may attend, bool of [1, 1, Q, K]; further keys are room that a cache has yet to fill."""
    return torch.ones(1, 1, queries, keys, dtype=torch.bool, device=device).tril()


def _is_cross_attention(module: Any) -> bool:
    return module.is_decoder and not module.is_causal


def narrow(mask: Tensor | None) -> Tensor | None:
    """A mask that is the same for all queries, with one row for them."""
    expanded = mask is not None and mask.dim() == 4 and mask.stride(2) == 0
    return mask[:, :, :1] if mask is not None and expanded else mask


def _register() -> None:
    """Put ourselves into transformers' table, which changes nothing for models that do not name us."""
    try:
        from transformers import AttentionInterface
    except ImportError:  # a release without a table has no use for it
        return
    AttentionInterface.register(NAME, attend)


_register()
