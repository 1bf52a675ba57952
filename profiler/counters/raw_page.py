"""Tables of Nsight Compute as CSV: the raw page (``ncu --csv --page raw --import report.ncu-rep``), and the details.

The raw page has a header of fixed columns (``ID``, ``Kernel Name``, …) followed by one column a metric, a row with the
metrics' units, and one row a launch. The details page, which ``ncu --csv --metrics …`` prints by default, has one row a
metric, with its name, unit and value. Lines of the profiler or of the program may stand before the header. Numbers have
thousands separators and units are scaled (``Mbyte``, ``usecond``) unless ``--print-units base`` was given; on some
systems they follow the locale. A metric that was not collected for a launch is empty or says ``n/a``.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
#: Spaces and apostrophes that some locales put between thousands.
_GROUPING = re.compile(r"(?<=\d)[ \u00a0\u202f'\u2019](?=\d{3})")
_SWAPPED = str.maketrans(",.", ".,")


@dataclass
class _Row:
    """One launch as the file has it: the line it starts on; of each metric its text, and what to multiply it with."""

    line: int
    name: str
    metrics: dict[str, tuple[str, float]] = field(default_factory=dict)


def read_raw_page(path: Path) -> list[Launch]:
    """Read every launch of a raw or a details page.

    Raises:
        CounterError: it is neither, or a value in it is no number.
    """
    csv.field_size_limit(_LINE_LIMIT)
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            launches = _rows(path, stream)
    except OSError as error:
        raise CounterError(f"cannot read {path}: {error.strerror or error}") from error
    except csv.Error as error:
        raise CounterError(f"{path} is not a CSV file as ncu writes it: {error}") from error
    if not launches:
        raise CounterError(f"{path} has a header but no launches: ncu profiled nothing")
    swapped = _decimal_comma([text for row in launches for text, _ in row.metrics.values()])
    return [_launch(path, row, swapped) for row in launches]


def _rows(path: Path, lines: Iterable[str]) -> list[_Row]:
    rows = csv.reader(lines)
    header = _header(path, rows)
    if "Metric Name" in header:
        return list(_from_details(path, header, rows))
    return list(_from_raw(path, header, rows))


def _from_raw(path: Path, header: list[str], rows: Iterator[list[str]]) -> Iterator[_Row]:
    columns = {name: position for position, name in enumerate(header) if name in METRICS}
    if not columns:
        raise _no_metrics(path)
    place = header.index(_NAME)
    units = next(rows, None)
    if units is None or len(units) != len(header) or units[place].strip():
        raise CounterError(f"{path} has no row of units below its header: print it with --page raw")
    scales = {name: _scale(path, name, units[position].strip()) for name, position in columns.items()}
    for line, values in _values(path, header, rows):
        metrics = {name: (values[position].strip(), scales[name]) for name, position in columns.items()}
        yield _Row(line, values[place].strip(), metrics)


def _from_details(path: Path, header: list[str], rows: Iterator[list[str]]) -> Iterator[_Row]:
    """Rows of one launch follow each other and share its ID."""
    needed = ("ID", _NAME, "Metric Name", "Metric Unit", "Metric Value")
    missing = [name for name in needed if name not in header]
    if missing:
        raise CounterError(
            f"{path} is a details page of ncu without {', '.join(missing)}; print the raw one: --page raw"
        )
    identity, name, metric, unit, value = (header.index(column) for column in needed)
    current, launch, found = None, None, False
    for line, values in _values(path, header, rows):
        if launch is None or values[identity] != current:
            if launch is not None:
                yield launch
            current, launch = values[identity], _Row(line, values[name].strip())
        key = values[metric].strip()
        if key in METRICS:
            found = True
            launch.metrics[key] = (values[value].strip(), _scale(path, key, values[unit].strip()))
    if launch is None:
        return
    if not found:
        raise _no_metrics(path)
    yield launch


def _values(path: Path, header: list[str], rows: Any) -> Iterator[tuple[int, list[str]]]:
    """Line number and values of every row; what the profiler says in between is passed over."""
    for row in rows:
        if not row or (len(row) == 1 and row[0].startswith("==")):
            continue
        if len(row) != len(header):
            raise CounterError(f"{path}, line {rows.line_num}: {len(row)} values under {len(header)} columns")
        yield rows.line_num, row


def _no_metrics(path: Path) -> CounterError:
    return CounterError(
        f"{path} has none of the metrics that are compared; collect at least gpu__time_duration.sum, "
        "dram__bytes_read.sum and dram__bytes_write.sum (docs/counters.md has the whole list)"
    )


def _launch(path: Path, row: _Row, swapped: bool) -> Launch:
    metrics = {}
    for name, (text, scale) in row.metrics.items():
        value = _value(path, row.line, name, text, swapped)
        if value is not None:
            metrics[name] = value * scale
    return launch_from(row.name, metrics)


def _header(path: Path, rows: Iterator[list[str]]) -> list[str]:
    for number, row in enumerate(rows):
        names = [name.strip() for name in row]
        if _NAME in names and "ID" in names:
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


def _decimal_comma(texts: Sequence[str]) -> bool:
    """Whether numbers have points between thousands and a comma before decimals: if only that makes sense of them all.

    A file in which both do, such as one with nothing but ``117.344``, is read the English way.
    """
    numbers = [_ungrouped(text) for text in texts if text.lower() not in _MISSING]
    if all(_NUMBER.fullmatch(text) for text in numbers):
        return False
    return all(_NUMBER.fullmatch(text.translate(_SWAPPED)) for text in numbers)


def _ungrouped(text: str) -> str:
    return _GROUPING.sub("", text)


def _value(path: Path, line: int, metric: str, text: str, swapped: bool) -> float | None:
    if text.lower() in _MISSING:
        return None
    plain = _ungrouped(text).translate(_SWAPPED) if swapped else _ungrouped(text)
    if not _NUMBER.fullmatch(plain):
        raise CounterError(f"{path}, line {line}: {metric} is {text[:40]!r}, which is not a number")
    value = float(plain.replace(",", ""))
    if value < 0 or not math.isfinite(value):
        raise CounterError(f"{path}, line {line}: {metric} is {text[:40]}, which no counter can be")
    return value
