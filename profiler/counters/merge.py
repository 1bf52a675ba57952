"""Counters put into a run's kernel table, and what they say of our own counts.

Launches are matched with the kernels of each step by name and order: both sequences are aligned along a shortest edit
script, so a profile of one step, of several, or of some kernels only finds its place. ncu replays kernels one by one,
at its own clocks and with a cold or a flushed cache, so its durations never replace those of the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ...errors import CounterError
from ..alignment import MAX_DIFFERENCES, align
from ..device import Roof
from ..findings.answer import answer
from ..findings.headroom import bound_shares, rank_headroom
from ..findings.ledger import coverage_ledger
from ..findings.phase_table import phase_table
from ..findings.words import percent
from ..roofline import classify
from ..run import Run
from .compare import compare_by_op
from .launches import Launch
from .names import function_name

#: How many kernels more the longer of two sequences may have and still be aligned.
_SLACK = MAX_DIFFERENCES // 2


@dataclass(frozen=True)
class Merged:
    """A run with counters.

    Attributes:
        run: the run; kernels with counters carry their bytes, and FLOPs where those were collected, and the provenance
            ``counter``.
        table: one row an op, see :func:`~.compare.compare_by_op`.
        matched: kernels of the run that found a launch.
        kernels: kernels of the run that could have.
        launches: launches in the file.
        used: launches that some kernel found.
    """

    run: Run
    table: pd.DataFrame
    matched: int
    kernels: int
    launches: int
    used: int

    def describe(self) -> str:
        """One sentence on how well the file and the run belong together."""
        return (
            f"{self.matched} of {self.kernels} kernels of the run found counters, "
            f"{self.used} of {self.launches} launches of the file a kernel"
        )


def merge_counters(run: Run, launches: Sequence[Launch]) -> Merged:
    """Put counters into a run.

    Args:
        run: measured on a GPU or imported.
        launches: in the order in which they ran.

    Raises:
        CounterError: the run has no GPU kernels, or none of them is in the file.
    """
    kernels = run.kernels.reset_index(drop=True)
    rows = np.flatnonzero((kernels["kind"].astype(str) == "kernel").to_numpy(bool))
    if not len(rows):
        raise CounterError("the run has no GPU kernels, so there is nothing to compare counters with")
    launch_of = _match(kernels, rows, launches)
    if not launch_of:
        raise CounterError(
            f"none of the run's {len(rows)} kernels is among the {len(launches)} launches of the counter file: "
            "they are not of the same step"
        )
    counted = _with_counters(kernels, launch_of, launches)
    merged = _summarized(run, classify(counted, _roof(run)))
    table = compare_by_op(kernels, launch_of, launches)
    result = Merged(merged, table, len(launch_of), len(rows), len(launches), len(set(launch_of.values())))
    merged.summary["counters"] = {"message": result.describe(), "ops": _records(table)}
    return result


def _match(kernels: pd.DataFrame, rows: np.ndarray, launches: Sequence[Launch]) -> dict[int, int]:
    """Row of a kernel to the launch with its counters."""
    keys = [function_name(launch.name) for launch in launches]
    ordered = kernels.iloc[rows].sort_values(["step", "start_us"], kind="stable")
    functions = {name: function_name(str(name)) for name in ordered["name"].unique()}
    found: dict[int, int] = {}
    for _, step in ordered.groupby("step", sort=True):
        names = [functions[name] for name in step["name"]]
        found |= {int(step.index[i]): j for i, j in _pairs(names, keys)}
    return found


def _pairs(names: Sequence[str], keys: Sequence[str]) -> list[tuple[int, int]]:
    """Aligned positions; names that only one side has never match, and only make the search longer."""
    shared = set(names) & set(keys)
    left = [i for i, name in enumerate(names) if name in shared]
    right = [j for j, name in enumerate(keys) if name in shared]
    # The longer side is cut, so that a file of many steps is not beyond what the alignment can bridge.
    left, right = left[: len(right) + _SLACK], right[: len(left) + _SLACK]
    pairs = align([names[i] for i in left], [keys[j] for j in right])
    return [(left[i], right[j]) for i, j in pairs]


def _with_counters(kernels: pd.DataFrame, launch_of: dict[int, int], launches: Sequence[Launch]) -> pd.DataFrame:
    columns = {name: kernels[name].to_numpy(float).copy() for name in ("bytes_read", "bytes_written", "flops")}
    provenance = kernels["provenance"].astype(str).to_numpy(object).copy()
    for row, index in launch_of.items():
        launch = launches[index]
        if launch.bytes_read is None or launch.bytes_written is None:
            continue
        columns["bytes_read"][row], columns["bytes_written"][row] = launch.bytes_read, launch.bytes_written
        if launch.total_flops is not None:
            columns["flops"][row] = launch.total_flops
        provenance[row] = "counter"
    return kernels.assign(**columns, provenance=pd.Categorical(provenance))


def _roof(run: Run) -> Roof:
    """The roof the run was classified with, as its summary describes it."""
    device = run.summary["device"]
    roofs = {roof["source"]: roof for roof in device["roofs"]}
    roof = roofs.get(device.get("roof_used")) or next(iter(roofs.values()), None)
    if roof is None or not roof.get("bandwidth_gbs"):
        raise CounterError("the run knows no roof of its device, so its kernels cannot be placed anew")
    peaks = {unit: {dtype: rate * 1e9 for dtype, rate in rates.items()} for unit, rates in roof["peaks_gflops"].items()}
    return Roof(roof["source"], roof["bandwidth_gbs"] * 1e9, peaks, roof.get("launch_floor_us") or 0.0)


def _summarized(run: Run, kernels: pd.DataFrame) -> Run:
    """The run with everything in its summary that follows from the kernels' costs made anew."""
    steps = int(run.summary["profiled_steps"])
    bounds, headroom = bound_shares(kernels, steps), rank_headroom(kernels, steps)
    phases = _phases(run.phases, phase_table(kernels, steps))
    ledger = coverage_ledger(kernels, steps)
    share = ledger["priced_share"]["counter"]
    note = f"bytes of {percent(share)} of kernel time are hardware counters, those of the rest our own counts"
    summary: dict[str, Any] = {
        **run.summary,
        "answer": answer(bounds, headroom, phases),
        "ledger": ledger,
        "bounds": bounds,
        "headroom": headroom,
        "warnings": [*run.summary["warnings"], note],
    }
    return Run(summary, kernels, run.ops, phases, run.path)


def _phases(measured: pd.DataFrame, counted: pd.DataFrame) -> pd.DataFrame:
    """The phase table with the columns that follow from costs replaced."""
    costs = counted.set_index("phase")[["flops", "bytes", "headroom_ms"]]
    return measured.drop(columns=costs.columns).join(costs, on="phase")[measured.columns]


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """JSON-ready rows, None for what is not known."""
    return [
        {key: None if isinstance(value, float) and not np.isfinite(value) else value for key, value in row.items()}
        for row in table.to_dict("records")
    ]
