"""The report of a sweep: curves over its axis, the knee of each, and what became of every point."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..profiler.schema import BOUNDS
from ..sweep_points import KNEE_SHARE, fits, series, x_axis
from .document import Document, Line, Lines, Paragraph, Point, Section, Table
from .text import UNKNOWN, binary_bytes, count, duration, known, number, percent

_TITLES = {"batch_size": "batch size", "source_length": "source tokens"}
_KNEE = (
    f"The knee is the least value that reaches {percent(KNEE_SHARE)} of the best tokens/s of its line, among points "
    "that fit into memory."
)
_ENERGY = "Projected: the range between what the board is assumed to draw at rest and the budget of its power mode."


def sweep_document(result: Mapping[str, Any]) -> Document:
    """The report of a result of :func:`edgeroof.sweep.run`."""
    sections = [_curves(result)] if x_axis(result["axes"]) else []
    return Document(
        name="sweep",
        title=_title(result),
        kind=result["numbers"],
        headlines=tuple(_headlines(result)),
        sections=(*sections, _points(result)),
        setting=" · ".join(f"{name} {value}" for name, value in result["base"].items() if value is not None),
        warnings=tuple(_warnings(result)),
        command=result["command"],
        created=result["created"],
        files=(
            ("report.html", "this report with its figures"),
            ("sweep.json", "the numbers of every point"),
            ("points/", "the run of every point; the same command goes on from there"),
        ),
    )


def _title(result: Mapping[str, Any]) -> str:
    device = next((point["device"] for point in result["points"] if "device" in point), result["device"])
    return f"{', '.join(_TITLES.get(name, name.replace('_', ' ')) for name in result['axes'])} on {device}"


def _headlines(result: Mapping[str, Any]) -> list[str]:
    lines = [_knee_line(knee) for knee in result["knees"]]
    usable = [point for point in result["points"] if fits(point)]
    if usable:
        best = max(usable, key=lambda point: point["tokens_per_s"])
        lines.append(f"The most tokens/s, {number(best['tokens_per_s'])}, are those of {_describe(best)}.")
    states: dict[str, int] = {}
    for point in result["points"]:
        states[point["status"]] = states.get(point["status"], 0) + 1
    lines.append(f"Of {len(result['points'])} points " + ", ".join(f"{n} {state}" for state, n in states.items()) + ".")
    return lines


def _knee_line(knee: Mapping[str, Any]) -> str:
    axis, name = _TITLES[knee["axis"]], "" if knee["series"] == "all" else f"{knee['series']}: "
    reached = percent(knee["tokens_per_s"] / knee["best_tokens_per_s"])
    if knee["rising"]:
        return f"{name}no knee: tokens/s still rise at {axis} {knee['at']}, the largest that fits."
    return f"{name}the knee is at {axis} {knee['at']}: {reached} of the best tokens/s, and more gains little."


def _describe(point: Mapping[str, Any]) -> str:
    return ", ".join(f"{_TITLES.get(name, name.replace('_', ' '))} {value}" for name, value in point["config"].items())


def _curves(result: Mapping[str, Any]) -> Section:
    lines = series(result["axes"], result["points"])
    figures: list[tuple[str, str, Callable[[Mapping[str, Any]], Point | None]]] = [
        ("Step time", "ms", lambda point: _ranged(point["step_ms"])),
        ("Model FLOP utilisation", "MFU, %", lambda point: _plain(point["mfu"], 100)),
        ("Tokens that are no padding", "tokens/s", lambda point: _plain(point["tokens_per_s"])),
        ("Energy efficiency", "tokens/s/W", lambda point: _ranged(point["tokens_per_s_per_w"])),
        ("Peak memory", "GiB", lambda point: _plain(point["peak_memory_bytes"], 2.0**-30)),
    ]
    drawn = [_figure(result, lines, *figure) for figure in figures]
    bounds = [_bound_figure(result, name, line) for name, line in lines.items()]
    notes = [Paragraph(_KNEE, "quiet"), *([Paragraph(_ENERGY, "quiet")] if result["projected"] else [])]
    return Section("Curves", (*filter(None, drawn), *bounds, *notes), lead="points that have run")


def _ranged(value: Mapping[str, Any] | None) -> Point | None:
    """A value with its range; without a value, the middle of the range on a logarithmic scale."""
    if value is None:
        return None
    middle = value["value"] if known(value["value"]) else math.sqrt(value["low"] * value["high"])
    return Point(0.0, middle, value["low"], value["high"])


def _plain(value: float | None, factor: float = 1.0) -> Point | None:
    return None if value is None else Point(0.0, value * factor)


def _figure(
    result: Mapping[str, Any],
    lines: Mapping[str, Sequence[Mapping[str, Any]]],
    caption: str,
    unit: str,
    value: Callable[[Mapping[str, Any]], Point | None],
) -> Lines | None:
    """One number of every point over the x axis; nothing where no point has it."""
    axis = x_axis(result["axes"])
    assert axis is not None
    drawn = []
    for name, line in lines.items():
        found = [(point["config"][axis], value(point)) for point in line]
        points = tuple(Point(float(x), y.y, y.low, y.high) for x, y in found if y is not None)
        drawn += [Line(name, points, result["numbers"])] if points else []
    return Lines(caption, _TITLES[axis], unit, tuple(drawn)) if drawn else None


def _bound_figure(result: Mapping[str, Any], name: str, line: Sequence[Mapping[str, Any]]) -> Lines:
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
    return Lines(f"Kernel time{of} by what holds it", _TITLES[axis], "%", lines)


def _points(result: Mapping[str, Any]) -> Section:
    axes = list(result["axes"])
    heads = (*(f"#{_TITLES[name]}" if name in _TITLES else name.replace("_", " ") for name in axes),
             "#step", "#MFU", "#tokens/s", "#tokens/s/W", "#memory", "mostly", "state")  # fmt: skip
    rows = tuple((*(str(point["config"][name]) for name in axes), *_cells(point)) for point in result["points"])
    return Section("Points", (Table(f"Every point, {result['numbers']}", heads, rows),), lead="and what became of them")


def _cells(point: Mapping[str, Any]) -> tuple[str, ...]:
    if "step_ms" not in point:
        return (*[UNKNOWN] * 6, point["status"])
    bound, share = max(point["bounds"].items(), key=lambda entry: entry[1], default=("", None))
    state = point["status"] if point["fits"] is not False else "would not fit"
    return (
        duration(1e3 * point["step_ms"]["value"]),
        percent(point["mfu"]),
        number(point["tokens_per_s"]),
        _range_text(point["tokens_per_s_per_w"]),
        binary_bytes(point["peak_memory_bytes"]),
        f"{bound} {percent(share)}",
        state,
    )


def _range_text(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return UNKNOWN
    return number(value["value"]) if known(value["value"]) else f"{number(value['low'])} to {number(value['high'])}"


def _warnings(result: Mapping[str, Any]) -> list[str]:
    told = [f"{point['name']}: {point['status']}: {point['reason']}" for point in result["points"] if point["reason"]]
    beyond = [point["name"] for point in result["points"] if point.get("fits") is False]
    if beyond:
        told.append(f"{count(len(beyond))} points would not fit into the device's memory: {', '.join(beyond)}")
    return told
