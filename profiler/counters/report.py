"""Nsight Compute reports (``.ncu-rep``), through NVIDIA's own package ncu-report.

Its interface: https://docs.nvidia.com/nsight-compute/PythonReportInterface/index.html. Values come in the units of the
report, which are base units for all metrics read here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import CounterError
from .launches import METRICS, Launch, launch_from


def read_report(path: Path) -> list[Launch]:
    """Read every launch of a report.

    Raises:
        CounterError: the package is not there, or cannot read the file.
    """
    try:
        import ncu_report
    except ImportError as error:
        raise CounterError(
            f"reading {path.name} needs the package ncu-report (pip install 'edgeroof[ncu]'); without it, convert the "
            f"report: ncu --csv --page raw --import {path.name} > counters.csv"
        ) from error
    try:
        launches = list(_launches(ncu_report.load_report(str(path))))
    except Exception as error:  # the package raises RuntimeError, SystemError and its own for damaged files
        raise CounterError(f"ncu-report cannot read {path}: {error}") from error
    if not launches:
        raise CounterError(f"{path} holds no launches: ncu profiled nothing, or the file is damaged")
    return launches


def _launches(report: Any) -> Iterator[Launch]:
    for range_index in range(report.num_ranges()):
        actions = report.range_by_idx(range_index)
        for index in range(actions.num_actions()):
            action = actions.action_by_idx(index)
            yield launch_from(str(action.name()), dict(_metrics(action)))


def _metrics(action: Any) -> Iterator[tuple[str, float]]:
    for name in METRICS.intersection(action.metric_names()):
        metric = action.metric_by_name(name)
        value = metric.as_double() if metric is not None and metric.has_value() else math.nan
        if math.isfinite(value) and value >= 0:
            yield name, value
