"""A trace with what edgeroof found in it: every kernel's bound and cost as arguments, and counter tracks.

Perfetto and chrome://tracing show both. Every event and every field of the trace stays as it is, to the digit; what is
added has names of its own (an argument ``edgeroof`` and events of the category ``edgeroof``), so that reading the
result gives the same tables, and annotating it again replaces what was added before.
"""

from __future__ import annotations

import gzip
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import msgspec
import numpy as np

from ...errors import TraceError
from .kineto import Event, batches, decode_events, raw_events, to_nanoseconds
from .pieces import (
    EVENTS,
    HEAD,
    IrregularLayoutError,
    cut,
    joined,
    limit_from_environment,
    tolerant,
    unpacked_blocks,
)
from .rate_tracks import TRACKS, device_levels
from .trace import KERNEL_KINDS, cut_name, flaw_of

if TYPE_CHECKING:
    import pandas as pd

try:  # packs several times as fast as zlib
    from isal.igzip import open as _open_gzip
except ImportError:
    _open_gzip = gzip.open  # type: ignore[assignment]

#: The argument of an annotated event, the category of the counters, and the entry of the object around the events.
OURS = "edgeroof"
#: Columns of the kernel table that become arguments, beside the bytes; what is not known is left out.
_TEXTS = ("bound", "phase", "module", "op", "dtype", "provenance")
_NUMBERS = ("flops", "intensity", "gflops", "bandwidth_gbs", "roof_fraction", "headroom_us")
#: Counter events that are in memory at a time.
_COUNTERS_AT_ONCE = 4096
_SPELT = b'"edgeroof"'

_Fields = dict[str, msgspec.Raw]
_decode_fields = msgspec.json.Decoder(_Fields).decode
_encode = msgspec.json.encode


