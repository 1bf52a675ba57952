"""The summary of the GPU evidence: one CSV of all A/B results, one Markdown file that documents link to."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeroof.reports import ab_view
from edgeroof.reports.ab_markdown import to_markdown
from edgeroof.reports.text import number, percent

COLUMNS = (
    "part", "suite", "problem", "parameters", "dtype", "provider", "verdict", "ratio", "ratio_low", "ratio_high",
    "device_ratio", "device_us", "wall_us", "gbs", "roof_fraction", "bytes_per_parameter", "error", "peak_bytes",
    "joules_per_call", "pairs", "reason",
)  # fmt: skip

Results = Mapping[str, dict[str, Any]]

#: Suites of T5's operators.
OPERATORS = ("softmax", "rms_norm", "gated_gelu", "cross_entropy", "attention")


def write(folder: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    """Write ``ab.csv`` and ``summary.md`` from what lies in the folder.

    Args:
        folder: of one device.
        entries: what happened to each part, in order.
    """
    results = load_results(folder)
    with (folder / "ab.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(rows(results))
    (folder / "summary.md").write_text("\n".join(markdown(folder, entries, results)) + "\n", encoding="utf-8")


def load_results(folder: Path) -> dict[str, dict[str, Any]]:
    """Every A/B result in the folder, by the name of its part."""
    return {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*/ab.json"))}


def rows(results: Results) -> Iterator[dict[str, Any]]:
    """One row per part, problem and provider."""
    for part, result in results.items():
        for problem in result["problems"]:
            for entry in problem["results"]:
                yield _row(part, result, problem, entry)


def _row(part: str, result: Mapping[str, Any], problem: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    measured = entry["status"] == "measured"
    wall = entry["comparisons"]["wall"] if measured else {}
    device = entry["comparisons"].get("device", {}) if measured else {}
    times = entry.get("times_us", {})
    return {
        "part": part,
        "suite": result["suite"],
        "problem": problem["name"],
        "parameters": problem["parameters"],
        "dtype": problem["dtype"],
        "provider": entry["provider"],
        "verdict": ab_view.verdict_of(entry),
        "ratio": wall.get("ratio"),
        "ratio_low": wall.get("low"),
        "ratio_high": wall.get("high"),
        "device_ratio": device.get("ratio"),
        "device_us": times.get("device", {}).get("median"),
        "wall_us": times.get("wall", {}).get("median"),
        "joules_per_call": (entry.get("energy") or {}).get("joules_per_call"),
        "pairs": wall.get("pairs"),
        "reason": entry.get("reason", ""),
        **{key: entry.get(key) for key in ("gbs", "roof_fraction", "bytes_per_parameter", "error", "peak_bytes")},
    }


def markdown(folder: Path, entries: Sequence[Mapping[str, Any]], results: Results) -> Iterator[str]:
    """The lines of the summary."""
    about = _read(folder / "environment" / "environment.json")
    device = about.get("device", {})
    yield f"# Evidence from {device.get('title', folder.name)}"
    yield ""
    yield f"Made by `make gpu-evidence` at commit {about.get('commit', 'unknown')}."
    for roof in device.get("roofs", []):
        yield f"- {roof['source']} roof: {number(roof['bandwidth_gbs'], 4)} GB/s ({roof['note']})"
    environment = about.get("environment", {})
    yield "- " + ", ".join(f"{name} {environment[name]}" for name in ("torch", "triton", "cuda") if name in environment)
    yield "- " + ", ".join(f"{name} {value}" for name, value in about.get("state", {}).items())
    yield from ["", "## Claims", "", "| claim | found | met |", "| --- | --- | --- |"]
    for claim, found, met in claims(results):
        yield f"| {claim} | {found} | {met} |"
    yield from ["", "## Parts", "", "| part | status | seconds | reason |", "| --- | --- | ---: | --- |"]
    for entry in entries:
        yield f"| {entry['name']} | {entry['status']} | {entry.get('seconds', '')} | {entry['reason']} |"
    counted = [line for part in sorted(folder.glob("ncu*")) if (line := counters(part))]
    if counted:
        yield from ["", "## Counted bytes", "", *(f"- {line}" for line in counted)]
    for model in ("base", "base-fused", "small"):
        run = _read(folder / f"profile-{model}" / "run.json")
        if run:
            yield from ["", f"## Client step, FLAN-T5-{model}", "", run["answer"]["headline"], ""]
            yield from (f"- {detail}" for detail in run["answer"]["details"])
    for part, result in results.items():
        yield from ["", f"## {part}", "", to_markdown(result).rstrip()]


def claims(results: Results) -> Iterator[tuple[str, str, str]]:
    """What the project promises of an H100 or H200: the claim, what was found, and whether it is met."""
    plain, clipped, half = (results.get(f"ab-adamw-{name}") for name in ("fp32", "fp32-clip", "bf16"))
    ours = _find(plain, "base", "edgeroof")
    fraction = ours.get("roof_fraction") if ours else None
    claim = "AdamW fp32, base: at least 90 % of the measured bandwidth"
    yield claim, percent(fraction), _met(fraction, 0.9)
    claim = "AdamW fp32: on no size slower than torch's fused"
    slower = [
        problem["name"]
        for problem in (plain or {}).get("problems", [])
        if (_find(plain, problem["name"], "edgeroof") or {}).get("verdict") == "SLOWER"
    ]
    found = ", ".join(slower) if slower else "slower on none" if ours else "not measured"
    yield claim, found, "no" if slower else "yes" if ours else "not measured"
    lows = _ratio(_find(clipped, "base", "edgeroof"), "device")
    yield "with clipping, base: at least 1.2 times torch's clip and fused", *_ratio_cells(lows, 1.2)
    eight, full = _find(half, "base", "edgeroof-8bit"), _find(plain, "base", "torch-fused")
    quotient = _device_us(full) / _device_us(eight) if eight and full else None
    cells = ("not measured" if quotient is None else f"{number(quotient)} (medians of two runs)", _met(quotient, 2.3))
    yield "bf16 with 8-bit states, base: at least 2.3 times torch's fused fp32", *cells
    graph = _ratio(_find(plain, "lora-small", "edgeroof-graph"), "wall")
    yield "LoRA, replayed from a graph: at least twice torch's fused in wall time", *_ratio_cells(graph, 2.0)
    yield from operator_claims(results)
    yield from step_claims(results)


def operator_claims(results: Results) -> Iterator[tuple[str, str, str]]:
    """Of T5's operators at FLAN-T5-base's shapes."""
    for dtype in ("bf16", "fp32"):
        ours = _find(results.get(f"ab-softmax-{dtype}-forward"), "base-encoder", "edgeroof")
        fraction = ours.get("roof_fraction") if ours else None
        claim = f"softmax {dtype}, encoder, forward: at least 85 % of the measured bandwidth"
        yield claim, percent(fraction), _met(fraction, 0.85)
        both = _ratio(_find(results.get(f"ab-softmax-{dtype}-both"), "base-encoder", "edgeroof"), "device")
        yield f"softmax {dtype}, encoder, forward and backward: at least 3 times eager", *_ratio_cells(both, 3.0)
        for suite in OPERATORS:
            yield f"{suite} {dtype}: nowhere slower than torch.compile", *_against_compiled(results, suite, dtype)


def _against_compiled(results: Results, suite: str, dtype: str) -> tuple[str, str]:
    """Medians of one run against each other; the worst problem decides."""
    quotients = {}
    for problem in (results.get(f"ab-{suite}-{dtype}-both") or {}).get("problems", []):
        timed = {entry["provider"]: _device_us(entry) for entry in problem["results"] if "times_us" in entry}
        if {"edgeroof", "torch-compile"} <= timed.keys():
            quotients[problem["name"]] = timed["torch-compile"] / timed["edgeroof"]
    if not quotients:
        return "not measured", "not measured"
    worst = min(quotients, key=lambda name: quotients[name])
    return f"{number(quotients[worst])} × on {worst} (medians)", _met(quotients[worst], 1.0)


def step_claims(results: Results) -> Iterator[tuple[str, str, str]]:
    """Of the client's step with the fused model."""
    for part, rival in (
        ("ab-step-bf16", "the plain one with SDPA"),
        ("ab-step-bf16-eager-attention", "eager attention"),
        ("ab-step-bf16-compiled-model", "torch.compile"),
        ("ab-step-bf16-b8", "the plain one with SDPA, batch 8"),
    ):
        ratio = _ratio(_find(results.get(part), "base", "adamw+fused-model"), "wall")
        yield f"fused step in bf16, base: faster than {rival}", *_ratio_cells(ratio, 1.0)
    ratio = _ratio(_find(results.get("ab-step-bf16"), "base", "adamw+flash-model"), "wall")
    yield "flash step in bf16, base: faster than the plain one with SDPA", *_ratio_cells(ratio, 1.0)


