"""A run: one folder that holds the summary, the tables, the trace and the report.

It is written to a temporary folder beside its place and renamed when whole, so that a run folder is never half a run.
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import RunError
from ..result_files import REPORT_FILE, staged_folder
from .run_tables import TABLES, read_tables, write_tables
from .summary_types import read_versioned
from .traces.annotate import annotate_trace
from .views import view

SUMMARY_FILE = "run.json"
TRACE_FILE = "trace.json.gz"


@dataclass
class Run:
    """Everything known about one profiled, imported or projected step.

    The columns of the tables and the keys of the summary are described in :mod:`~edgeroof.profiler.schema`.
    """

    summary: dict[str, Any]
    kernels: pd.DataFrame
    ops: pd.DataFrame
    phases: pd.DataFrame
    path: Path | None = None

    @property
    def trace_path(self) -> Path | None:
        """The Kineto trace of the run, when it has one."""
        trace = self.path / TRACE_FILE if self.path else None
        return trace if trace and trace.exists() else None

    def roofline(self) -> Any:
        """The kernels under the roofs of the device, as a figure that a notebook shows.

        Returns:
            An object with ``svg``, ``save(path)`` and what Jupyter asks for.

        Raises:
            UsageError: ``edgeroof`` itself was never imported, which brings what draws.
        """
        return view("roofline", self)


def save(
    run: Run,
    path: Path,
    *,
    trace: Path | None = None,
    write_report: Callable[[Run, Path], None] | None = None,
) -> Run:
    """Write ``run`` to the folder ``path`` and return it with its place.

    Args:
        run: the run.
        path: the folder; an existing run there is replaced, anything else is refused.
        trace: the Kineto trace that the run is from, to be kept with the run's findings in it, compressed.
        write_report: called with the run and the path of ``report.html`` before the folder is put in place.

    Raises:
        RunError: the place is taken or cannot be written, for instance because the disk is full.
    """
    with staged_folder(path, SUMMARY_FILE, what="a run folder") as (staging, place):
        _fill(run, staging, trace, write_report)
    return Run(run.summary, run.kernels, run.ops, run.phases, place)


def _fill(run: Run, folder: Path, trace: Path | None, write_report: Callable[[Run, Path], None] | None) -> None:
    (folder / SUMMARY_FILE).write_text(json.dumps(run.summary, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    write_tables(folder, {name: getattr(run, name) for name in TABLES})
    if write_report is not None:
        write_report(run, folder / REPORT_FILE)
    if trace is not None:
        _keep_trace(run, trace, folder / TRACE_FILE)


def _keep_trace(run: Run, source: Path, target: Path) -> None:
    """The trace with the run's findings; as it is where the run does not say how its times relate to the trace's."""
    noted = run.summary.get("trace")
    if noted is not None:
        device = run.summary["device"]
        about = {name: device[name] for name in ("title", "roof_used", "roofs")}
        annotate_trace(source, target, run.kernels, start_ns=noted["start_ns"], about=about)
        return
    with source.open("rb") as original:
        compressed = original.read(2) == b"\x1f\x8b"
    if compressed:
        shutil.copyfile(source, target)
        return
    with source.open("rb") as original, gzip.open(target, "wb", compresslevel=5) as packed:
        shutil.copyfileobj(original, packed)


def load(path: str | Path) -> Run:
    """Read a run folder.

    Raises:
        RunError: the folder is missing, damaged, or of a schema version that cannot be read; older ones are converted.
    """
    folder = Path(path)
    if not (folder / SUMMARY_FILE).is_file():
        raise RunError(f"{folder} is not a run folder: it has no {SUMMARY_FILE}")
    try:
        summary, version = read_versioned((folder / SUMMARY_FILE).read_bytes())
    except (OSError, RunError) as error:
        raise RunError(f"{folder / SUMMARY_FILE} cannot be used: {error}") from error
    return Run(summary, **read_tables(folder, version), path=folder)
