"""What the figures and tables of a report show: pandas in, plain lists and dicts out.

Nothing here knows about terminals or pages, so each function is tested alone. Times are per profiled step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..profiler.schema import BOUNDS, PHASES
from .grouping import group_kernels, profiled_steps

if TYPE_CHECKING:
    from ..profiler.run import Run

#: One point of the roofline: kernels that do the same thing to tensors of the same shape.
POINT_KEYS = ("op", "phase", "bound", "dtype", "unit", "shapes")
#: More points than this hide one another; the smallest are counted instead of drawn.
MAX_POINTS = 300

#: Modules that a figure shows; the rest are summed up.
MAX_MODULES = 10

#: Bounds of kernels that have no roof to be measured against.
WITHOUT_ROOF = ("communication", "unknown")

Record = dict[str, Any]


def roofline_points(run: Run, *, limit: int = MAX_POINTS) -> dict[str, Any]:
    """The kernel groups of a roofline figure, largest first.

    Args:
        run: the run to draw.
        limit: most groups to draw; the smallest beyond it are summed up in ``hidden``.

    Returns:
        ``points`` (arithmetic and bytes known: they have an intensity), ``movement`` (bytes but no arithmetic: placed
        by achieved bandwidth), ``unpriced`` (no known cost: listed with their time, never plotted), and ``hidden``,
        the number and time of groups left out. Each group is a dict of the keys and numbers of ``group_kernels``.
    """
    groups = group_kernels(run, POINT_KEYS)
    timed = groups["time_us"] > 0
    moves = groups["bytes"] > 0
    is_point = timed & moves & (groups["flops"] > 0)
    is_movement = timed & moves & (groups["flops"] == 0)
    drawable = groups[is_point | is_movement]
    drawn, hidden = drawable.head(limit), drawable.iloc[limit:]
    return {
        "points": records(drawn[is_point.reindex(drawn.index)]),
        "movement": records(drawn[is_movement.reindex(drawn.index)]),
        "unpriced": records(groups[~(is_point | is_movement)]),
        "hidden": {"groups": len(hidden), "time_us": float(hidden["time_us"].sum())},
    }


def roof_lines(device: Mapping[str, Any], used: Iterable[tuple[str, str]] = ()) -> list[Record]:
    """The roofs of a device, reduced to the ceilings that matter for a run.

    Args:
        device: the ``device`` entry of a run's summary.
        used: ``(unit, dtype)`` pairs that the run's kernels computed with; without any, every peak is kept.

    Returns:
        One dict per roof: ``source`` (``spec`` or ``measured``), ``bandwidth_gbs``, ``launch_floor_us``, ``note`` and
        ``ceilings``, highest first, each with ``gflops``, a ``label`` such as ``bf16, fp16 tensor`` and its ``keys``.
    """
    wanted = list(dict.fromkeys(used))
    lines = []
    for roof in device.get("roofs") or []:
        peaks = roof.get("peaks_gflops") or {}
        pairs = wanted or [(unit, dtype) for unit, by_dtype in peaks.items() for dtype in by_dtype]
        lines.append(
            {
                "source": roof.get("source", ""),
                "bandwidth_gbs": roof.get("bandwidth_gbs"),
                "launch_floor_us": roof.get("launch_floor_us"),
                "note": roof.get("note", ""),
                "ceilings": _ceilings(peaks, pairs),
            }
        )
    return lines


def _ceilings(peaks: Mapping[str, Mapping[str, float]], pairs: Sequence[tuple[str, str]]) -> list[Record]:
    """Peaks of the given pairs; equal peaks of one unit share a line."""
    merged: dict[tuple[str, float], set[str]] = {}
    for unit, dtype in pairs:
        found = _peak(peaks, unit, dtype)
        if found:
            peak_unit, peak_dtype, gflops = found
            merged.setdefault((peak_unit, gflops), set()).add(peak_dtype)
    ceilings = [
        {
            "label": f"{', '.join(sorted(dtypes))} {unit}",
            "gflops": gflops,
            "keys": [[unit, dtype] for dtype in sorted(dtypes)],
        }
        for (unit, gflops), dtypes in merged.items()
    ]
    return sorted(ceilings, key=lambda ceiling: -ceiling["gflops"])


def _peak(peaks: Mapping[str, Mapping[str, float]], unit: str, dtype: str) -> tuple[str, str, float] | None:
    """The peak a kernel was held against, with the fallbacks of the profiler's roofs: tensor → vector → vector fp32."""
    for candidate_unit, candidate_dtype in ((unit, dtype), ("vector", dtype), ("vector", "fp32")):
        gflops = (peaks.get(candidate_unit) or {}).get(candidate_dtype)
        if gflops:
            return candidate_unit, candidate_dtype, float(gflops)
    return None


