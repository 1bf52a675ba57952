"""Alignment of the recorded step with a profiled one: which op event is which op record.

Both passes run the same step, so their op sequences are nearly equal, but not quite: gradient accumulation is out of
place under a dispatch mode, and a few scalar ops come and go. A greedy walk derails at the first such difference, so
the sequences are aligned by a shortest edit script (E. W. Myers, "An O(ND) difference algorithm and its variations",
Algorithmica 1, 1986).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from .ops import OpRecord, TensorMeta

#: Beyond this many differences the sequences are not of the same step, and nothing is aligned.
MAX_DIFFERENCES = 2000


@dataclass(frozen=True)
class Alignment:
    """Result for one profiled step.

    ``pairs`` holds (record index, event index) in order; ``only_recorded`` and ``only_profiled`` name the ops left
    over.
    """

    recorded: int
    profiled: int
    pairs: tuple[tuple[int, int], ...]
    only_recorded: tuple[str, ...] = field(default=())
    only_profiled: tuple[str, ...] = field(default=())

    @property
    def matched_share(self) -> float:
        """Share of the profiled events that found their record; 1.0 when there are none."""
        return len(self.pairs) / self.profiled if self.profiled else 1.0


def op_key(name: str, first_shape: tuple[int, ...] | None) -> Hashable:
    """What both passes know of an op: its name without the in-place mark, and its first tensor's shape."""
    return name.rstrip("_"), first_shape


def first_shape(record: OpRecord) -> tuple[int, ...] | None:
    """Shape of the record's first argument when that is a tensor."""
    first = record.args[0] if record.args else None
    return first.shape if isinstance(first, TensorMeta) else None


def align(recorded: Sequence[Hashable], profiled: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Pairs of equal elements along a shortest edit script.

    Args:
        recorded: keys of the first sequence.
        profiled: keys of the second sequence.

    Returns:
        Index pairs, increasing in both; empty when more than :data:`MAX_DIFFERENCES` edits would be needed.
    """
    start = 0
    shorter = min(len(recorded), len(profiled))
    while start < shorter and recorded[start] == profiled[start]:
        start += 1
    end = 0
    while end < shorter - start and recorded[-1 - end] == profiled[-1 - end]:
        end += 1
    middle = _edit_script(recorded[start : len(recorded) - end], profiled[start : len(profiled) - end])
    if middle is None:
        return []
    head = [(i, i) for i in range(start)]
    tail = [(len(recorded) - i, len(profiled) - i) for i in range(end, 0, -1)]
    return head + [(start + i, start + j) for i, j in middle] + tail


def _edit_script(left: Sequence[Hashable], right: Sequence[Hashable]) -> list[tuple[int, int]] | None:
    """Myers' greedy forward search; remembers the frontier of every round to walk back along it."""
    if not left or not right:
        return []
    frontier = {1: 0}
    history: list[dict[int, int]] = []
    for differences in range(min(len(left) + len(right), MAX_DIFFERENCES) + 1):
        history.append(dict(frontier))
        for diagonal in range(-differences, differences + 1, 2):
            x = _advance(frontier, diagonal, differences)
            while x < len(left) and x - diagonal < len(right) and left[x] == right[x - diagonal]:
                x += 1
            frontier[diagonal] = x
            if x >= len(left) and x - diagonal >= len(right):
                return _walk_back(history, len(left), len(right))
    return None


def _advance(frontier: dict[int, int], diagonal: int, differences: int) -> int:
    """Furthest start on ``diagonal`` after one more edit: down from the diagonal above, or right from the one below."""
    if _came_down(frontier, diagonal, differences):
        return frontier[diagonal + 1]
    return frontier[diagonal - 1] + 1


def _walk_back(history: list[dict[int, int]], x: int, y: int) -> list[tuple[int, int]]:
    pairs: list[tuple[int, int]] = []
    for differences in range(len(history) - 1, -1, -1):
        frontier = history[differences]
        diagonal = x - y
        start_x = _advance(frontier, diagonal, differences)
        while x > start_x and y > start_x - diagonal:
            x, y = x - 1, y - 1
            pairs.append((x, y))
        if differences == 0:
            break
        if _came_down(frontier, diagonal, differences):
            y -= 1
        else:
            x -= 1
    return pairs[::-1]


def _came_down(frontier: dict[int, int], diagonal: int, differences: int) -> bool:
    return diagonal == -differences or (
        diagonal != differences and frontier.get(diagonal - 1, -1) < frontier.get(diagonal + 1, -1)
    )
