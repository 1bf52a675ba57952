"""The phase table: for each phase its true time, what naive timers say, its kernels and its gaps."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..schema import PHASE_COLUMNS, PHASES

if TYPE_CHECKING:
    from ..timing import StepTiming


def busy_and_idle(kernels: pd.DataFrame) -> pd.DataFrame:
    """How much each kernel adds to the busy time of its device, and how long the device stood idle before it.

    Kernels that overlap (several streams) are counted once: a kernel adds only the time after every earlier kernel has
    ended. Idle time is booked on the kernel that ends it. Within one step and device both sum to the span from the
    first start to the last end.

    Args:
        kernels: a kernel table.

    Returns:
        ``busy_us`` and ``idle_us``, aligned with the rows of the table.
    """
    ordered = kernels.sort_values("start_us", kind="stable")
    end = ordered["start_us"] + ordered["dur_us"]
    lane = [ordered["step"], ordered["device_index"]]
    cursor = end.groupby(lane).cummax().groupby(lane).shift(1)
    cursor = cursor.fillna(ordered["start_us"])
    begin = np.maximum(ordered["start_us"], cursor)
    added = pd.DataFrame(
        {
            "busy_us": np.maximum(end - begin, 0.0),
            "idle_us": np.maximum(ordered["start_us"] - cursor, 0.0),
        }
    )
    return added.reindex(kernels.index)


def phase_table(kernels: pd.DataFrame, steps: int, timings: Sequence[StepTiming] = ()) -> pd.DataFrame:
    """One row per phase with the columns of :data:`~edgeroof.profiler.schema.PHASE_COLUMNS`.

    Args:
        kernels: a classified kernel table.
        steps: number of steps in it.
        timings: bare steps; without them the timer columns are NaN.
    """
    table = kernels.join(busy_and_idle(kernels))
    moved = table["bytes_read"] + table["bytes_written"]
    table = table.assign(bytes=moved, phase=table["phase"].astype(str))
    seen = {*table["phase"], *(name for timing in timings for name in timing.device_ms)}
    rows = [_row(name, table[table["phase"] == name], steps, timings) for name in (*PHASES, "") if name in seen]
    return pd.DataFrame(rows, columns=list(PHASE_COLUMNS)).astype(PHASE_COLUMNS)


def _row(name: str, group: pd.DataFrame, steps: int, timings: Sequence[StepTiming]) -> dict[str, Any]:
    def per_step(column: str, scale: float = 1.0) -> float:
        return float(group[column].sum()) * scale / steps

    return {
        "phase": name,
        "device_ms": _median([timing.device_ms.get(name, 0.0) for timing in timings]),
        "host_unsynced_ms": _median([timing.host_ms.get(name, 0.0) for timing in timings]),
        "closure_ms": _median([timing.closure_ms if name == "optimizer" else 0.0 for timing in timings]),
        "profiled_ms": per_step("busy_us", 1e-3) + per_step("idle_us", 1e-3),
        "kernel_ms": per_step("dur_us", 1e-3),
        "busy_ms": per_step("busy_us", 1e-3),
        "idle_ms": per_step("idle_us", 1e-3),
        "kernels": len(group) / steps,
        "flops": per_step("flops"),
        "bytes": per_step("bytes"),
        "headroom_ms": per_step("headroom_us", 1e-3),
    }


def _median(values: list[float]) -> float:
    return median(values) if values else float("nan")
