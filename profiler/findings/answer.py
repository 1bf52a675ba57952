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
        return {"headline": "No kernel was found, so there is nothing to say.", "details": [], "claims": []}
    first, *others = sorted(bounds, key=lambda bound: -bound["share"])
    claims = [_claim(f"{percent(first['share'])} of kernel time {_HOLDS[first['bound']]}", bound=first["bound"])]
    if others and others[0]["share"] >= WORTH_NAMING:
        second = others[0]
        claims.append(_claim(f"{percent(second['share'])} {_HOLDS[second['bound']]}", bound=second["bound"]))
    headline = ", ".join(claim["text"] for claim in claims) + "."
    details = [_headroom_sentence(headroom[0]), headroom[0]["advice"]] if headroom else []
    claims += [_claim(_where(best), op=best["op"], phase=best["phase"]) for best in headroom[:1]]
    gaps = _gaps(phases)
    if gaps:
        share, worst = gaps
        where = worst or "work outside any phase"
        details.append(f"{percent(share)} of the step no kernel runs at all; the longest gaps are in {where}.")
        claims.append(_claim(f"the longest gaps are in {where}", phase=worst))
    return {"headline": headline, "details": details, "claims": claims}


def _claim(text: str, **kernels: str) -> dict[str, Any]:
    """Part of a sentence, and the keys of the kernel table that choose the kernels it speaks of."""
    return {"text": text, "kernels": kernels}


def _where(best: dict[str, Any]) -> str:
    return (best["op"] or "unlinked kernels") + (f" in {best['phase']}" if best["phase"] else "")


def _headroom_sentence(best: dict[str, Any]) -> str:
    return (
        f"The most can be won in {_where(best)}: {duration(best['headroom_us'])} of its "
        f"{duration(best['dur_us'])} a step lie above its roof."
    )


def _gaps(phases: pd.DataFrame) -> tuple[float, str] | None:
    """Share of the step without any kernel and the phase with most of it; ``None`` where it is not worth a word."""
    idle, busy = float(phases["idle_ms"].sum()), float(phases["busy_ms"].sum())
    if idle <= 0.1 * (idle + busy):
        return None
    return idle / (idle + busy), str(phases.loc[phases["idle_ms"].idxmax(), "phase"] or "")


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
