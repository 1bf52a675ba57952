"""A measured run carried over to another device, as a run of its own that says that it is projected."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .findings.phase_table import busy_and_idle
from .projection import carry_over
from .roofline import classify
from .run import Run
from .schema import KERNEL_COLUMNS
from .summary import Context, summarize

if TYPE_CHECKING:
    from .device import Device


def carry_run(run: Run, source: Device, target: Device, *, method: str, interval: str, command: str = "") -> Run:
    """Scale the kernels of a measured run to another device.

    Args:
        run: the measured run.
        source: the device it was measured on, as it ran.
        target: the device to project on.
        method: how times are obtained, in words.
        interval: how their intervals are.
        command: how to make the run again.

    Returns:
        A projected run of one step: the first of the measured ones.
    """
    first = run.kernels[run.kernels["step"] == run.kernels["step"].min()]
    gaps = busy_and_idle(first)["idle_us"].to_numpy(float)
    carried = carry_over(first, source, target)
    table = carried[list(KERNEL_COLUMNS)].assign(
        step=0, dur_us=carried["projected_us"], start_us=_starts(carried["projected_us"].to_numpy(float), gaps)
    )
    kernels = classify(table.reset_index(drop=True), target.roof)
    context = Context(
        kind="projected",
        title=f"{run.summary['title']}, carried over to {target.title} (projected)",
        command=command,
        device=target,
        workload=copy.deepcopy(run.summary.get("workload")),
        parameters=(run.summary.get("workload") or {}).get("trainable_parameters"),
        warnings=["tokens, MFU and memory are not carried over; `edgeroof project` without a run projects them"],
    )
    projected = summarize(kernels, run.ops, context)
    projected.summary["projection"] = _entry(carried, gaps, method, interval)
    projected.phases["device_ms"] = projected.phases["busy_ms"] + projected.phases["idle_ms"]
    return projected


def _starts(durations: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """Kernels one after the other, each behind the gap that was measured before it."""
    ends = np.cumsum(durations + gaps)
    return ends - durations


def _entry(carried: pd.DataFrame, gaps: np.ndarray, method: str, interval: str) -> dict[str, Any]:
    columns = {"value": "projected_us", "low": "projected_low_us", "high": "projected_high_us"}
    table = carried.assign(gap_us=gaps, phase=carried["phase"].astype(str))

    def estimate(group: pd.DataFrame) -> dict[str, float]:
        gap = float(group["gap_us"].sum())
        return {name: (float(group[column].sum()) + gap) * 1e-3 for name, column in columns.items()}

    phases = [{"phase": name, **estimate(group)} for name, group in table.groupby("phase", sort=False)]
    return {
        "method": method,
        "interval": interval
        + " The ends of a phase are the sums of its kernels' ends, so they are wider than need be.",
        "assumed": ["kernels run one after the other"],
        "step_time_ms": estimate(table),
        "phases": phases,
        "memory": None,
        "power_modes": [],
    }
