"""The report of a sweep: curves over its axis, the knee of each, and what became of every point."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..profiler.schema import BOUNDS
from ..sweep_points import KNEE_SHARE, TITLES, fits, in_words, series, varied, x_axis
from .document import Document, Line, Lines, Paragraph, Point, Section, Table
from .text import UNKNOWN, binary_bytes, count, duration, known, number, percent

_KNEE = (
    f"The knee is the least value that reaches {percent(KNEE_SHARE)} of the best tokens/s of its line, among points "
    "that fit into memory. It counts tokens with padding: without it, a batch's few dialogues would bend the curve."
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
        setting=_setting(result),
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
    over = [_called(name) for name in varied(result["axes"])]
    models = ", ".join(Path(str(model)).stem for model in result["axes"].get("model", ["small"]))
    return f"{models}{' over ' + ', '.join(over) if over else ''} on {device}"


def _called(axis: str) -> str:
    return TITLES.get(axis, axis.replace("_", " "))


def _setting(result: Mapping[str, Any]) -> str:
    """What all points have in common."""
    fixed = {name: values[0] for name, values in result["axes"].items() if len(values) == 1}
    common = {**fixed, **result["base"]}
    return " · ".join(f"{name.replace('_', ' ')} {value}" for name, value in common.items() if value is not None)


def _headlines(result: Mapping[str, Any]) -> list[str]:
    lines = [_knee_line(knee) for knee in result["knees"]]
    usable = [point for point in result["points"] if fits(point)]
    if usable:
        best = max(usable, key=lambda point: point["padded_tokens_per_s"])
        which = in_words(best["config"], result["axes"])
        rates = f"{number(best['padded_tokens_per_s'])} with padding, {number(best['tokens_per_s'])} without"
        lines.append(f"The most tokens/s, {rates}, are those of {which}.")
    states: dict[str, int] = {}
    for point in result["points"]:
        states[point["status"]] = states.get(point["status"], 0) + 1
    lines.append(f"Of {len(result['points'])} points " + ", ".join(f"{n} {state}" for state, n in states.items()) + ".")
    return lines


def _knee_line(knee: Mapping[str, Any]) -> str:
    axis = _called(knee["axis"])
    name = "" if knee["series"] == "all" else f"{knee['series']}: "
    reached = percent(knee["padded_tokens_per_s"] / knee["best_padded_tokens_per_s"])
    if knee["rising"]:
        return f"{name}No knee: tokens/s still rise at {axis} {knee['at']}, the largest that has run and fits."
    return f"{name}The knee is at {axis} {knee['at']}: {reached} of the best tokens/s, and more gains little."


def _curves(result: Mapping[str, Any]) -> Section:
    lines = series(result["axes"], result["points"])
    figures: list[tuple[str, str, Callable[[Mapping[str, Any]], Point | None]]] = [
        ("Step time", "ms", lambda point: _ranged(point["step_ms"])),
        ("Model FLOP utilisation", "MFU, %", lambda point: _plain(point["mfu"], 100)),
        ("Tokens with padding", "tokens/s", lambda point: _plain(point["padded_tokens_per_s"])),
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
    return Lines(caption, _called(axis), unit, tuple(drawn)) if drawn else None


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
    return Lines(f"Kernel time{of} by what holds it", _called(axis), "%", lines)


_NUMBERS: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
    ("#step", lambda point: duration(1e3 * point["step_ms"]["value"])),
    ("#MFU", lambda point: percent(point["mfu"])),
    ("#tokens/s", lambda point: number(point["tokens_per_s"])),
    ("#tokens/s/W", lambda point: _range_text(point["tokens_per_s_per_w"])),
    ("#memory", lambda point: binary_bytes(point["peak_memory_bytes"])),
    ("mostly", lambda point: _mostly(point["bounds"])),
)


def _points(result: Mapping[str, Any]) -> Section:
    """Every point, with the columns that tell one from another and those that any of them has a number for."""
    points, axes = result["points"], varied(result["axes"]) or list(result["axes"])
    cells = {head: [text(point) if "step_ms" in point else UNKNOWN for point in points] for head, text in _NUMBERS}
    columns = {_head(name, result["axes"][name]): [str(point["config"][name]) for point in points] for name in axes}
    columns |= {head: texts for head, texts in cells.items() if any(text != UNKNOWN for text in texts)}
    columns["state"] = [_state(point) for point in points]
    table = Table(
        f"Every point, {result['numbers']}",
        tuple(columns),
        tuple(zip(*columns.values())),
        spare=tuple(head for head in ("mostly", "#MFU", "#memory") if head in columns),
    )
    return Section("Points", (table,), lead="and what became of them")


def _head(axis: str, values: Sequence[Any]) -> str:
    return f"{'#' if all(isinstance(value, int) for value in values) else ''}{_called(axis)}"


def _state(point: Mapping[str, Any]) -> str:
    return "would not fit" if point.get("fits") is False else str(point["status"])


def _mostly(bounds: Mapping[str, float]) -> str:
    bound, share = max(bounds.items(), key=lambda entry: entry[1], default=("", None))
    return f"{bound} {percent(share)}"


def _range_text(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return UNKNOWN
    return number(value["value"]) if known(value["value"]) else f"{number(value['low'])} to {number(value['high'])}"


def _warnings(result: Mapping[str, Any]) -> list[str]:
    named = [(in_words(point["config"], result["axes"]), point) for point in result["points"]]
    told = [f"{name}: {point['status']}: {point['reason']}" for name, point in named if point["reason"]]
    beyond = [name for name, point in named if point.get("fits") is False]
    if beyond:
        told.append(f"{count(len(beyond))} would not fit into the device's memory: {'; '.join(beyond)}")
    return told
