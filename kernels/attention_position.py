"""T5's position bias as a function of distance: which bucket a distance is in, and back from distances to buckets.

A table has a number for each bucket and head. The bias between a query and a key depends on ``key - query`` alone, and
is constant from ``max_distance`` on, so that a head's whole bias is ``2 max_distance + 1`` numbers, however long the
sequences are.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.nn import functional


def buckets_by_distance(number: int, max_distance: int, bidirectional: bool, device: torch.device) -> Tensor:
    """Bucket of each distance ``key - query`` from ``-max_distance`` to ``max_distance``, int32.

    The logarithm is taken in fp32 and rounded as transformers does, whose weights were trained so.

    Args:
        number: of buckets.
        max_distance: from which on all is one bucket.
        bidirectional: whether keys after a query have buckets of their own; else they get that of distance zero.
        device: where the result lies.
    """
    return _buckets(number, max_distance, bidirectional).to(device)


@functools.cache
def _buckets(number: int, max_distance: int, bidirectional: bool) -> Tensor:
    distance = torch.arange(-max_distance, max_distance + 1)
    each = number // 2 if bidirectional else number
    exact = each // 2
    first = (distance > 0) * each if bidirectional else torch.zeros_like(distance)
    size = distance.abs() if bidirectional else -distance.clamp(max=0)
    growth = torch.log(size.float() / exact) / math.log(max_distance / exact) * (each - exact)
    large = (exact + growth.clamp(min=0).long()).clamp(max=each - 1)
    return (first + torch.where(size < exact, size, large)).int()


def by_distance(table: Tensor, buckets: Tensor) -> Tensor:
    """Bias of each head at each distance, [H, distances], contiguous, in the type that it is added in."""
    wide = torch.float64 if table.dtype == torch.float64 else torch.float32
    return table.to(wide).t().index_select(1, buckets).contiguous()


def position_bias(table: Tensor, buckets: Tensor, queries: int, keys: int, offset: int) -> Tensor:
    """The bias [1, H, Q, K] itself, which torch's path adds to the scores."""
    span = buckets.numel() // 2
    position = torch.arange(queries, device=table.device)[:, None] + offset
    distance = torch.arange(keys, device=table.device) - position
    return by_distance(table, buckets)[:, distance.clamp(-span, span) + span][None]


def table_gradient(slope: Tensor, buckets: Tensor, number: int, offset: int) -> Tensor:
    """Gradient [number, H] of a table from that of the bias, [H, Q, K]; the same each time."""
    queries, keys = slope.shape[-2:]
    span = buckets.numel() // 2
    first = 1 - queries - offset
    distance = torch.arange(first, first + queries + keys - 1, device=slope.device)
    chosen = functional.one_hot(buckets[distance.clamp(-span, span) + span].long(), number)
    return (_along_diagonals(slope)[:, :, None] * chosen).sum(1).t()


def _along_diagonals(slope: Tensor) -> Tensor:
    """Sums [H, Q + K - 1] over equal ``key - query``, the smallest first.

    With queries in reverse, and rows padded and then read as if they were one shorter, diagonals are columns.
    """
    heads, queries, keys = slope.shape
    padded = functional.pad(slope.flip(1), (0, queries)).flatten(1)
    return padded[:, :-queries].view(heads, queries, queries + keys - 1).sum(1)
