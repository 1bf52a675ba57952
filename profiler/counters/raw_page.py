"""The raw page of Nsight Compute as CSV: ``ncu --csv --page raw --import report.ncu-rep``.

A header of fixed columns (``ID``, ``Kernel Name``, …) followed by one column a metric, a row with the metrics' units,
and one row a launch. Lines of the profiler or of the program may stand before the header. Numbers have thousands
separators and units are scaled (``Mbyte``, ``usecond``) unless ``--print-units base`` was given. A metric that was not
collected for a launch is empty or says ``n/a``.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...errors import CounterError
from .launches import METRICS, Launch, launch_from

#: Longest line before the header that is looked at, and how many of them.
_LINE_LIMIT = 4_000_000
_PREAMBLE_LINES = 100_000

_NAME = "Kernel Name"
_SCALES = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_BYTES = re.compile(r"([KMGTP]?)bytes?", re.IGNORECASE)
#: Nanoseconds of a unit of time, in the spelling of old and new releases.
_TIMES = {
    "nsecond": 1.0, "ns": 1.0, "usecond": 1e3, "us": 1e3, "msecond": 1e6, "ms": 1e6, "second": 1e9, "s": 1e9,
}  # fmt: skip
_COUNTS = re.compile(r"([KMGTP]?)(inst|sector|ops?|%|)", re.IGNORECASE)
_MISSING = ("", "n/a", "nan", "-nan", "(!) n/a")
_NUMBER = re.compile(r"[+-]?(\d{1,3}(,\d{3})+|\d+)(\.\d*)?([eE][+-]?\d+)?")


def read_raw_page(path: Path) -> list[Launch]:
    """Read every launch of a raw page.

    Raises:
        CounterError: it is no raw page, or a value in it is no number.
    """
    csv.field_size_limit(_LINE_LIMIT)
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            return list(_launches(path, stream))
    except OSError as error:
        raise CounterError(f"cannot read {path}: {error.strerror or error}") from error
    except csv.Error as error:
        raise CounterError(f"{path} is not a CSV file as ncu writes it: {error}") from error


def _launches(path: Path, lines: Iterable[str]) -> Iterator[Launch]:
    rows = csv.reader(lines)
    header = _header(path, rows)
    columns = {name: position for position, name in enumerate(header) if name in METRICS}
    if not columns:
        raise CounterError(
            f"{path} has none of the metrics that are compared; collect at least gpu__time_duration.sum, "
            "dram__bytes_read.sum and dram__bytes_write.sum (docs/counters.md has the whole list)"
        )
    place = header.index(_NAME)
    units = next(rows, None)
    if units is None or len(units) != len(header) or units[place].strip():
        raise CounterError(f"{path} has no row of units below its header: print it with --page raw")
    scales = {name: _scale(path, name, units[position].strip()) for name, position in columns.items()}
    found = False
    for row in rows:
        if not row or (len(row) == 1 and row[0].startswith("==")):
            continue
        if len(row) != len(header):
            raise CounterError(f"{path}, line {rows.line_num}: {len(row)} values under {len(header)} columns")
        metrics = {}
        for name, position in columns.items():
            value = _value(path, rows.line_num, name, row[position])
            if value is not None:
                metrics[name] = value * scales[name]
        found = True
        yield launch_from(row[place].strip(), metrics)
    if not found:
        raise CounterError(f"{path} has a header but no launches: ncu profiled nothing")


def _header(path: Path, rows: Iterator[list[str]]) -> list[str]:
    for number, row in enumerate(rows):
        names = [name.strip() for name in row]
        if _NAME in names and "ID" in names:
            if "Metric Name" in names:
                raise CounterError(f"{path} is ncu's details page; print the raw one with --page raw")
            return names
        if number >= _PREAMBLE_LINES:
            break
    raise CounterError(
        f"{path} has no header with ID and Kernel Name, so it is not a raw page of ncu; "
        "make one with: ncu --csv --page raw --import FILE.ncu-rep"
    )


def _scale(path: Path, metric: str, unit: str) -> float:
    """What to multiply a value with to have it in bytes, nanoseconds, percent or counts."""
    if unit.lower() in _TIMES:
        return _TIMES[unit.lower()]
    match = _BYTES.fullmatch(unit) or _COUNTS.fullmatch(unit)
    if match is None:
        raise CounterError(f"{path}: {metric} is in {unit!r}, a unit that is not known; print with --print-units base")
    return _SCALES[match[1].upper()]


def _value(path: Path, line: int, metric: str, text: str) -> float | None:
    text = text.strip()
    if text.lower() in _MISSING:
        return None
    if not _NUMBER.fullmatch(text):
        raise CounterError(f"{path}, line {line}: {metric} is {text[:40]!r}, which is not a number")
    value = float(text.replace(",", ""))
    if value < 0 or not math.isfinite(value):
        raise CounterError(f"{path}, line {line}: {metric} is {text[:40]}, which no counter can be")
    return value
