"""Runs compared: side by side, phase by phase and kernel by kernel, with intervals where runs or steps repeat.

result = edgeroof.compare.compare_paths([["runs/foreach"], ["runs/fused"]])
edgeroof.compare.save(result, "runs/compare-foreach-fused")
"""

from __future__ import annotations

import datetime
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UsageError
from .result_files import read_result, write_result

if TYPE_CHECKING:
    from .kernels.statistics import Comparison
    from .profiler.comparison.side import Side
    from .profiler.run import Run

RESULT_FILE = "compare.json"
SCHEMA_VERSION = 1
#: Shorter beginnings of names do not tell one side from another.
_FEWEST_LETTERS = 3
#: The levels that kernels are matched at, from coarse to fine.
LEVELS = {
    "ops": ("phase", "op"),
    "modules": ("phase", "op", "module"),
    "kernels": ("phase", "op", "module", "shapes"),
}


def compare_paths(sides: Sequence[Sequence[str | Path]], *, mixed: bool = False, command: str = "") -> dict[str, Any]:
    """Compare run folders; :func:`compare` says how.

    Args:
        sides: folders of each side. A single list of single folders is grouped: repeated runs of one configuration
            become one side.
        mixed: allow measured beside projected runs.
        command: how to make the result again.

    Raises:
        RunError: a folder cannot be read.
        UsageError: see :func:`compare`.
    """
    from .profiler.comparison.side import group_repeated
    from .profiler.run import load

    _check_distinct([Path(path) for side in sides for path in side])
    loaded = [[load(path) for path in side] for side in sides]
    if all(len(side) == 1 for side in loaded):
        loaded = group_repeated([side[0] for side in loaded])
    return compare(loaded, mixed=mixed, command=command)


def compare(sides: Sequence[Sequence[Run]], *, mixed: bool = False, command: str = "") -> dict[str, Any]:
    """Compare two or more sides, each a run or repeated runs of one configuration, with the first.

    Args:
        sides: the runs.
        mixed: allow measured beside projected runs; the report then says so.
        command: how to make the result again.

    Returns:
        The JSON-ready result; ``docs/comparing.md`` explains its entries.

    Raises:
        UsageError: fewer than two sides, a run named twice, a side of several configurations, or measured and
            projected runs unasked.
    """
    from .profiler.comparison.breakdown import has_step_time
    from .profiler.comparison.side import Side
    from .profiler.environment import describe_environment

    _check(sides, mixed)
    bare = all(has_step_time(run) for side in sides for run in side)
    labelled = [Side(label, tuple(side), bare) for label, side in zip(_labels(sides), sides)]
    kinds = {side.kind for side in labelled}
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "compare",
        "numbers": _numbers(kinds),
        "bare": bare,
        "sides": [_side(side) for side in labelled],
        "differences": [_difference(labelled[0], other, place) for place, other in enumerate(labelled) if place],
        "settings": _settings(sides),
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        "environment": describe_environment(),
    }


@dataclass(frozen=True)
class Gate:
    """Whether a comparison is let through, and why in one line."""

    failed: bool
    line: str


def gate(result: dict[str, Any], percent: float) -> Gate:
    """Whether a step of some side is slower than the first's by more than ``percent``.

    A side fails if its change is larger and its verdict SLOWER; where there are no verdicts the change decides alone.

    Args:
        result: of :func:`compare`.
        percent: of the first side's step.
    """
    steps = [(result["sides"][difference["side"]]["label"], difference["step"]) for difference in result["differences"]]
    slower = [step for _, step in steps if _is_slower(step, percent)]
    told = "; ".join(f"{label} {_change_text(step)}" for label, step in steps)
    why = "failed, a step is slower" if slower else "passed, no step is surely slower"
    return Gate(bool(slower), f"gate: {why} by more than {percent:g} %: {told}")


def _is_slower(step: dict[str, Any], percent: float) -> bool:
    beyond = step["change"] is not None and step["change"] > percent / 100
    return beyond and step["verdict"] in (None, "SLOWER")


def _change_text(step: dict[str, Any]) -> str:
    change = "not known" if step["change"] is None else f"{100 * step['change']:+.1f} %"
    return f"{change} ({step['verdict'] or 'no verdict'})"


def save(result: dict[str, Any], path: str | Path) -> Path:
    """Write ``compare.json`` and ``report.html`` to a folder, which is put in place when whole.

    Raises:
        RunError: the folder holds something else, or cannot be written.
    """
    from .reports import document_html
    from .reports.compare import compare_document

    report = document_html.render(compare_document(result))
    return write_result(result, path, RESULT_FILE, report, what="a comparison of runs")


def load(path: str | Path) -> dict[str, Any]:
    """Read a result from its folder or its ``compare.json``.

    Raises:
        RunError: there is none, it is damaged, or of another version.
    """
    return read_result(
        path,
        RESULT_FILE,
        kind="compare",
        version=SCHEMA_VERSION,
        what="the comparison",
        none="no comparison",
        remedy="compare again",
    )


def _check_distinct(places: Sequence[Path]) -> None:
    """A run beside itself would be taken for runs that repeat without any scatter."""
    seen: dict[Path, Path] = {}
    for place in places:
        first = seen.get(place.resolve())
        if first is not None:
            raise UsageError(f"{place} and {first} are the same run, which is no repetition: name each run once")
        seen[place.resolve()] = place


def _numbers(kinds: set[str]) -> str:
    """What kind of numbers the sides hold together."""
    if len(kinds) == 1:
        return next(iter(kinds))
    return "mixed" if "projected" in kinds else "imported"


