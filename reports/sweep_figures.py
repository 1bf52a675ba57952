"""Figures of a sweep: curves over an axis of numbers, or a bar for each point where the axes are names."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..profiler.schema import BOUNDS
from ..sweep_points import KNEE_SHARE, TITLES, fits, series, varied, x_axis
from .document import Bar, Bars, Block, Flag, Line, Lines, Paragraph, Part, Point, Section
from .text import binary_bytes, duration, known, number, percent

_KNEE = (
    f"The knee is the least value that reaches {percent(KNEE_SHARE)} of the best tokens/s of its line, among points "
    "that fit into memory. It counts tokens with padding: without it, a batch's few dialogues would bend the curve."
)
_ENERGY = "Projected: the range between what the board is assumed to draw at rest and the budget of its power mode."
_THROUGHPUT = "Tokens with padding"
#: The largest value of an x axis over its least, from which on the axis is logarithmic.
_WIDE = 8
_GIB = 2.0**-30

Entry = Mapping[str, Any]


def called(axis: str) -> str:
    """An axis as people call it."""
    return TITLES.get(axis, axis.replace("_", " "))


def point_anchor(result: Entry, point: Entry) -> str:
    """Name of a point's row in the table of points."""
    names = [other["name"] for other in result["points"]]
    return f"point-{names.index(point['name'])}"


def knee_point(result: Entry, knee: Entry) -> Entry:
    """The point that a knee lies at."""
    line = series(result["axes"], result["points"])[knee["series"]]
    return next(point for point in line if point["config"][knee["axis"]] == knee["at"])


def figure_section(result: Entry) -> list[Section]:
    """Curves or bars of the points that have run; nothing where none has, or where there is only one."""
    ran = [point for point in result["points"] if point["status"] == "finished"]
    energy = [Paragraph(_ENERGY, "quiet")] if result["projected"] else []
    if not ran or not varied(result["axes"]):
        return []
    if x_axis(result["axes"]):
        blocks: tuple[Block, ...] = (*_curves(result), Paragraph(_KNEE, "quiet"), *energy)
        return [Section("Curves", blocks, lead="points that have run")]
    lead = f"points that have run, by {', '.join(map(called, varied(result['axes'])))}"
    return [Section("Side by side", (*_bar_figures(result, ran), *energy), lead=lead)]


_FIGURES: tuple[tuple[str, str, Callable[[Entry], Point | None]], ...] = (
    ("Step time", "ms", lambda point: _ranged(point["step_ms"])),
    ("Model FLOP utilisation", "MFU, %", lambda point: _plain(point["mfu"], 100)),
    (_THROUGHPUT, "tokens/s", lambda point: _plain(point["padded_tokens_per_s"])),
    ("Tokens that are no padding", "tokens/s", lambda point: _plain(point["tokens_per_s"])),
    ("Energy efficiency", "tokens/s/W", lambda point: _ranged(point["tokens_per_s_per_w"])),
    ("Peak memory", "GiB", lambda point: _plain(point["peak_memory_bytes"], _GIB)),
)


def _curves(result: Entry) -> Iterator[Lines]:
    lines = series(result["axes"], result["points"])
    for figure in _FIGURES:
        drawn = _figure(result, lines, *figure)
        if drawn:
            yield drawn
    for name, line in lines.items():
        yield _bound_figure(result, name, line)


def _ranged(value: Entry | None) -> Point | None:
    """A value with its range; without a value, the middle of the range on a logarithmic scale."""
    if value is None:
        return None
    middle = value["value"] if known(value["value"]) else math.sqrt(value["low"] * value["high"])
    return Point(0.0, middle, value["low"], value["high"])


def _plain(value: float | None, factor: float = 1.0) -> Point | None:
    return None if value is None else Point(0.0, value * factor)


def _figure(
    result: Entry,
    lines: Mapping[str, Sequence[Entry]],
    caption: str,
    unit: str,
    value: Callable[[Entry], Point | None],
) -> Lines | None:
    """One number of every point over the x axis; nothing where no point has it."""
    axis = x_axis(result["axes"])
    assert axis is not None
    drawn = []
    for name, line in lines.items():
        found = [(point["config"][axis], value(point)) for point in line]
        points = tuple(Point(float(x), y.y, y.low, y.high) for x, y in found if y is not None)
        drawn += [Line(name, points, result["numbers"])] if points else []
    flags = _knee_flags(result, list(lines)) if caption == _THROUGHPUT else ()
    return Lines(caption, called(axis), unit, tuple(drawn), x_log=_wide(result), flags=flags) if drawn else None


