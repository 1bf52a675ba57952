"""Kineto's JSON to batches of typed events, read as a stream: see :mod:`.pieces` for how its text is cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ...errors import TraceError
from .pieces import (
    EVENTS,
    HEAD,
    IrregularLayoutError,
    Piece,
    cut,
    joined,
    limit_from_environment,
    tolerant,
    unpacked_blocks,
)

#: Up to here a float64 of microseconds resolves a nanosecond; larger fractional times are decoded as decimals.
_EXACT_FLOAT_US = float(1 << 43)
_EMPTY = msgspec.Raw(b"")


class Args(msgspec.Struct, gc=False):
    """Those arguments of an event that linking, attribution and inference use."""

    dims: msgspec.Raw = msgspec.field(default=_EMPTY, name="Input Dims")
    old_dims: msgspec.Raw = msgspec.field(default=_EMPTY, name="Input dims")
    types: msgspec.Raw = msgspec.field(default=_EMPTY, name="Input type")
    strides: msgspec.Raw = msgspec.field(default=_EMPTY, name="Input Strides")
    concrete: msgspec.Raw = msgspec.field(default=_EMPTY, name="Concrete Inputs")
    sequence: int | None = msgspec.field(default=-1, name="Sequence number")
    forward_thread: int | None = msgspec.field(default=-1, name="Fwd thread id")
    correlation: int | None = -1
    device: int | None = -1
    stream: int | None = -1
    bytes: int | float | None = None


class Event(msgspec.Struct, gc=False):
    """One entry of ``traceEvents``; times in microseconds."""

    ph: str | None = None
    cat: str | None = None
    name: str | None = None
    ts: int | float | None = None
    dur: int | float | None = None
    pid: int | str | None = None
    tid: int | str | None = None
    args: Args | None = None


class ExactEvent(Event, gc=False):
    """An event whose start is too large for a float to keep its nanoseconds."""

    ts: Decimal | None = None  # type: ignore[assignment]


class Document(msgspec.Struct, rename={"events": "traceEvents"}):
    """The object around the events."""

    events: list[msgspec.Raw] | None = None
    deviceProperties: Any = None  # noqa: N815 - Kineto's spelling
    distributedInfo: Any = None  # noqa: N815
    schemaVersion: Any = None  # noqa: N815


_decode_events = msgspec.json.Decoder(list[Event]).decode
_decode_exact_events = msgspec.json.Decoder(list[ExactEvent]).decode
_decode_event = msgspec.json.Decoder(Event).decode
_decode_raw_events = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_document = msgspec.json.Decoder(Document).decode


def read_events(
    path: Path, new_consumer: Callable[[], Callable[[list[Event]], None]], max_bytes: int | None = None
) -> tuple[Document, Counter[str], int]:
    """Feed the events of a trace, in order, to a consumer.

    Args:
        path: ``.json`` or ``.json.gz``; what it is decides the content, not the name.
        new_consumer: makes a function that takes batches of events and keeps none of them: their memory is used
            again. It is called a second time, and the first consumer dropped, when the text turns out to need the
            slower way of reading.
        max_bytes: refuse files that unpack to more bytes; by default ``EDGEROOF_MAX_TRACE_BYTES`` or 8 GiB.

    Returns:
        The object around the events (without them), the number of events left out by reason, and the unpacked size.

    Raises:
        TraceError: the file cannot be read, is damaged, or is not a Kineto trace.
    """
    limit = max_bytes if max_bytes is not None else limit_from_environment()
    skipped: Counter[str] = Counter()
    size = [0]
    try:
        try:
            document = _read_in_pieces(cut(unpacked_blocks(path, limit, size)), new_consumer(), skipped)
        except IrregularLayoutError:
            skipped.clear()
            size[0] = 0
            text = joined(path, unpacked_blocks(path, limit // 4, size))
            document = _read_whole(path, text, new_consumer(), skipped)
    except MemoryError:
        raise TraceError(f"{path} does not fit in memory; profile fewer steps") from None
    return document, skipped, size[0]


def _read_in_pieces(pieces: Iterator[Piece], consume: Callable[[list[Event]], None], skipped: Counter[str]) -> Document:
    header = tail = Document()
    for kind, text in pieces:
        if kind == EVENTS:
            consume(_events(text, skipped))
        elif kind == HEAD:
            header = _part(bytes(text) + b"]}")
        else:
            tail = _part(b'{"traceEvents":[' + bytes(text))
    for batch in batches(tail.events or []):
        consume(_events(batch, skipped))
    return Document(
        deviceProperties=header.deviceProperties or tail.deviceProperties,
        distributedInfo=header.distributedInfo or tail.distributedInfo,
        schemaVersion=header.schemaVersion or tail.schemaVersion,
    )


def _part(text: bytes) -> Document:
    """The object around the events, closed or opened where the text was cut."""
    try:
        document: Document = tolerant(_decode_document, text)
    except msgspec.DecodeError as error:
        raise IrregularLayoutError from error
    return document


def _events(array: bytes | memoryview, skipped: Counter[str]) -> list[Event]:
    """Decode a JSON array of events; those with a field of the wrong type are left out and counted.

    Raises:
        IrregularLayoutError: it is not valid JSON.
    """
    events = decode_events(array)
    sound = [event for event in events if event is not None]
    if len(sound) < len(events):
        skipped["a field of the wrong type"] += len(events) - len(sound)
    return sound


def decode_events(array: bytes | memoryview) -> Sequence[Event | None]:
    """Decode a JSON array of events, ``None`` for those with a field of the wrong type.

    Raises:
        IrregularLayoutError: it is not valid JSON.
    """
    try:
        try:
            return _decoded(array)
        except msgspec.ValidationError:
            return _events_one_by_one(array)
    except msgspec.DecodeError as error:
        raise IrregularLayoutError(str(error)) from error


def raw_events(array: bytes | memoryview) -> list[msgspec.Raw]:
    """The text of each event of a JSON array.

    Raises:
        IrregularLayoutError: it is not valid JSON.
    """
    try:
        raws: list[msgspec.Raw] = tolerant(_decode_raw_events, array)
    except msgspec.DecodeError as error:
        raise IrregularLayoutError(str(error)) from error
    return raws


def _decoded(array: bytes | memoryview) -> list[Event]:
    events: list[Event] = tolerant(_decode_events, array)
    # A trace writes all its times alike, so a sample tells whether floats hold their nanoseconds.
    if any(type(event.ts) is float and abs(event.ts) > _EXACT_FLOAT_US for event in events[::64]):
        events = list(tolerant(_decode_exact_events, array))
    return events


def _events_one_by_one(array: bytes | memoryview) -> list[Event | None]:
    events: list[Event | None] = []
    for raw in tolerant(_decode_raw_events, array):
        try:
            events.append(_decode_event(raw))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            events.append(None)
    return events


def to_nanoseconds(times_us: Sequence[Any]) -> np.ndarray:
    """Exact nanoseconds; whole and fractional part are scaled apart, which float64 represents exactly."""
    types = set(map(type, times_us))
    if types <= {int}:
        return np.array(times_us, np.int64) * 1000
    if not types <= {int, float}:  # decimals
        return np.array([int(time * 1000) for time in times_us], np.int64)
    values = np.array(times_us, np.float64)
    whole = np.floor(values)
    return whole.astype(np.int64) * 1000 + np.rint((values - whole) * 1000).astype(np.int64)


def _read_whole(path: Path, text: bytes, consume: Callable[[list[Event]], None], skipped: Counter[str]) -> Document:
    """Decode a file of any layout, all of it in memory at once."""
    bare_array = text.lstrip()[:1] == b"["
    try:
        if bare_array:
            document = Document(events=tolerant(_decode_raw_events, text))
        else:
            document = tolerant(_decode_document, text)
    except msgspec.ValidationError as error:
        raise TraceError(f"{path} is JSON but not a Kineto trace: {error}") from None
    except msgspec.DecodeError as error:
        what = "truncated" if "truncated" in str(error) else "not valid JSON"
        raise TraceError(f"{path} is {what} ({error}); copy or record the trace again") from None
    if document.events is None:
        raise TraceError(f"{path} is JSON but not a Kineto trace: it has no traceEvents")
    for batch in batches(document.events):
        try:
            consume(_events(batch, skipped))
        except IrregularLayoutError as error:
            raise TraceError(f"{path} is not valid JSON ({error}); copy or record the trace again") from None
    document.events = None
    return document


def batches(raw_events: list[msgspec.Raw], length: int = 4096) -> Iterator[bytes]:
    """JSON arrays of so many events each."""
    for start in range(0, len(raw_events), length):
        yield b"[" + b",".join(raw_events[start : start + length]) + b"]"
