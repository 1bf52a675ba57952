"""Caches of keys and values, as transformers hands them to T5's attentions."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def cache_in(options: dict[str, Any]) -> Any:
    """The cache among an attention's options, ``None`` without; its name differs between releases."""
    cache = options.get("past_key_values")
    return options.get("cache") if cache is None else cache


def own_cache(cache: Any, crosses: bool) -> Any:
    """The part that a self-attention has of a cache for both kinds, or a cross-attention, which ``crosses``."""
    if not hasattr(cache, "cross_attention_cache"):
        return cache
    return cache.cross_attention_cache if crosses else cache.self_attention_cache


def is_fresh(attention: Any, cache: Any, crosses: bool) -> bool:
    """Whether keys and values at hand are all there are: a growing cache that has nothing yet of this attention.

    Others, such as those of a fixed size, give back more than they are given.
    """
    own, layer = own_cache(cache, crosses), attention.layer_idx
    return type(own).__name__ == "DynamicCache" and layer is not None and own.get_seq_length(layer) == 0


def fill(attention: Any, cache: Any, crosses: bool, key: Tensor, value: Tensor) -> None:
    """Put the first keys and values [B, H, K, D] into a fresh cache."""
    own_cache(cache, crosses).update(key, value, attention.layer_idx)
    if crosses and own_cache(cache, crosses) is not cache:
        cache.is_updated[attention.layer_idx] = True