def annotate_trace(
    source: Path, target: Path, kernels: pd.DataFrame, *, start_ns: int, about: Mapping[str, Any] | None = None
) -> int:
    """Write a trace with the findings of its kernel table.

    The trace is read and written as a stream, so that memory holds the table and one block of text.

    Args:
        source: the trace that the table is from, ``.json`` or ``.json.gz``.
        target: where to write it, as gzip.
        kernels: the classified kernel table.
        start_ns: what ``start_us`` in the table is since, in the time of the trace.
        about: what the reader of the numbers should know, kept beside the events.

    Returns:
        Kernels that were found and annotated.

    Raises:
        TraceError: the trace cannot be read.
    """
    limit = limit_from_environment()
    try:
        with _Writer(target, _Findings(kernels, start_ns), about or {}) as writer:
            for kind, text in cut(unpacked_blocks(source, limit, [0])):
                if kind == EVENTS:
                    writer.events(text)
                elif kind == HEAD:
                    writer.head(bytes(text))
                else:
                    writer.rest(_object(b'{"traceEvents":[' + bytes(text)))
    except IrregularLayoutError:
        whole = joined(source, unpacked_blocks(source, limit // 4, [0]))
        try:
            with _Writer(target, _Findings(kernels, start_ns), about or {}) as writer:
                _write_whole(writer, whole)
        except IrregularLayoutError as error:
            raise TraceError(f"{source} is not a Kineto trace: {error}") from None
    return writer.annotated


def _write_whole(writer: _Writer, text: bytes) -> None:
    """A trace of any layout, all of it in memory at once; a bare array of events stays one."""
    if text.lstrip()[:1] == b"[":
        writer.head(b"[")
        writer.rest({"traceEvents": msgspec.Raw(text)}, bare_array=True)
    else:
        writer.head(b'{"traceEvents":[')
        writer.rest(_object(text))


def _object(text: bytes) -> _Fields:
    """The fields of the object around the events, as they are spelt."""
    try:
        fields: _Fields = tolerant(_decode_fields, text)
    except msgspec.DecodeError as error:
        raise IrregularLayoutError(str(error)) from error
    return fields


class _Findings:
    """The kernel table, looked up by what an event says of itself."""

    def __init__(self, kernels: pd.DataFrame, start_ns: int) -> None:
        self.kernels = kernels
        self.start_ns = start_ns
        self.kinds = frozenset(kernels["kind"].astype(str).unique())
        starts_ns = np.rint(kernels["start_us"].to_numpy(float) * 1000).astype(np.int64) + start_ns
        self._order = np.argsort(starts_ns, kind="stable")
        self._starts_ns = starts_ns[self._order]
        self._durations_ns = np.rint(kernels["dur_us"].to_numpy(float) * 1000).astype(np.int64)
        self._streams = kernels["stream"].to_numpy()
        self._texts = {name: _text_of(kernels[name]) for name in ("name", *_TEXTS)}
        self._numbers = {name: kernels[name].to_numpy(float) for name in ("bytes_read", "bytes_written", *_NUMBERS)}
        self._devices = kernels["device_index"].to_numpy()
        self._taken = np.zeros(len(kernels), bool)

    def rows(self, events: Sequence[Event]) -> list[int]:
        """Row of each event in the table, -1 where it has none; each row is found once."""
        starts_ns = to_nanoseconds([event.ts for event in events])
        durations_ns = to_nanoseconds([event.dur for event in events])
        first = np.searchsorted(self._starts_ns, starts_ns, "left").tolist()
        last = np.searchsorted(self._starts_ns, starts_ns, "right").tolist()
        return [
            self._row(event, self._order[low:high].tolist(), dur) if high > low else -1
            for event, low, high, dur in zip(events, first, last, durations_ns.tolist())
        ]

    def _row(self, event: Event, rows: Sequence[int], dur_ns: int) -> int:
        """The row, of those that start with the event, that lasts as long and is called the same."""
        name = cut_name(event.name or "")
        stream = event.args.stream if event.args else None
        fitting = [
            row
            for row in rows
            if not self._taken[row] and self._durations_ns[row] == dur_ns and self._texts["name"](row) == name
        ]
        if not fitting:
            return -1
        found = next((row for row in fitting if self._streams[row] in (stream, event.tid)), fitting[0])
        self._taken[found] = True
        return found

    def device(self, row: int) -> int:
        """Index of the device that a row ran on."""
        return int(self._devices[row])

    def of(self, row: int) -> dict[str, Any]:
        """What was found about a row; nothing that is not known."""
        numbers = {name: float(values[row]) for name, values in self._numbers.items()}
        moved = numbers.pop("bytes_read") + numbers.pop("bytes_written")
        texts = {name: self._texts[name](row) for name in _TEXTS}
        known = {name: plain(value) for name, value in {"bytes": moved, **numbers}.items() if math.isfinite(value)}
        return {name: text for name, text in texts.items() if text} | known


def _text_of(column: pd.Series) -> Callable[[int], str]:
    """The text of each row of a column of categories."""
    categorical = column.astype("category").cat
    codes, names = categorical.codes.to_numpy(), [str(name) for name in categorical.categories]
    return lambda row: names[codes[row]] if codes[row] >= 0 else ""


def plain(value: float) -> float | int:
    """A finite number with six digits; whole ones as integers."""
    short = float(f"{value:.6g}")
    return int(short) if short.is_integer() and abs(short) < 1 << 53 else short


class _Writer:
    """Writes a trace piece by piece, annotates events on the way, and adds the counters behind the last one."""

    def __init__(self, target: Path, findings: _Findings, about: Mapping[str, Any]) -> None:
        self.annotated = 0
        self._findings = findings
        self._about = about
        self._processes: dict[int, int | str] = {}  # of each device, as the trace calls it
        self._separator = b"\n"
        self._file = cast(BinaryIO, _open_gzip(target, "wb"))

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def head(self, text: bytes) -> None:
        """What stands before the events."""
        if _SPELT in text and OURS in _object(text + b"]}"):
            raise IrregularLayoutError("what is to be replaced stands before the events")
        self._file.write(text)

    def events(self, array: bytes | memoryview) -> None:
        """A JSON array of events."""
        if _SPELT in bytes(array):
            array = _without_ours(array)
        raws, events = raw_events(array), decode_events(array)
        kinds = self._findings.kinds
        kernels = [
            (place, event)
            for place, event in enumerate(events)
            if event is not None and event.ph == "X" and KERNEL_KINDS.get((event.cat or "").lower()) in kinds
            if not flaw_of(event)
        ]
        rows = self._findings.rows([event for _, event in kernels])
        for (place, event), row in zip(kernels, rows):
            if row >= 0:
                self.annotated += 1
                raws[place] = _with_argument(raws[place], self._findings.of(row))
                if event.pid is not None:
                    self._processes.setdefault(self._findings.device(row), event.pid)
        self._write(raws)

    def rest(self, fields: _Fields, *, bare_array: bool = False) -> None:
        """The last events, the counters, and what stands behind them."""
        if "traceEvents" not in fields:
            raise IrregularLayoutError("it has no traceEvents")
        for batch in batches(raw_events(fields["traceEvents"])):
            self.events(batch)
        counters = self._counters()
        while some := list(itertools.islice(counters, _COUNTERS_AT_ONCE)):
            self._write(some)
        others = {name: raw for name, raw in fields.items() if name not in ("traceEvents", OURS)}
        others[OURS] = msgspec.Raw(_encode(self._about))
        self._file.write(b"\n]\n" if bare_array else b"\n],\n" + _encode(others)[1:] + b"\n")

    def _write(self, events: Iterable[bytes | msgspec.Raw]) -> None:
        text = b",\n".join(events)
        if text:
            self._file.write(self._separator + text)
            self._separator = b",\n"

    def _counters(self) -> Iterator[bytes]:
        for track in TRACKS:
            for device, times_ns, values in device_levels(self._findings.kernels, track):
                process = self._processes.get(device)
                if process is None:
                    continue
                for time_ns, value in zip(times_ns.tolist(), values.tolist()):
                    yield _encode({
                        "ph": "C",
                        "cat": OURS,
                        "name": track.name,
                        "pid": process,
                        "ts": _microseconds(self._findings.start_ns + time_ns),
                        "args": {track.unit: plain(value)},
                    })  # fmt: skip


def _without_ours(array: bytes | memoryview) -> bytes:
    """A JSON array of events without what an earlier run added."""
    kept = []
    for raw, event in zip(raw_events(array), decode_events(array)):
        if event is None or _SPELT not in bytes(raw):
            kept.append(raw)
        elif event.ph != "C" or event.cat != OURS:
            kept.append(_with_argument(raw, None))
    return b"[" + b",".join(kept) + b"]"


def _with_argument(raw: msgspec.Raw, findings: Mapping[str, Any] | None) -> msgspec.Raw:
    """An event with what was found as its last argument; without any such argument for ``None``."""
    event = _decode_fields(raw)
    spelt = event.get("args")
    if spelt is None and findings is None:
        return raw
    args = _decode_fields(spelt) if spelt is not None and bytes(spelt)[:1] == b"{" else {}
    args.pop(OURS, None)
    if findings is not None:
        args[OURS] = msgspec.Raw(_encode(findings))
    event["args"] = msgspec.Raw(_encode(args))
    return msgspec.Raw(_encode(event))


def _microseconds(time_ns: int) -> msgspec.Raw:
    """A time as JSON, to the nanosecond; whole microseconds stay integers, as in the traces that write only those."""
    whole, part = divmod(time_ns, 1000)
    return msgspec.Raw(str(Decimal(time_ns).scaleb(-3) if part else whole).encode())
