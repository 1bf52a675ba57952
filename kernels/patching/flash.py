"""T5's attentions whole, in one operator: neither scores nor probabilities nor the position bias reach memory.

From layer to layer T5 hands on the position bias that its first layer has made. Here it is the table itself, [buckets,
H], of which each layer's operator makes what it needs; it travels as a tensor, so that reentrant checkpoints know of
it. What the operator does not do (keys of earlier calls in a cache, probabilities that are asked for, masks of heads)
is done by the module's own forward.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..attention import attention as fused_attention
from ..attention_launch import MAX_DIM
from ..attention_position import buckets_by_distance, position_bias
from .attention import check_masks, narrow, split_heads, uses_table
from .cache import cache_in, fill, is_fresh
from .structure import PatchError, Replacement, find, new_forward

if TYPE_CHECKING:
    from torch import nn


def plan(model: nn.Module) -> Iterator[Replacement]:
    """What to replace so that all attentions of a model are fused whole."""
    check_masks(model)
    for path, module in find(model, "T5Attention"):
        if getattr(module, "pruned_heads", None):
            raise PatchError(f"{path} has pruned heads, which cannot be fused")
        width: Any = module.key_value_proj_dim
        if width > MAX_DIM:
            raise PatchError(f"the heads of {path} are {width} wide, but at most {MAX_DIM} can be fused; use softmax")
        yield new_forward(path, module, partial(flash_forward, module))


def flash_forward(
    attention: Any,
    hidden_states: Tensor,
    mask: Tensor | None = None,
    key_value_states: Tensor | None = None,
    position_bias: Tensor | None = None,
    **options: Any,
) -> tuple[Any, ...]:
    """Forward of T5Attention; for the layers after it, it returns the table instead of the position bias."""
    table, cache, crosses = _table(attention, position_bias), cache_in(options), key_value_states is not None
    has_more = cache is not None and not is_fresh(attention, cache, crosses)
    if has_more or _asks_for_more(options) or (position_bias is not None and table is None):
        if table is position_bias is not None:
            position_bias = _whole_bias(attention, position_bias, mask, hidden_states.shape[1])
        return type(attention).forward(
            attention, hidden_states, mask=mask, key_value_states=key_value_states, position_bias=position_bias,
            **options,
        )  # fmt: skip
    source = hidden_states if key_value_states is None else key_value_states
    query, key, value = (
        split_heads(attention, projected)
        for projected in (attention.q(hidden_states), attention.k(source), attention.v(source))
    )
    if cache is not None:
        fill(attention, cache, crosses, key, value)
    mixed = fused_attention(
        query,
        key.to(query.dtype),
        value.to(query.dtype),
        table=None if crosses else table,
        bidirectional=not attention.is_decoder,
        max_distance=attention.relative_attention_max_distance,
        causal=mask is None and getattr(attention, "is_causal", False),
        mask=narrow(mask),
        dropout=attention.dropout if attention.training else 0.0,
    )
    output = attention.o(mixed.flatten(2))
    return (output, table, None) if uses_table() else (output, table)


def _table(attention: Any, handed_on: Tensor | None) -> Tensor | None:
    """The table of position biases, this attention's own or what another has handed on.

    The embedding is called rather than read, so that adapters and hooks on it have their say.
    """
    if handed_on is not None:
        return handed_on if handed_on.dim() == 2 else None
    if not attention.has_relative_attention_bias:
        return None
    embedding = attention.relative_attention_bias
    buckets = torch.arange(attention.relative_attention_num_buckets, device=embedding.weight.device)
    return embedding(buckets)


def _asks_for_more(options: dict[str, Any]) -> bool:
    """Whether options want what the operator does not do."""
    return options.get("layer_head_mask") is not None or bool(options.get("output_attentions"))


def _whole_bias(attention: Any, table: Tensor, mask: Tensor | None, length: int) -> Tensor:
    """The bias [1, H, L, L] that a module's own forward is to be handed on; older releases want the mask in it."""
    buckets = buckets_by_distance(
        table.shape[0], attention.relative_attention_max_distance, not attention.is_decoder, table.device
    )
    bias = position_bias(table, buckets, length, length, 0).to(table.dtype)
    return bias if uses_table() or mask is None else bias + mask
