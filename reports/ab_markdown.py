"""An A/B result as Markdown tables, for documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import ab_view
from .text import UNKNOWN, binary_bytes, clean, duration, known, number, percent

_HEADS = (
    "provider", "verdict", "ratio (95 % interval)", "time", "GB/s", "of the roof", "bytes/parameter", "passes",
    "ns/parameter", "error", "memory",
)  # fmt: skip


def to_markdown(result: Mapping[str, Any]) -> str:
    """Tables of every problem, with what is missing and what to doubt."""
    lines = [f"{clean(result['operation'])}, base {clean(result['baseline'])}. {ab_view.setting(result)}", ""]
    for problem in result["problems"]:
        lines += [*_problem(problem), ""]
    lines += [f"> {clean(warning)}" for warning in ab_view.warnings(result)]
    return "\n".join(lines).rstrip() + "\n"


def _problem(problem: Mapping[str, Any]) -> list[str]:
    energy = any(ab_view.energy_text(entry) for entry in ab_view.timed(problem))
    heads = [head.replace("parameter", ab_view.item(problem)) for head in (*_HEADS, *(["energy"] if energy else []))]
    lines = [
        f"**{clean(problem['title'])}**: {ab_view.size_text(problem)}. {ab_view.noise_text(problem)}.",
        "",
        _row(heads),
        _row(["---", "---", *["---:"] * (len(heads) - 2)]),
    ]
    lines += [
        _row([*_cells(problem, entry), *([ab_view.energy_text(entry)] if energy else [])])
        for entry in ab_view.listed(problem)
    ]
    lines += _parts(problem)
    absent = ab_view.missing(problem)
    if absent:
        lines += ["", "Not timed: " + "; ".join(f"{name} ({reason})" for name, reason in absent) + "."]
    return lines


def _cells(problem: Mapping[str, Any], entry: Mapping[str, Any]) -> list[str]:
    has_times = entry["status"] in ("baseline", "measured")
    comparison = entry["comparisons"]["wall"] if entry["status"] == "measured" else None
    per_parameter = entry.get("bytes_per_parameter")
    return [
        clean(entry["provider"]),
        ab_view.verdict_of(entry),
        ab_view.ratio_text(comparison) or UNKNOWN,
        duration(ab_view.time_us(entry)) if has_times else UNKNOWN,
        number(entry.get("gbs")),
        percent(entry.get("roof_fraction")),
        number(per_parameter),
        number(per_parameter / ab_view.ITEM_BYTES[problem["dtype"]]) if per_parameter else UNKNOWN,
        number(ab_view.time_us(entry) * 1e3 / problem["parameters"]) if has_times else UNKNOWN,
        f"{entry['error']:.1e}" if known(entry.get("error")) else UNKNOWN,
        binary_bytes(entry.get("peak_bytes")),
    ]


def _parts(problem: Mapping[str, Any]) -> list[str]:
    rows = ab_view.part_rows(problem)
    if not rows:
        return []
    heads = ("part of the call", "provider", "verdict", "ratio (95 % interval)", "time")
    return ["", _row(heads), _row(["---"] * len(heads)), *map(_row, rows)]


def _row(cells: Any) -> str:
    return "| " + " | ".join(clean(cell).replace("|", "\\|") for cell in cells) + " |"
