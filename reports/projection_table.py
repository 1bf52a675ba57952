"""Projected steps on several devices side by side: how long, what holds them, does it fit?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .document import Bar, Bars, Block, Document, Line, Lines, Paragraph, Point, Section, Table
from .projection import bound_parts, fit_text, interval_text, shares_text
from .text import binary_bytes, count, number, percent

_BOUNDS = ("memory", "compute", "latency", "inefficient", "communication", "unknown")


def comparison_document(result: Mapping[str, Any]) -> Document:
    """The report of a result of :func:`edgeroof.project.compare`."""
    rows = result["rows"]
    sections = [
        Section("Step time", (_bars(rows), _times(rows)), lead="with 90 % intervals, by what holds the kernels"),
        Section("Phases", (_phases(rows),), lead="share of the projected step"),
        Section("Memory", (_memory(rows),), lead="does it fit?"),
    ]
    if len({row["batch_size"] for row in rows}) > 1:
        sections.insert(1, Section("Over batch sizes", _curves(rows)))
    sections.append(Section("How this was obtained", _method(result)))
    return Document(
        name="projection",
        title=f"{result['workload']['model']} on {', '.join(dict.fromkeys(row['title'] for row in rows))}",
        kind="projected",
        headlines=tuple(_headlines(rows)),
        sections=tuple(sections),
        setting=_setting(result["workload"]),
        warnings=tuple(_warnings(rows)),
        command=result.get("command", ""),
        created=result.get("created", ""),
        files=(("report.html", "this report with its figures"), ("comparison.json", "all numbers")),
    )


def _setting(workload: Mapping[str, Any]) -> str:
    names = ("model", "precision", "optimizer", "attention", "data")
    lengths = f"{workload.get('source_length')}/{workload.get('target_length')} tokens"
    return " · ".join([str(workload[name]) for name in names if workload.get(name)] + [lengths])


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['device']}, batch {count(row['batch_size'])}"


def _headlines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    per_token = {_name(row): row["tokens_per_s"] for row in rows}
    best, worst = max(rows, key=lambda row: row["tokens_per_s"]), min(rows, key=lambda row: row["tokens_per_s"])
    lines = []
    if best is not worst:
        factor = per_token[_name(best)] / per_token[_name(worst)]
        lines.append(
            f"{_name(best)} trains {number(factor)} times as many tokens a second as {_name(worst)}: "
            f"{number(best['tokens_per_s'])} against {number(worst['tokens_per_s'])}."
        )
    for device in dict.fromkeys(row["device"] for row in rows):
        own = max((row for row in rows if row["device"] == device), key=lambda row: row["batch_size"])
        lines.append(f"On {device} at batch {count(own['batch_size'])}: {shares_text(own['bounds'])} of the step.")
    return lines


def _bars(rows: Sequence[Mapping[str, Any]]) -> Bars:
    used = [bound for bound in _BOUNDS if any(row["bounds"].get(bound) for row in rows)]
    bars = tuple(
        Bar(
            _name(row),
            bound_parts(row["bounds"], row["step_time_ms"]["value"]),
            interval_text(row["step_time_ms"]),
            row["power_mode"] or "",
        )
        for row in rows
    )
    legend = (*((bound, bound) for bound in used), ("idle", "waiting for the host"))
    return Bars("Projected step, by what holds its kernels", bars, "ms", legend)


def _times(rows: Sequence[Mapping[str, Any]]) -> Table:
    heads = ("device", "#batch", "#step (90 % interval)", "#MFU", "#tokens/s", "#tokens/J")
    body = tuple(
        (
            row["device"],
            count(row["batch_size"]),
            interval_text(row["step_time_ms"]),
            percent(row["mfu"]),
            number(row["tokens_per_s"]),
            _per_joule(row),
        )
        for row in rows
    )
    return Table("Projected; MFU against each device's own peak, tokens without padding", heads, body)


def _per_joule(row: Mapping[str, Any]) -> str:
    energy = row.get("energy_j")
    if not energy:
        return number(None)
    tokens = row["tokens_per_s"] * row["step_time_ms"]["value"] * 1e-3
    return f"{number(tokens / energy['high'])} to {number(tokens / energy['low'])}"


def _phases(rows: Sequence[Mapping[str, Any]]) -> Table:
    names = list(dict.fromkeys(phase for row in rows for phase in row["phases"]))
    body = tuple(
        (_name(row), *(percent(_share(row, name)) for name in names))
        for row in rows
    )  # fmt: skip
    return Table("Share of each phase", ("step", *(f"#{name or 'no phase'}" for name in names)), body)


def _share(row: Mapping[str, Any], phase: str) -> float | None:
    value = row["phases"].get(phase)
    return None if value is None else value / row["step_time_ms"]["value"]


def _memory(rows: Sequence[Mapping[str, Any]]) -> Table:
    body = tuple(
        (
            row["device"],
            count(row["batch_size"]),
            fit_text(row["memory"]) if row["memory"] else "the device states no memory",
            binary_bytes(row["memory"]["parts"].get("activations")) if row["memory"] else number(None),
        )
        for row in rows
    )
    return Table("Memory at the step's peak, by a dry run", ("device", "#batch", "verdict", "#activations"), body)


def _curves(rows: Sequence[Mapping[str, Any]]) -> tuple[Block, ...]:
    devices = list(dict.fromkeys(row["device"] for row in rows))

    def lines(value: str, interval: bool = False) -> tuple[Line, ...]:
        found = []
        for device in devices:
            own = sorted((row for row in rows if row["device"] == device), key=lambda row: row["batch_size"])
            found.append(Line(device, tuple(_point(row, value, interval) for row in own), "projected"))
        return tuple(found)

    return (
        Lines("Step time", "batch size", "ms", lines("step_time_ms", True), x_log=True, y_log=True),
        Lines("Model FLOP utilisation", "batch size", "MFU", lines("mfu"), x_log=True),
        Lines("Throughput", "batch size", "tokens/s", lines("tokens_per_s"), x_log=True, y_log=True),
    )


def _point(row: Mapping[str, Any], value: str, interval: bool) -> Point:
    if interval:
        estimate = row[value]
        return Point(row["batch_size"], estimate["value"], estimate["low"], estimate["high"])
    return Point(row["batch_size"], row[value] if row[value] is not None else float("nan"))


def _method(result: Mapping[str, Any]) -> tuple[Block, ...]:
    texts = dict.fromkeys(row["method"] for row in result["rows"])
    assumed = dict.fromkeys(f"{row['device']}: {text}" for row in result["rows"] for text in row["assumed"])
    return (
        *(Paragraph(text, "quiet") for text in texts),
        Paragraph(result["rows"][0]["interval"], "quiet"),
        *(Paragraph(f"Assumed for {text}.", "quiet") for text in assumed),
    )


def _warnings(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        f"{_name(row)} does not fit: its times are those of a device with more memory"
        for row in rows
        if row["memory"] and not row["memory"]["fits"]
    ]