def _wide(result: Entry) -> bool:
    """Whether the values of the x axis lie so far apart that the small ones would crowd on a linear axis."""
    values = result["axes"][x_axis(result["axes"])]
    return bool(max(values) >= _WIDE * min(values) > 0)


def _knee_flags(result: Entry, names: Sequence[str]) -> tuple[Flag, ...]:
    """The knee of every line that has one."""
    return tuple(
        Flag(float(knee["at"]), _knee_name(knee), names.index(knee["series"]))
        for knee in result["knees"]
        if not knee["rising"]
    )


def _knee_name(knee: Entry) -> str:
    of = "" if knee["series"] == "all" else f" of {knee['series']}"
    return f"knee{of} at {knee['at']}"


def _bound_figure(result: Entry, name: str, line: Sequence[Entry]) -> Lines:
    axis = x_axis(result["axes"])
    assert axis is not None
    present = [bound for bound in BOUNDS if any(point["bounds"].get(bound) for point in line)]
    lines = tuple(
        Line(
            bound,
            tuple(Point(float(point["config"][axis]), 100 * point["bounds"].get(bound, 0.0)) for point in line),
            result["numbers"],
        )
        for bound in present
    )
    of = "" if name == "all" else f" of {name}"
    return Lines(f"Kernel time{of} by what holds it", called(axis), "%", lines, x_log=_wide(result))


#: Parts of a bar, and its value in words.
_Drawn = tuple[tuple[Part, ...], str]


def _step_bar(point: Entry) -> _Drawn:
    step = point["step_ms"]
    low, high = (duration(1e3 * step[end]) for end in ("low", "high"))
    return (Part("step", step["value"]),), f"{duration(1e3 * step['value'])} ({low} to {high})"


def _energy_bar(point: Entry) -> _Drawn:
    """A value; or what is certain of a range and, hatched, how far it reaches."""
    found = point["tokens_per_s_per_w"]
    if not found or known(found["value"]):
        value = found and found["value"]
        return _one_part("tokens/s/W", value, number(value))
    parts = Part("at least", found["low"]), Part("at most", found["high"] - found["low"], "idle")
    return parts, f"{number(found['low'])} to {number(found['high'])}"


def _bound_bar(point: Entry) -> _Drawn:
    bounds = point["bounds"]
    parts = tuple(Part(bound, 100 * bounds[bound], bound) for bound in BOUNDS if bounds.get(bound))
    largest = sorted(bounds.items(), key=lambda entry: -entry[1])[:2]
    return parts, ", ".join(f"{bound} {percent(share)}" for bound, share in largest)


def _one_part(label: str, value: float | None, text: str) -> _Drawn:
    return ((Part(label, value),) if value is not None and known(value) else ()), text


def _rate_bar(value: float | None) -> _Drawn:
    return _one_part("tokens/s", value, number(value))


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


_BARS: tuple[tuple[str, str, Callable[[Entry], _Drawn]], ...] = (
    ("Step time", "ms", _step_bar),
    ("Model FLOP utilisation", "%", lambda p: _one_part("MFU", _scaled(p["mfu"], 100), percent(p["mfu"]))),
    (_THROUGHPUT, "tokens/s", lambda p: _rate_bar(p["padded_tokens_per_s"])),
    ("Tokens that are no padding", "tokens/s", lambda p: _rate_bar(p["tokens_per_s"])),
    ("Energy efficiency", "tokens/s/W", _energy_bar),
    (
        "Peak memory",
        "GiB",
        lambda p: _one_part("peak", _scaled(p["peak_memory_bytes"], _GIB), binary_bytes(p["peak_memory_bytes"])),
    ),
    ("Kernel time by what holds it", "%", _bound_bar),
)


def _bar_figures(result: Entry, ran: Sequence[Entry]) -> Iterator[Bars]:
    """A figure for each number that any point has, with a bar for each point."""
    for caption, unit, drawn in _BARS:
        bars = tuple(_bar(result, point, *drawn(point)) for point in ran)
        present = {part.style for bar in bars for part in bar.parts}
        legend = tuple((bound, bound) for bound in BOUNDS if bound in present)
        if present:
            yield Bars(caption, bars, unit, legend)


def _bar(result: Entry, point: Entry, parts: tuple[Part, ...], text: str) -> Bar:
    names = [str(point["config"][axis]) for axis in varied(result["axes"])]
    note = "" if fits(point) else "would not fit"
    return Bar(", ".join(names), parts, text, note, href=f"#{point_anchor(result, point)}")