def used_peaks(points: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The ``(unit, dtype)`` pairs that drawn points computed with, by time."""
    times: dict[tuple[str, str], float] = {}
    for point in points:
        if point["unit"] in ("tensor", "vector"):
            pair = (point["unit"], point["dtype"])
            times[pair] = times.get(pair, 0.0) + point["time_us"]
    return sorted(times, key=lambda pair: -times[pair])


def phase_bounds(run: Run) -> list[Record]:
    """Time of each phase by bound, with its idle time: the stacked bars of "where the time goes".

    Returns:
        One dict per phase in order of the step: ``phase``, ``bounds`` (bound → ms), ``kernel_ms`` (their sum),
        ``idle_ms`` (device waiting for the host, ``None`` when not known) and ``kernels`` (per step).
    """
    groups = group_kernels(run, ("phase", "bound"))
    idle = {str(row.phase): row.idle_ms for row in run.phases.itertuples()} if "idle_ms" in run.phases else {}
    result = []
    for phase in phase_order(run):
        rows = groups[groups["phase"] == phase]
        times = {str(row.bound): float(row.time_us) / 1e3 for row in rows.itertuples()}
        ordered = {bound: times[bound] for bound in (*BOUNDS, *sorted(set(times) - set(BOUNDS))) if bound in times}
        result.append(
            {
                "phase": phase,
                "bounds": ordered,
                "kernel_ms": math.fsum(times.values()),
                "idle_ms": finite(idle.get(phase)),
                "kernels": float(rows["kernels"].sum()),
            }
        )
    return result


def module_bounds(run: Run, *, limit: int = MAX_MODULES) -> Record:
    """Time of each module of the model by bound, its layers taken together.

    Returns:
        ``largest``, most time first, each a dict of ``module`` (``""`` for kernels outside any), ``bounds`` (bound →
        ms) and ``kernel_ms`` (their sum); and ``others``: the ``count`` and ``kernel_ms`` of those beyond ``limit``.
    """
    groups = group_kernels(run, ("module_group", "bound"))
    times = groups.pivot_table(index="module_group", columns="bound", values="time_us", aggfunc="sum") / 1e3
    totals = times.sum(axis=1).sort_values(ascending=False, kind="stable")
    largest = []
    for module in totals.index[:limit]:
        row = {str(bound): float(ms) for bound, ms in times.loc[module].items() if ms > 0}
        ordered = {bound: row[bound] for bound in (*BOUNDS, *sorted(set(row) - set(BOUNDS))) if bound in row}
        largest.append({"module": str(module), "bounds": ordered, "kernel_ms": float(totals[module])})
    rest = totals.iloc[limit:]
    return {"largest": largest, "others": {"count": len(rest), "kernel_ms": float(rest.sum())}}


def phase_order(run: Run) -> list[str]:
    """Every phase that the run's phase or kernel table names, in the order of the step."""
    listed = [str(phase) for phase in run.phases["phase"]] if "phase" in run.phases else []
    in_kernels = {"" if pd.isna(phase) else str(phase) for phase in run.kernels["phase"].unique()}
    rest = sorted(in_kernels - set(listed), key=lambda name: (PHASES.index(name) if name in PHASES else 99, name))
    return list(dict.fromkeys(listed)) + rest


#: The three ways of timing a phase: column, name, and what it does.
TIMERS = (
    ("device_ms", "device-true", "what the device really spent on each phase"),
    ("host_unsynced_ms", "unsynchronised host timer", "the queue's wait lands on whichever phase waits last"),
    ("closure_ms", "closure-style timer", "around opt.step(closure): forward and backward count as the optimizer"),
)


def timing_bars(run: Run) -> list[Record]:
    """What each way of timing says about the phases.

    Returns:
        One dict per timer that has any value: ``name``, ``note``, ``total_ms`` and ``parts``, each part with ``phase``,
        ``ms`` and ``share``. Empty for an imported trace, which has no bare steps.
    """
    bars = []
    device_total = 0.0
    for column, name, note in TIMERS:
        if column not in run.phases:
            continue
        times = [(str(row["phase"]), finite(row[column])) for _, row in run.phases.iterrows()]
        parts = [(phase, ms) for phase, ms in times if ms is not None]
        total = math.fsum(ms for _, ms in parts)
        # A closure-style timer sees only its closure; its share is still one of the whole step.
        whole = max(device_total, total) if column == "closure_ms" else total
        device_total = total if column == "device_ms" else device_total
        if total > 0:
            parted = [{"phase": phase, "ms": ms, "share": ms / whole} for phase, ms in parts]
            bars.append({"name": name, "note": note, "total_ms": total, "parts": parted})
    return bars


def bound_shares(run: Run) -> list[Record]:
    """The summary's bounds, in the fixed order of the bounds; headroom is ``None`` where there is no roof."""
    entries = {str(entry["bound"]): dict(entry) for entry in run.summary.get("bounds") or []}
    if not entries:
        for row in group_kernels(run, ("bound",)).itertuples():
            entries[str(row.bound)] = {
                "bound": str(row.bound),
                "dur_us": float(row.time_us),
                "headroom_us": finite(row.headroom_us),
                "kernels": float(row.kernels),
            }
    total = math.fsum(entry["dur_us"] for entry in entries.values())
    for bound, entry in entries.items():
        entry.setdefault("share", entry["dur_us"] / total if total else 0.0)
        if bound in WITHOUT_ROOF:
            entry["headroom_us"] = None
    order = [bound for bound in (*BOUNDS, *sorted(set(entries) - set(BOUNDS))) if bound in entries]
    return [entries[bound] for bound in order]


def totals(run: Run) -> Record:
    """Kernel time, kernels and headroom of one step; headroom is ``None`` when no kernel has a known cost."""
    headrooms = [finite(entry.get("headroom_us")) for entry in bound_shares(run)]
    steps = profiled_steps(run)
    return {
        "kernel_us": float(run.kernels["dur_us"].sum()) / steps,
        "kernels": len(run.kernels) / steps,
        "headroom_us": math.fsum(value for value in headrooms if value is not None) if any(headrooms) else None,
    }


def finite(value: Any) -> float | None:
    """A float, or ``None`` for anything that is not a finite number."""
    try:
        result = float(value)
    except (TypeError, ValueError):
        return None
    return result if math.isfinite(result) else None


def records(frame: pd.DataFrame) -> list[Record]:
    """Rows as dicts of plain Python values, ``None`` for what is not known."""
    return [
        {key: value if isinstance(value, str) else finite(value) for key, value in row.items()}
        for row in frame.to_dict("records")
    ]
