"""Figures of a comparison: the waterfall from one step to the other, and all roofs in one plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .compare_links import phase_anchors
from .document import Bar, Bars, Line, Lines, Paragraph, Part, Point, Section
from .text import duration, known, percent

#: Room left and right of the points on the axis of intensities.
_MARGIN = 2.0
#: Decimals of milliseconds and of shares beyond which there is nothing but the rounding of sums.
_DIGITS = 9


def without_residue(value: float) -> float:
    """A time in ms, or a share, without what is left of sums that are zero; never minus zero."""
    return round(value, _DIGITS) + 0.0


def letter(side: Mapping[str, Any]) -> str:
    """The short name of a side: its letter."""
    return str(side["label"].partition(":")[0].partition(" ×")[0])


def waterfall(first: Mapping[str, Any], other: Mapping[str, Any], difference: Mapping[str, Any]) -> Bars:
    """From the first side's step to the other's, phase by phase."""
    step = difference["step"]
    bars = [Bar(letter(first), (Part("step", step["a_ms"], "phase"),), duration(1e3 * step["a_ms"]))]
    reached = step["a_ms"]
    for entry, anchor in zip(difference["phases"], phase_anchors(difference)):
        if without_residue(entry["delta_ms"]):
            bars.append(_change_bar(entry, reached, f"#{anchor}"))
            reached += entry["delta_ms"]
    bars.append(Bar(letter(other), (Part("step", step["b_ms"], "phase"),), duration(1e3 * step["b_ms"])))
    legend = (("good", "less time"), ("inefficient", "more time"))
    caption = f"From a step of {letter(first)} to a step of {letter(other)}"
    return Bars(caption, tuple(bars), "ms", legend)


def _change_bar(entry: Mapping[str, Any], reached: float, href: str) -> Bar:
    delta = entry["delta_ms"]
    start = max(min(reached, reached + delta), 0.0)
    style = "good" if delta < 0 else "inefficient"
    share = f" ({percent(entry['share'])})" if known(entry["share"]) else ""
    text = f"{'+' if delta > 0 else ''}{duration(1e3 * delta)}{share}"
    parts = (Part("starts at", start, "blank"), Part(entry["phase"], abs(delta), style))
    return Bar(entry["phase"], parts, text, href=href)


def rooflines(sides: Sequence[Mapping[str, Any]]) -> list[Section]:
    """All sides in one plane: a roof each, and a point for each op of a phase; nothing where no cost is known."""
    shown = [side for side in sides if side["points"]]
    if not shown:
        return []
    at = [point["intensity"] for side in shown for point in side["points"]]
    lines = [line for side in shown for line in _side_lines(side, min(at) / _MARGIN, max(at) * _MARGIN)]
    figure = Lines(
        "Ops of each phase, those with most time, under the roof that their run was judged by",
        "FLOP per byte", "GFLOP/s", tuple(lines), x_log=True, y_log=True, joined=False,
    )  # fmt: skip
    note = (
        "Roofs are lines, ops are points. The peak of a roof is that of the run's precision; other types have others."
    )
    return [Section("Under the roof", (figure, Paragraph(note, "quiet")), lead="all sides in one plane")]


def _side_lines(side: Mapping[str, Any], left: float, right: float) -> list[Line]:
    points = tuple(Point(point["intensity"], point["gflops"]) for point in side["points"])
    lines = [Line(f"{letter(side)}: ops", points, side["kind"])]
    roof = side["roof"]
    if roof:
        name = f"{letter(side)}: {roof['source']} roof, {roof['peak']}"
        lines.append(Line(name, _roof_points(roof, left, right), side["kind"], joined=True))
    return lines


def _roof_points(roof: Mapping[str, Any], left: float, right: float) -> tuple[Point, ...]:
    ridge = roof["gflops"] / roof["bandwidth_gbs"]
    xs = sorted({left, min(max(ridge, left), right), right})
    return tuple(Point(x, min(roof["gflops"], x * roof["bandwidth_gbs"])) for x in xs)
