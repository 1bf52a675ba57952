"""An A/B result as one HTML file that works offline, made like the report of a run (see :mod:`.html`)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import RunError
from . import ab_view, figures
from .html import page
from .text import UNKNOWN, binary_bytes, clean, duration, known, number, percent

SCRIPTS = ("roofline_axes.js", "ab_figures.js", "ab.js")
STYLES = ("ab.css",)

#: Columns of the table of providers; ``#`` marks numbers, as the page's scripts expect.
_HEADS = (
    "provider", "verdict", "#ratio (95 % interval)", "#time", "#GB/s", "#of the roof", "#bytes/parameter", "#error",
    "#memory",
)  # fmt: skip


def render(result: Mapping[str, Any]) -> str:
    """The report of an A/B result as one HTML document."""
    title = f"A/B {clean(result['suite'])}: {clean(result['operation'])}"
    return page("ab.html", title=title, data=page_data(result), styles=STYLES, scripts=SCRIPTS)


def write(result: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write the report to a file.

    Raises:
        RunError: the file cannot be written.
    """
    target = Path(path)
    try:
        target.write_text(render(result), encoding="utf-8")
    except OSError as error:
        raise RunError(f"cannot write the report {target}: {error.strerror or error}") from error


def page_data(result: Mapping[str, Any]) -> dict[str, Any]:
    """Everything the page shows; texts are those of the other reports."""
    machine = result.get("machine") or {}
    reason = ab_view.energy_reason(result)
    facts = [(name, value) for name, value in (machine.get("after") or {}).items()]
    if machine.get("others") is not None:
        facts.append(("other programs", f"{percent(machine['others'])} of the processors"))
    if reason:
        facts.append(("energy", f"not measured: {reason}"))
    return {
        "title": f"{result['suite']}: {result['operation']}",
        "setting": ab_view.setting(result),
        "headlines": ab_view.headlines(result),
        "warnings": ab_view.warnings(result),
        "notes": list(result.get("notes", [])),
        "roof": f"Shares are of the {ab_view.roof_text(result)}. Bytes are those that a provider moves by design.",
        "problems": [_problem(problem, result["device"]) for problem in result["problems"]],
        "machine": facts,
        "environment": [(name, str(value)) for name, value in (result.get("environment") or {}).items()],
        "command": result.get("command", ""),
        "created": result.get("created", ""),
    }


def _problem(problem: Mapping[str, Any], device: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": problem["name"],
        "title": problem["title"],
        "size": ab_view.size_text(problem),
        "noise": ab_view.noise_text(problem),
        "floor": ab_view.floor_ratio(problem),
        "intervals": _intervals(problem),
        "points": _points(problem),
        "roofs": figures.roof_lines(device, [("vector", problem["dtype"])]),
        "table": _table(problem),
        "parts": _parts(problem),
        "missing": ab_view.missing(problem),
    }


def _intervals(problem: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": entry["provider"], **entry["comparisons"]["wall"]}
        for entry in ab_view.timed(problem)
        if entry["status"] == "measured"
    ]


def _points(problem: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Providers whose bytes and arithmetic are known."""
    return [
        {
            "name": entry["provider"],
            "verdict": ab_view.verdict_of(entry),
            "time_us": ab_view.time_us(entry),
            "intensity": entry["intensity"],
            "gflops": entry["gflops"],
            "bandwidth_gbs": entry["gbs"],
            "roof_fraction": entry["roof_fraction"],
        }
        for entry in ab_view.timed(problem)
        if entry["intensity"] and entry["gflops"]
    ]


def _table(problem: Mapping[str, Any]) -> dict[str, Any]:
    """Heads, rows of texts, and what each provider does; energy has a column where it was measured."""
    entries = ab_view.listed(problem)
    energies = [ab_view.energy_text(entry) for entry in entries]
    rows = [_row(entry) for entry in entries]
    heads = [head.replace("parameter", ab_view.item(problem)) for head in _HEADS]
    if any(energies):
        heads.append("#energy")
        rows = [[*row, energy or UNKNOWN] for row, energy in zip(rows, energies)]
    notes = {clean(entry["provider"]): entry["description"] for entry in entries}
    return {"heads": heads, "rows": rows, "notes": notes}


def _row(entry: Mapping[str, Any]) -> list[str]:
    timed = entry["status"] in ("baseline", "measured")
    comparison = entry["comparisons"]["wall"] if entry["status"] == "measured" else None
    return [
        clean(entry["provider"]),
        ab_view.verdict_of(entry),
        ab_view.ratio_text(comparison) or UNKNOWN,
        duration(ab_view.time_us(entry)) if timed else UNKNOWN,
        number(entry.get("gbs")),
        percent(entry.get("roof_fraction")),
        number(entry.get("bytes_per_parameter")),
        f"{entry['error']:.1e}" if known(entry.get("error")) else UNKNOWN,
        binary_bytes(entry.get("peak_bytes")),
    ]


def _parts(problem: Mapping[str, Any]) -> dict[str, Any] | None:
    rows = ab_view.part_rows(problem)
    heads = ["part of the call", "provider", "verdict", "#ratio (95 % interval)", "#time"]
    return {"heads": heads, "rows": rows} if rows else None
