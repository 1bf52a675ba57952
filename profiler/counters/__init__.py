"""Hardware counters of Nsight Compute, merged into a run.

launches = read_counters("ncu.csv")     # or an .ncu-rep
merged = merge_counters(run, launches)  # provenance "counter" where a kernel was found
merged.table                            # our counts beside the counters, op by op, with reasons
"""

from __future__ import annotations

from pathlib import Path

from ...errors import CounterError
from .launches import Launch
from .merge import Merged, merge_counters

__all__ = ["Launch", "Merged", "merge_counters", "read_counters"]

#: First bytes of an .ncu-rep.
_REPORT_MAGIC = b"NVR"


def read_counters(path: str | Path) -> list[Launch]:
    """Read the launches of an Nsight Compute file, in the order in which they ran.

    Args:
        path: what ``ncu --csv --page raw`` printed, or an ``.ncu-rep`` (needs the package ncu-report).

    Raises:
        CounterError: the file is missing, damaged, or neither of the two.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            head = stream.read(len(_REPORT_MAGIC))
    except OSError as error:
        raise CounterError(f"cannot read {path}: {error.strerror or error}") from error
    if path.suffix == ".ncu-rep" or head == _REPORT_MAGIC:
        from .report import read_report

        return read_report(path)
    from .raw_page import read_raw_page

    return read_raw_page(path)
