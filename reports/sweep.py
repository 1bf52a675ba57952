"""The report of a sweep: its figures, the knee of each line, and what became of every point."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..result_files import REPORT_FILE
from ..sweep_points import POINTS, fits, in_words, varied
from .document import Claim, Document, Section, Table
from .sweep_figures import called, figure_section, knee_point, point_anchor
from .text import UNKNOWN, binary_bytes, count, duration, known, number, percent

#: Name of the table of points, for links to it.
TABLE = "points"


def sweep_document(result: Mapping[str, Any], folder: Path | None = None) -> Document:
    """The report of a result of :func:`edgeroof.sweep.run`.

    Args:
        result: the result.
        folder: of the sweep; points whose own report is there lead to it.
    """
    headlines = _headlines(result)
    return Document(
        name="sweep",
        title=_title(result),
        kind=result["numbers"],
        headlines=tuple(line for line, _ in headlines),
        sections=(*figure_section(result), _points(result, folder)),
        setting=_setting(result),
        warnings=tuple(_warnings(result)),
        command=result["command"],
        created=result["created"],
        files=(
            ("report.html", "this report with its figures"),
            ("sweep.json", "the numbers of every point"),
            ("points/", "the run of every point; the same command goes on from there"),
        ),
        claims=tuple(claims for _, claims in headlines),
    )


def _title(result: Mapping[str, Any]) -> str:
    device = next((point["device"] for point in result["points"] if "device" in point), result["device"])
    over = [called(name) for name in varied(result["axes"])]
    models = ", ".join(Path(str(model)).stem for model in _models(result))
    return f"{models}{' over ' + ', '.join(over) if over else ''} on {device}"


def _models(result: Mapping[str, Any]) -> list[Any]:
    return list(result["axes"].get("model") or [result["base"].get("model", "small")])


def _setting(result: Mapping[str, Any]) -> str:
    """What all points have in common."""
    fixed = {name: values[0] for name, values in result["axes"].items() if len(values) == 1}
    common = {**fixed, **result["base"]}
    return " · ".join(f"{name.replace('_', ' ')} {value}" for name, value in common.items() if value is not None)


def _headlines(result: Mapping[str, Any]) -> list[tuple[str, tuple[Claim, ...]]]:
    """Sentences, each with what it leads to."""
    lines = [_knee_line(result, knee) for knee in result["knees"]]
    usable = [point for point in result["points"] if fits(point)]
    if usable:
        best = max(usable, key=lambda point: point["padded_tokens_per_s"])
        which = in_words(best["config"], result["axes"])
        rates = f"{number(best['padded_tokens_per_s'])} with padding, {number(best['tokens_per_s'])} without"
        claim = Claim(f"those of {which}", f"#{point_anchor(result, best)}")
        lines.append((f"The most tokens/s, {rates}, are those of {which}.", (claim,)))
    states: dict[str, int] = {}
    for point in result["points"]:
        states[point["status"]] = states.get(point["status"], 0) + 1
    told = ", ".join(f"{n} {state}" for state, n in states.items())
    every = f"{len(result['points'])} points"
    lines.append((f"Of {every} {told}.", (Claim(every, f"#{TABLE}"),)))
    return lines


def _knee_line(result: Mapping[str, Any], knee: Mapping[str, Any]) -> tuple[str, tuple[Claim, ...]]:
    axis, at = called(knee["axis"]), knee["at"]
    name = "" if knee["series"] == "all" else f"{knee['series']}: "
    reached = percent(knee["padded_tokens_per_s"] / knee["best_padded_tokens_per_s"])
    claim = Claim(f"{axis} {at}", f"#{point_anchor(result, knee_point(result, knee))}")
    if knee["rising"]:
        line = f"{name}No knee: tokens/s still rise at {axis} {at}, the largest that has run and fits."
    else:
        line = f"{name}The knee is at {axis} {at}: {reached} of the best tokens/s, and more gains little."
    return line, (claim,)


_NUMBERS: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
    ("#step", lambda point: duration(1e3 * point["step_ms"]["value"])),
    ("#MFU", lambda point: percent(point["mfu"])),
    ("#tokens/s", lambda point: number(point["tokens_per_s"])),
    ("#tokens/s/W", lambda point: _range_text(point["tokens_per_s_per_w"])),
    ("#memory", lambda point: binary_bytes(point["peak_memory_bytes"])),
    ("mostly", lambda point: _mostly(point["bounds"])),
)


def _points(result: Mapping[str, Any], folder: Path | None) -> Section:
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
        anchors=tuple(point_anchor(result, point) for point in points),
        links=tuple(_report(folder, point) for point in points),
        name=TABLE,
    )
    return Section("Points", (table,), lead="and what became of them")


def _report(folder: Path | None, point: Mapping[str, Any]) -> str:
    """The report of a point's run as seen from the sweep's; empty where there is none."""
    if folder is None or not (folder / POINTS / point["name"] / REPORT_FILE).is_file():
        return ""
    return quote(f"{POINTS}/{point['name']}/{REPORT_FILE}")


def _head(axis: str, values: Sequence[Any]) -> str:
    return f"{'#' if all(isinstance(value, int) for value in values) else ''}{called(axis)}"


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