def _find(result: Mapping[str, Any] | None, problem: str, provider: str) -> dict[str, Any] | None:
    """A provider's result, if it was timed."""
    for candidate in (result or {}).get("problems", []):
        for entry in candidate["results"]:
            if (candidate["name"], entry["provider"]) == (problem, provider) and "times_us" in entry:
                return entry
    return None


def _ratio(entry: Mapping[str, Any] | None, clock: str) -> Mapping[str, Any] | None:
    comparisons = (entry or {}).get("comparisons", {})
    return comparisons.get(clock) or comparisons.get("wall")


def _ratio_cells(comparison: Mapping[str, Any] | None, least: float) -> tuple[str, str]:
    """A ratio meets a claim when its whole interval does."""
    if not comparison:
        return "not measured", "not measured"
    return ab_view.ratio_text(comparison), _met(comparison["low"], least)


def _device_us(entry: Mapping[str, Any]) -> float:
    return ab_view.time_us(entry)


def _met(value: float | None, least: float) -> str:
    return "not measured" if value is None else "yes" if value >= least else "no"


def counters(folder: Path) -> str:
    """DRAM bytes that ncu counted in one step, against the bytes that edgeroof says the step moves."""
    stated = _read(folder / "step.json")
    try:
        lines = (folder / "counters.csv").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    table = list(csv.DictReader(line for line in lines if line.startswith('"')))
    scale = {"byte": 1.0, "Kbyte": 1e3, "Mbyte": 1e6, "Gbyte": 1e9}
    counted = sum(
        float(row["Metric Value"].replace(",", "")) * scale[row["Metric Unit"]]
        for row in table
        if row["Metric Name"].startswith("dram__bytes") and row["Metric Unit"] in scale
    )
    if not counted or not stated.get("bytes_moved"):
        return ""
    return (
        f"{stated['title']}: ncu counts {counted / 1e9:.3f} GB of DRAM traffic, edgeroof "
        f"states {stated['bytes_moved'] / 1e9:.3f} GB ({percent(counted / stated['bytes_moved'])})."
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
