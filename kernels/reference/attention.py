"""T5's attention in float64, from its definition."""

from __future__ import annotations

import torch
from torch import Tensor

from .softmax import softmax_reference


def attention_reference(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    causal: bool = False,
    offset: int = 0,
    factors: Tensor | None = None,
) -> Tensor:
    """Averages [B, Q, H, D] in float64, differentiable by autograd.

    Args:
        query: [B, H, Q, D].
        key: [B, H, K, D].
        value: [B, H, K, D].
        bias: [1, H, Q, K], added to the scores, which are not scaled.
        mask: boolean (True takes part) or to be added.
        causal: whether only keys up to a query's own position take part.
        offset: position of the first query among the keys.
        factors: [B, H, Q, K], what dropout multiplies the probabilities by.
    """
    scores = query.double() @ key.double().mT
    if causal:
        position = torch.arange(scores.shape[2], device=scores.device)[:, None] + offset
        scores = scores.masked_fill(torch.arange(scores.shape[3], device=scores.device) > position, -torch.inf)
    probabilities = softmax_reference(scores, bias, mask)
    if factors is not None:
        probabilities = probabilities * factors.double()
    return (probabilities @ value.double()).transpose(1, 2)


def position_bias_reference(
    table: Tensor, queries: int, keys: int, *, bidirectional: bool, max_distance: int, offset: int = 0
) -> Tensor:
    """T5's position bias [1, H, Q, K] in float64, distance by distance in Python's own arithmetic.

    Half the buckets of a direction are for the smallest distances, one each; the others grow as the logarithm of the
    distance, up to ``max_distance`` (C. Raffel et al., arXiv 1910.10683, section 2.1).

    Args:
        table: [number of buckets, H].
        queries: Q.
        keys: K.
        bidirectional: whether keys before and after a query have buckets of their own; else those after get the first.
        max_distance: from which on all is one bucket.
        offset: position of the first query among the keys.
    """
    each = table.shape[0] // 2 if bidirectional else table.shape[0]
    exact = each // 2

    def bucket(distance: int) -> int:
        first = each if bidirectional and distance > 0 else 0
        size = abs(distance) if bidirectional else max(0, -distance)
        if size >= exact:
            # The largest n with exact * (max_distance / exact) ** (n / (each - exact)) <= size, in whole numbers.
            steps = each - exact
            size = exact + sum(size**steps >= max_distance**n * exact ** (steps - n) for n in range(1, steps))
        return first + size

    numbers = {distance: bucket(distance) for distance in range(-queries - offset, keys - offset)}
    rows = [[numbers[key - query - offset] for key in range(keys)] for query in range(queries)]
    indices = torch.tensor(rows, dtype=torch.int64, device=table.device).reshape(queries, keys)
    return table.double()[indices].permute(2, 0, 1)[None]
