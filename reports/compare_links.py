"""Links of a comparison's page: from what is claimed to its rows, and rows of parts that can be chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from .document import Choice, Claim
from .text import UNKNOWN, duration, known

#: Columns by whose values parts can be chosen.
_FACETS = ("phase", "bound", "module", "op", "change")
Part = Mapping[str, Any]


def main_parts(difference: Mapping[str, Any]) -> tuple[Part | None, Part | None]:
    """The phase that explains most of a difference, and the op of it that does; ``None`` where nothing explains it."""
    explained = [entry for entry in difference["phases"] if known(entry["share"])]
    if not explained:
        return None, None
    main = max(explained, key=lambda entry: entry["share"])
    ops = [row for row in difference["ops"] if row["phase"] == main["phase"]]
    return main, max(ops, key=lambda row: row["share"], default=None)


def phase_anchors(difference: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the rows of phases, and last of the step's."""
    side = difference["side"]
    return (*(f"phase-{side}-{place}" for place in range(len(difference["phases"]))), f"step-{side}")


def phase_links(difference: Mapping[str, Any]) -> tuple[str, ...]:
    """Where the rows of phases lead: to their kernels; the step's leads to all of them."""
    place = f"#kernels-{difference['side']}"
    return (*(f"{place}?{_chosen(phase=entry['phase'])}" for entry in difference["phases"]), f"{place}?")


def claims(difference: Mapping[str, Any], lines: Sequence[str]) -> list[tuple[Claim, ...]]:
    """For each headline of a difference, the words that lead to rows.

    Args:
        difference: one of a result.
        lines: its headlines: on the step, on the phase that explains most, and on that phase's op.
    """
    anchors, (main, op) = phase_anchors(difference), main_parts(difference)
    step = difference["step"]
    times = f"{duration(1e3 * step['b_ms'])} against {duration(1e3 * step['a_ms'])}"
    targets = [f"#{anchors[-1]}"]
    if main is not None and op is not None:
        targets.append(f"#{anchors[list(difference['phases']).index(main)]}")
        targets.append(f"#ops-{difference['side']}?{_chosen(phase=main['phase'], op=op['op'])}")
    words = [times, *map(_clause, lines[1:])]
    return [(Claim(text, target),) for text, target in zip(words, targets[: len(lines)])]


def _clause(line: str) -> str:
    """The first clause of a sentence, which says what it is about; numbers follow it."""
    return line.partition(": ")[0].partition(" (")[0].rstrip(".")


def _chosen(**facets: str) -> str:
    return urlencode({name: value.removeprefix("aten::") for name, value in facets.items()})


def bounds_text(part: Part) -> str:
    """What holds a part on either side: ``memory``, or ``memory to compute`` where that changed."""
    found = list(dict.fromkeys(bound for bound in (part.get("a_bound"), part.get("b_bound")) if bound))
    return " to ".join(found) or UNKNOWN


def part_choice(
    level: str,
    difference: Mapping[str, Any],
    parts: Sequence[Part],
    keys: Sequence[str],
    row: Callable[[Part, Sequence[str]], tuple[str, ...]],
) -> Choice:
    """All parts of a level to choose from.

    Args:
        level: name of the table, to which the side is added.
        difference: one of a result.
        parts: of that level.
        keys: columns that a part is known by.
        row: makes the texts of a part.
    """
    facets = tuple(name for name in _FACETS if name in (*keys, "bound", "change"))
    values = tuple((part["a_ms"], part["b_ms"], part["delta_ms"], part["share"]) for part in parts)
    return Choice(f"{level}-{difference['side']}", facets, tuple(row(part, keys) for part in parts), values)
