"""The answer in words: what holds the step back, where the most can be won, whether opt.step() is to blame."""

from __future__ import annotations

from typing import Any

import pandas as pd

from .words import duration, percent

#: Share of kernel time from which a second bound is named.
WORTH_NAMING = 0.05

#: A phase whose share differs by more than this between two timers is told apart in words.
ARTEFACT_SHARE = 0.10

_HOLDS = {
    "memory": "is held by memory bandwidth",
    "compute": "is held by arithmetic",
    "latency": "is lost to launch latency",
    "inefficient": "goes to kernels far below both roofs",
    "communication": "is communication",
    "unknown": "has no known cost",
}


def answer(bounds: list[dict[str, Any]], headroom: list[dict[str, Any]], phases: pd.DataFrame) -> dict[str, Any]:
    """The ``answer`` entry of ``run.json``.

    Args:
        bounds: from :func:`~edgeroof.profiler.findings.headroom.bound_shares`.
        headroom: from :func:`~edgeroof.profiler.findings.headroom.rank_headroom`.
        phases: the phase table.
    """
    if not bounds:
        return {"headline": "No kernel was found, so there is nothing to say.", "details": []}
    first, *others = sorted(bounds, key=lambda bound: -bound["share"])
    headline = f"{percent(first['share'])} of kernel time {_HOLDS[first['bound']]}"
    if others and others[0]["share"] >= WORTH_NAMING:
        headline += f", {percent(others[0]['share'])} {_HOLDS[others[0]['bound']]}"
    details = [_headroom_sentence(headroom[0]), headroom[0]["advice"]] if headroom else []
    return {"headline": headline + ".", "details": [*details, *_gap_sentence(phases)]}


def _headroom_sentence(best: dict[str, Any]) -> str:
    where = f" in {best['phase']}" if best["phase"] else ""
    return (
        f"The most can be won in {best['op'] or 'unlinked kernels'}{where}: {duration(best['headroom_us'])} of its "
        f"{duration(best['dur_us'])} a step lie above its roof."
    )


def _gap_sentence(phases: pd.DataFrame) -> list[str]:
    idle, busy = float(phases["idle_ms"].sum()), float(phases["busy_ms"].sum())
    if idle <= 0.1 * (idle + busy):
        return []
    worst = phases.loc[phases["idle_ms"].idxmax(), "phase"] or "work outside any phase"
    return [f"{percent(idle / (idle + busy))} of the step no kernel runs at all; the longest gaps are in {worst}."]


def timing_verdict(phases: pd.DataFrame, on_gpu: bool) -> dict[str, str]:
    """The ``timing`` entry: is a large optimizer share real, or an artefact of the timer?

    Args:
        phases: the phase table with all three timers.
        on_gpu: whether the host can run ahead of the device.
    """
    times = phases.set_index("phase")
    total = float(times["device_ms"].sum())
    if "optimizer" not in times.index or not total:
        return {"semantics": _semantics(on_gpu), "verdict": "no optimizer phase was timed"}
    true_share = float(times.at["optimizer", "device_ms"]) / total
    host_share = float(times.at["optimizer", "host_unsynced_ms"]) / float(times["host_unsynced_ms"].sum())
    closure_ms = float(times.at["optimizer", "closure_ms"])
    outside_ms = float(times["device_ms"].get("data", 0.0))  # the closure runs everything but the data phase
    closure_share = closure_ms / (closure_ms + outside_ms)
    verdict = (
        f"opt.step() truly takes {percent(true_share)} of the step. An unsynchronised host timer would say "
        f"{percent(host_share)}, a timer around opt.step(closure) {percent(closure_share)}: "
    )
    if max(host_share, closure_share) - true_share > ARTEFACT_SHARE:
        verdict += "a bottleneck read off such a timer is an artefact of the timer."
    else:
        verdict += "what the timers say is real."
    return {"semantics": _semantics(on_gpu), "verdict": verdict}


def _semantics(on_gpu: bool) -> str:
    clock = "CUDA events at the phase borders" if on_gpu else "the host clock, for a CPU runs ops as they are issued"
    return f"device-true times come from {clock}; all three timers watched the same unprofiled steps"
