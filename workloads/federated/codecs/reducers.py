"""Reducers: which numbers of an update travel at all.

All work on the update as one fp32 vector, whose layout (the shapes of its tensors, in order) both sides know.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ....errors import UpdateError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

#: Every so many values make the sample, a prime so that rows of matrices do not line up with it; how many more than
#: those asked for are taken to be likely, as a factor and in the sample.
_STRIDE, _MARGIN, _SPARE = 97, 1.5, 16

Layout = Sequence[tuple[int, ...]]
#: What a reducer keeps from round to round on one client.
Memory = dict[str, Any]


@dataclass(frozen=True)
class Reducer:
    """One way to choose numbers.

    Attributes:
        name: what the user types.
        title: for people.
        encode: (vector [N], layout, memory) → (the numbers that travel, what says where they belong). It may replace
            entries of its memory, but never change a tensor there: a round that is not used is forgotten.
        decode: (numbers, where, layout) → vector [N].
        kept: layout → how many numbers travel.
        place_bytes: bytes that say where one of these numbers belongs.
        needs_feedback: whether what is left out has to be sent later, for the update to be right in the long run.
    """

    name: str
    title: str
    encode: Callable[[Tensor, Layout, Memory], tuple[Tensor, dict[str, Tensor]]]
    decode: Callable[[Tensor, Mapping[str, Tensor], Layout], Tensor]
    kept: Callable[[Layout], int]
    place_bytes: int = 0
    needs_feedback: bool = False


def size_of(layout: Layout) -> int:
    """Numbers in an update."""
    return sum(math.prod(shape) for shape in layout)


def everything() -> Reducer:
    """All numbers travel."""
    return Reducer(
        "all",
        "all values",
        lambda vector, layout, memory: (vector, {}),
        lambda values, where, layout: values,
        size_of,
    )


def topk(share: float) -> Reducer:
    """The values of largest magnitude (A. Aji and K. Heafield, 2017), with their places as 32-bit numbers.

    Args:
        share: of all values, above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise UsageError(f"topk:{share:g} makes no sense; the share lies above 0 and is at most 1, such as topk:0.01")

    def count(layout: Layout) -> int:
        return min(size_of(layout), max(1, round(share * size_of(layout))))

    def encode(vector: Tensor, layout: Layout, memory: Memory) -> tuple[Tensor, dict[str, Tensor]]:
        import torch

        if vector.numel() > 2**31:
            raise UsageError("topk counts places in 32 bits: updates of more than 2^31 values are too large for it")
        chosen = _largest(vector.abs(), count(layout))
        return vector[chosen], {"places": chosen.to(torch.int32)}

    def decode(values: Tensor, where: Mapping[str, Tensor], layout: Layout) -> Tensor:
        import torch

        places = where.get("places")
        if places is None or places.dtype != torch.int32 or places.shape != values.shape:
            raise UpdateError("the payload's places do not match its values")
        places = places.long()
        size = size_of(layout)
        inside = not places.numel() or (int(places[0]) >= 0 and int(places[-1]) < size)
        if not (inside and bool((places.diff() > 0).all())):
            raise UpdateError(f"the payload's places do not lie in order between 0 and {size - 1}")
        return torch.zeros(size).scatter_(0, places, values)

    return Reducer(f"topk:{share:g}", f"the largest {share:.3g} of all values", encode, decode, count, 4, True)


def _largest(magnitudes: Tensor, count: int) -> Tensor:
    """Places of the largest values, ascending; exact, several times as fast as a search among all of millions.

    A sample says which value is a little too small to be among them; the search is among what is not smaller.
    """
    import torch

    sample = magnitudes[::_STRIDE]
    rank = int(_MARGIN * count * len(sample) / max(1, len(magnitudes))) + _SPARE
    if rank < len(sample):
        likely = (magnitudes >= torch.topk(sample, rank).values[-1]).nonzero().view(-1)
        if len(likely) >= count:
            return likely[torch.topk(magnitudes[likely], count, sorted=False).indices].sort().values
    return torch.topk(magnitudes, count, sorted=False).indices.sort().values


def lowrank(rank: int) -> Reducer:
    """Each matrix as a product of two thin ones, in the manner of PowerSGD (T. Vogels et al., arXiv 1905.13727).

    One power iteration a round, started from the last round's right factor. Vectors, and matrices that would not get
    smaller, travel whole.

    Args:
        rank: of the product.
    """
    if rank < 1:
        raise UsageError(f"lowrank:{rank} makes no sense; the rank is at least 1")

    def count(layout: Layout) -> int:
        return sum(_factored(shape, rank) or math.prod(shape) for shape in layout)

    def encode(vector: Tensor, layout: Layout, memory: Memory) -> tuple[Tensor, dict[str, Tensor]]:
        import torch

        parts = []
        for index, (shape, part) in enumerate(zip(layout, _split(vector, layout))):
            if not _factored(shape, rank):
                parts.append(part)
                continue
            matrix = part.view(shape[0], -1)
            right = memory.get(f"right.{index}")
            if right is None:
                right = torch.randn(matrix.shape[1], rank, generator=torch.Generator().manual_seed(index))
            left = torch.linalg.qr(matrix @ right).Q
            right = matrix.T @ left
            # A right factor of zeros, from an update of zeros, could not start the next iteration.
            memory[f"right.{index}"] = right if bool(right.any()) else None
            parts += [left.reshape(-1), right.reshape(-1)]
        return torch.cat(parts) if parts else vector, {}

    def decode(values: Tensor, where: Mapping[str, Tensor], layout: Layout) -> Tensor:
        import torch

        parts, first = [], 0
        for shape in layout:
            size = _factored(shape, rank) or math.prod(shape)
            part = values[first : first + size]
            first += size
            if _factored(shape, rank):
                rows = shape[0]
                left, right = part[: rows * rank].view(rows, rank), part[rows * rank :].view(-1, rank)
                part = (left @ right.T).reshape(-1)
            parts.append(part)
        return torch.cat(parts) if parts else values

    return Reducer(f"lowrank:{rank}", f"matrices of rank {rank}", encode, decode, count, 0, True)


def _factored(shape: tuple[int, ...], rank: int) -> int:
    """Numbers in the two factors of a matrix; 0 when factoring does not pay."""
    if len(shape) < 2:
        return 0
    rows, columns = shape[0], math.prod(shape[1:])
    numbers = rank * (rows + columns)
    return numbers if rank <= min(rows, columns) and numbers < rows * columns else 0


def _split(vector: Tensor, layout: Layout) -> Sequence[Tensor]:
    return vector.split([math.prod(shape) for shape in layout])


#: What the user types before the colon → (its reducer, from the text behind it; what stands there by default).
REDUCERS: dict[str, tuple[Callable[[str], Reducer], str]] = {
    "topk": (lambda text: topk(float(text)), "0.01"),
    "lowrank": (lambda text: lowrank(int(text)), "4"),
}
