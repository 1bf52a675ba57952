"""A fleet's runs side by side: classes of devices, who is slow, and what takes the time there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ....profiler.run import Run

#: A node this much slower than the fleet's median is called slow.
SLOW = 1.25


def node_facts(index: int, run: Run) -> dict[str, Any]:
    """What the comparison needs of a node's run, JSON-ready; times in ms per step."""
    summary, steps = run.summary, max(1, int(run.summary.get("profiled_steps") or 1))
    kernels, metrics = run.kernels, summary.get("metrics") or {}
    priced = kernels["t_roof_us"].notna()
    roof_ms = float(kernels.loc[priced, "t_roof_us"].sum()) / steps / 1e3
    roofed_ms = float(kernels.loc[priced, "dur_us"].sum()) / steps / 1e3
    device = summary["device"]
    used: dict[str, Any] = next((roof for roof in device["roofs"] if roof["source"] == device.get("roof_used")), {})
    timing, environment = metrics.get("step_time_ms") or {}, summary.get("environment") or {}
    power = metrics.get("power") or {}
    return {
        "index": index,
        "device": device["title"],
        "power_mode": device.get("power_mode"),
        "threads": environment.get("torch_threads"),
        "bandwidth_gbs": used.get("bandwidth_gbs"),
        "step_ms": timing.get("median"),
        "samples_ms": list(timing.get("samples") or ()),
        "tokens_per_s": (metrics.get("tokens_per_s") or {}).get("non_padding"),
        "mfu": (metrics.get("mfu") or {}).get("value"),
        "watts": power.get("mean_w") if power.get("available") else None,
        "roof_ms": roof_ms,
        "roof_fraction": roof_ms / roofed_ms if roofed_ms else None,
        "phases_ms": {
            str(row.phase): float(row.device_ms) for row in run.phases.itertuples() if math.isfinite(row.device_ms)
        },
        "bounds_ms": {str(entry["bound"]): float(entry["dur_us"]) / 1e3 for entry in summary.get("bounds") or ()},
        "headline": (summary.get("answer") or {}).get("headline", ""),
    }


def device_class(node: Mapping[str, Any]) -> str:
    """Nodes of one class have the same device in the same power mode."""
    return f"{node['device']}, {node['power_mode']}" if node["power_mode"] else str(node["device"])


def classes(nodes: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Nodes by class, in order of first appearance."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for node in nodes:
        found.setdefault(device_class(node), []).append(node)
    return found


def slow_nodes(nodes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Nodes far slower than the fleet's median, slowest first, each with what takes the time.

    Returns:
        ``index``, ``ratio`` to the median, ``phases`` and ``bounds`` with their excess over the fleet's median in ms
        and as a factor, largest excess first, and ``why`` in words.
    """
    timed = [node for node in nodes if node["step_ms"]]
    if len(timed) < 2:
        return []
    middle = median(node["step_ms"] for node in timed)
    found = []
    for node in sorted(timed, key=lambda node: -node["step_ms"]):
        ratio = node["step_ms"] / middle
        if ratio >= SLOW:
            phases, bounds = (_excess(node, timed, name) for name in ("phases_ms", "bounds_ms"))
            why = _why(node, timed, phases, bounds)
            found.append({"index": node["index"], "ratio": ratio, "phases": phases, "bounds": bounds, "why": why})
    return found


def _excess(node: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]], name: str) -> list[dict[str, Any]]:
    rows = []
    for part, value in node[name].items():
        usual = median(other[name].get(part, 0.0) for other in nodes)
        factor = value / usual if usual > 0 else None
        rows.append({"part": part, "ms": value, "median_ms": usual, "excess_ms": value - usual, "factor": factor})
    return sorted(rows, key=lambda row: -row["excess_ms"])


def _why(
    node: Mapping[str, Any],
    nodes: Sequence[Mapping[str, Any]],
    phases: Sequence[Mapping[str, Any]],
    bounds: Sequence[Mapping[str, Any]],
) -> list[str]:
    excess = sum(max(0.0, row["excess_ms"]) for row in phases)
    reasons = []
    if excess:
        first = phases[0]
        by = f", {first['factor']:.1f} times the median" if first["factor"] else ""
        reasons.append(f"{first['excess_ms'] / excess:.0%} of the extra time is in {first['part']}{by}.")
    heavy = [row for row in phases if row["median_ms"] > 0.05 * sum(other["median_ms"] for other in phases)]
    factors = [row["factor"] for row in heavy if row["factor"]]
    if len(factors) > 1 and min(factors) >= SLOW:
        reasons.append(
            f"Every larger phase is slower, {min(factors):.1f} to {max(factors):.1f} times: the machine as a whole "
            "(clocks, cores, power mode, or others that share it), no single kernel."
        )
    moved = next((row for row in bounds if row["excess_ms"] > 0), None)
    if moved:
        reasons.append(f"Most of it is in kernels held back as {moved['part']} ({moved['excess_ms']:.0f} ms a step).")
    reasons += _differences(node, nodes)
    return reasons


def _differences(node: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the node itself has less of than the others."""
    reasons = []
    for name, what in (("threads", "threads"), ("bandwidth_gbs", "GB/s of measured bandwidth")):
        values = [other[name] for other in nodes if other[name]]
        if node[name] and values and node[name] < 0.8 * median(values):
            reasons.append(f"It has {node[name]:.3g} {what}, the fleet's median is {median(values):.3g}.")
    return reasons