def _check(sides: Sequence[Sequence[Run]], mixed: bool) -> None:
    from .profiler.comparison.side import differing

    if len(sides) < 2 or not all(sides):
        raise UsageError("a comparison needs two runs at least: edgeroof compare RUN RUN")
    runs = [run for side in sides for run in side]
    _check_distinct([run.path for run in runs if run.path])
    if len({id(run) for run in runs}) < len(runs):
        raise UsageError("the same run twice is no repetition: give each run once")
    for side in sides:
        names = differing(side)
        if names:
            raise UsageError(f"repeated runs must be of one configuration; these differ in {', '.join(names)}")
    projected = [run.summary["kind"] == "projected" for side in sides for run in side]
    if any(projected) and not all(projected) and not mixed:
        raise UsageError(
            "some of these runs were measured and some projected: add --mixed to compare them all the same"
        )


def _labels(sides: Sequence[Sequence[Run]]) -> list[str]:
    """A letter for each side, with the name of its folder, or what the names of its folders begin with."""
    letters = [chr(ord("A") + place) if place < 26 else f"run {place + 1}" for place in range(len(sides))]
    names = [_common_name([run.path.name if run.path else "" for run in side]) for side in sides]
    repeated = [f" ×{len(side)}" if len(side) > 1 else "" for side in sides]
    return [
        f"{letter}: {name}{times}" if name else f"{letter}{times}"
        for letter, name, times in zip(letters, names, repeated)
    ]


def _common_name(names: Sequence[str]) -> str:
    """The name, or what several have in common at their beginning; the first of them where that says nothing."""
    if len(names) == 1:
        return names[0]
    alike = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*names))
    common = "".join(letters[0] for letters in alike).rstrip("-_. ")
    return common if len(common) >= _FEWEST_LETTERS else names[0]


def _side(side: Side) -> dict[str, Any]:
    from .profiler.comparison.points import roof_used, roofline_points

    described = side.describe()
    precision = (described["workload"] or {}).get("precision")
    return described | {
        "roof": roof_used(described["device"], precision),
        "points": roofline_points(side.parts),
    }


def _settings(sides: Sequence[Sequence[Run]]) -> list[dict[str, Any]]:
    """What the sides were run with and differ in."""
    from .profiler.comparison.side import differing, settings_of, versions_of

    firsts = [side[0] for side in sides]
    every = [settings_of(run) | versions_of(run) for run in firsts]
    return [
        {"name": name, "values": [settings.get(name) for settings in every]}
        for name in differing(firsts, versions=True)
    ]


def _difference(first: Side, other: Side, place: int) -> dict[str, Any]:
    """The step, its phases and its kernels against the first side's."""
    from .profiler.comparison.breakdown import held_parts
    from .profiler.comparison.differences import match, matched_share, with_bounds

    step = _change(first.step_ms, other.step_ms)
    total = step["delta_ms"]
    held = [held_parts(side.runs) for side in (first, other)]
    levels = {name: with_bounds(match(first.parts, other.parts, keys), held, keys) for name, keys in LEVELS.items()}
    explains = bool(levels["ops"]["share"].notna().all())
    phases = dict.fromkeys([*first.phases, *other.phases])
    return {
        "side": place,
        "samples": "runs" if _repeated(first, other) else "steps",
        "step": step | _judged(first, other, None, step),
        "phases": [_phase(first, other, phase, total if explains else None) for phase in phases],
        "matched_share": matched_share(levels["kernels"]),
        **{name: [_finite(row) for row in matched.to_dict("records")] for name, matched in levels.items()},
    }


def _phase(first: Side, other: Side, phase: str, total: float | None) -> dict[str, Any]:
    """A phase of both, with its share of the step's difference ``total``; ``None``: that explains nothing."""
    change = _change(first.phases.get(phase, 0.0), other.phases.get(phase, 0.0))
    return {
        "phase": phase,
        **change,
        **_judged(first, other, phase, change),
        "share": None if total is None else change["delta_ms"] / total,
    }


def _change(first: float, other: float) -> dict[str, Any]:
    return {
        "a_ms": first,
        "b_ms": other,
        "delta_ms": other - first,
        "change": other / first - 1 if first > 0 else None,
    }


def _repeated(first: Side, other: Side) -> bool:
    return min(len(first.runs), len(other.runs)) > 1


def _judged(first: Side, other: Side, phase: str | None, change: dict[str, Any]) -> dict[str, Any]:
    """The interval around the change of time, and the verdict on the other side; ``None`` where nothing repeats.

    A projection has no noise: what is uncertain about it is its model, which both sides may share.
    """
    from .kernels.statistics import BETWEEN_RUNS, RESOLUTION, compare_independent

    nothing = {"interval": None, "verdict": None}
    if "projected" in (first.kind, other.kind):
        return nothing
    of_runs = _repeated(first, other)
    base, judged = (side.samples(phase, of_runs=of_runs) for side in (first, other))
    typical = change["a_ms"], change["b_ms"]
    floor = RESOLUTION if of_runs else BETWEEN_RUNS
    compared = compare_independent(base, judged, floor, typical, medians=not of_runs)
    if compared is None:
        return nothing
    return {"interval": _as_change(compared), "verdict": compared.verdict}


def _as_change(compared: Comparison) -> dict[str, float]:
    """A ratio base / other as the change of time from base to other: 0.25 takes a quarter longer."""
    return {"value": 1 / compared.ratio - 1, "low": 1 / compared.high - 1, "high": 1 / compared.low - 1}


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """A row as JSON can hold it: what is no number is ``None``."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()
    }


__all__ = ["Gate", "compare", "compare_paths", "gate", "load", "save"]
