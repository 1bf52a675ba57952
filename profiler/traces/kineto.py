"""Kineto's JSON, read as a stream: bytes of a file to batches of typed events.

A trace is a JSON object whose ``traceEvents`` array holds nearly all of its bytes. The file is unpacked and decoded
block by block, so neither the unpacked text nor its objects are ever in memory as a whole. A block is cut at the comma
where one event ends and the next begins. Should a cut fall inside an event or a string, the piece before it is not
valid JSON, and the file is read again in one piece: a cut cannot go wrong unnoticed.
"""

from __future__ import annotations

import codecs
import gzip
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec

from ...errors import TraceError

try:  # unpacks five times as fast as zlib, which would be a sixth of an import
    from isal import igzip as _gzip
    from isal import isal_zlib as _zlib
except ImportError:
    import gzip as _gzip  # type: ignore[no-redef]
    import zlib as _zlib  # type: ignore[no-redef]

_DAMAGED: Any = (gzip.BadGzipFile, _zlib.error)

#: A file that unpacks to more than this is refused, see :func:`read_events`.
MAX_BYTES = 8 << 30
#: Environment variable that replaces :data:`MAX_BYTES`.
MAX_BYTES_VARIABLE = "EDGEROOF_MAX_TRACE_BYTES"

_BLOCK = 1 << 18
#: A header (device properties, package lists) longer than this is not Kineto's.
_MAX_HEADER = 64 << 20
_ARRAY_START = re.compile(rb'"traceEvents"\s*:\s*\[')
#: Escapes such as \ud800 that are not half of a pair.
_LONE_SURROGATE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
_NON_FINITE = re.compile(rb"([:\[,]\s*)[-+]?(?:nan|inf|infinity)(?=\s*[,}\]])", re.IGNORECASE)
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


class _IrregularLayoutError(Exception):
    """The text cannot be cut between events."""


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
    limit = max_bytes if max_bytes is not None else _limit_from_environment()
    skipped: Counter[str] = Counter()
    size = [0]
    try:
        try:
            document = _read_in_pieces(_blocks(path, limit, size), new_consumer(), skipped)
        except _IrregularLayoutError:
            skipped.clear()
            size[0] = 0
            text = _joined(path, _blocks(path, limit // 4, size))
            document = _read_whole(path, text, new_consumer(), skipped)
    except IsADirectoryError:
        raise TraceError(f"{path} is a directory; give the trace file inside it (.json or .json.gz)") from None
    except FileNotFoundError:
        raise TraceError(f"{path} does not exist") from None
    except EOFError:
        raise TraceError(f"{path} is a truncated gzip file; copy or record the trace again") from None
    except _DAMAGED as error:
        raise TraceError(f"{path} is a damaged gzip file ({error}); copy or record the trace again") from None
    except OSError as error:
        raise TraceError(f"{path} cannot be read: {error.strerror or error}") from None
    except MemoryError:
        raise TraceError(f"{path} does not fit in memory; profile fewer steps") from None
    return document, skipped, size[0]


def _limit_from_environment() -> int:
    text = os.environ.get(MAX_BYTES_VARIABLE, "")
    if not text:
        return MAX_BYTES
    try:
        return int(text)
    except ValueError:
        raise TraceError(f"{MAX_BYTES_VARIABLE}={text!r} is not a number of bytes") from None


def _blocks(path: Path, limit: int, size: list[int]) -> Iterator[bytes]:
    """Unpacked blocks of the file; ``size`` is told how many bytes there were."""
    with open(path, "rb") as file:
        packed = file.peek(2)[:2] == b"\x1f\x8b"
        source = cast(BinaryIO, _gzip.open(file)) if packed else file  # noqa: SIM115 - it does not own the file
        while block := source.read(_BLOCK):
            if not size[0]:
                block = block.removeprefix(codecs.BOM_UTF8)
            size[0] += len(block)
            if size[0] > limit:
                raise TraceError(
                    f"{path} unpacks to more than {limit / 2**20:,.0f} MiB; "
                    f"profile fewer steps, or set {MAX_BYTES_VARIABLE} to a larger number of bytes"
                )
            yield block
    if not size[0]:
        raise TraceError(f"{path} is empty")


def _read_in_pieces(blocks: Iterator[bytes], consume: Callable[[list[Event]], None], skipped: Counter[str]) -> Document:
    header, rest = _read_header(blocks)
    buffer = bytearray(2 * _BLOCK + len(rest))  # used again and again: fresh memory costs more than the copy
    buffer[0] = ord("[")
    end = _put(buffer, 1, rest)
    for block in blocks:
        if end + len(block) > len(buffer):
            buffer = buffer[:end] + bytes(end + 2 * len(block))
        end = _put(buffer, end, block)
        cut = _last_cut(buffer, end)
        if cut:
            buffer[cut] = ord("]")  # in place of the comma
            consume(_events(memoryview(buffer)[: cut + 1], skipped))
            end = _put(buffer, 1, bytes(memoryview(buffer)[cut + 1 : end]))
    rest = bytes(memoryview(buffer)[1:end])
    try:
        tail = _tolerant(_decode_document, b'{"traceEvents":[' + rest)
    except msgspec.DecodeError as error:
        raise _IrregularLayoutError from error
    for batch in _batches(tail.events or []):
        consume(_events(batch, skipped))
    return Document(
        deviceProperties=header.deviceProperties or tail.deviceProperties,
        distributedInfo=header.distributedInfo or tail.distributedInfo,
        schemaVersion=header.schemaVersion or tail.schemaVersion,
    )


def _read_header(blocks: Iterator[bytes]) -> tuple[Document, bytes]:
    """The object up to its events, closed as if it had none, and the text that follows the opening bracket."""
    text = b""
    for block in blocks:
        text += block
        start = _ARRAY_START.search(text)
        if start:
            try:
                return _tolerant(_decode_document, text[: start.end()] + b"]}"), text[start.end() :]
            except msgspec.DecodeError as error:
                raise _IrregularLayoutError from error
        if len(text) > _MAX_HEADER or text[:64].lstrip()[:1] not in (b"{", b""):
            break
    raise _IrregularLayoutError


def _put(buffer: bytearray, start: int, text: bytes) -> int:
    """Copy ``text`` to ``start``; where it ends."""
    buffer[start : start + len(text)] = text
    return start + len(text)


def _last_cut(text: bytearray, end: int) -> int:
    """Position before ``end`` of the last comma between two objects, 0 when there is none in reach."""
    for _ in range(64):
        end = text.rfind(b"},", 0, end)
        if end < 0:
            return 0
        if text[end + 2 : end + 66].lstrip()[:1] == b"{":
            return end + 1
    return 0


def _events(array: bytes | memoryview, skipped: Counter[str]) -> list[Event]:
    """Decode a JSON array of events; those with a field of the wrong type are left out and counted.

    Raises:
        _IrregularLayoutError: it is not valid JSON.
    """
    try:
        try:
            return _decoded(array)
        except msgspec.ValidationError:
            return _events_one_by_one(array, skipped)
    except msgspec.DecodeError as error:
        raise _IrregularLayoutError(str(error)) from error


def _decoded(array: bytes | memoryview) -> list[Event]:
    events: list[Event] = _tolerant(_decode_events, array)
    # A trace writes all its times alike, so a sample tells whether floats hold their nanoseconds.
    if any(type(event.ts) is float and abs(event.ts) > _EXACT_FLOAT_US for event in events[::64]):
        events = list(_tolerant(_decode_exact_events, array))
    return events


def _events_one_by_one(array: bytes | memoryview, skipped: Counter[str]) -> list[Event]:
    events = []
    for raw in _tolerant(_decode_raw_events, array):
        try:
            events.append(_decode_event(raw))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            skipped["a field of the wrong type"] += 1
    return events


def _tolerant(decode: Callable[[bytes | memoryview], Any], text: bytes | memoryview) -> Any:
    """Decode; failing that, once more without what JSON forbids but traces hold.

    That is NaN, Infinity, broken UTF-8 and escapes of lone surrogates.
    """
    try:
        return decode(text)
    except msgspec.ValidationError:
        raise
    except RecursionError:
        raise msgspec.DecodeError("nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        repaired = _NON_FINITE.sub(rb"\1null", bytes(text).decode("utf-8", "replace").encode())
        return decode(_LONE_SURROGATE.sub(rb"\\ufffd", repaired))


def _joined(path: Path, blocks: Iterator[bytes]) -> bytes:
    """The whole text, unless its first character tells that it is not JSON."""
    first = next(blocks, b"")
    if first.lstrip()[:1] not in (b"{", b"["):
        found = "neither gzip, as its name says, nor JSON" if path.suffix == ".gz" else "not JSON"
        if first[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            found = "UTF-16, not the UTF-8 of JSON"
        raise TraceError(f"{path} is {found}; give a Kineto trace (.json or .json.gz)")
    return first + b"".join(blocks)


def _read_whole(path: Path, text: bytes, consume: Callable[[list[Event]], None], skipped: Counter[str]) -> Document:
    """Decode a file of any layout, all of it in memory at once."""
    bare_array = text.lstrip()[:1] == b"["
    try:
        if bare_array:
            document = Document(events=_tolerant(_decode_raw_events, text))
        else:
            document = _tolerant(_decode_document, text)
    except msgspec.ValidationError as error:
        raise TraceError(f"{path} is JSON but not a Kineto trace: {error}") from None
    except msgspec.DecodeError as error:
        what = "truncated" if "truncated" in str(error) else "not valid JSON"
        raise TraceError(f"{path} is {what} ({error}); copy or record the trace again") from None
    if document.events is None:
        raise TraceError(f"{path} is JSON but not a Kineto trace: it has no traceEvents")
    for batch in _batches(document.events):
        try:
            consume(_events(batch, skipped))
        except _IrregularLayoutError as error:
            raise TraceError(f"{path} is not valid JSON ({error}); copy or record the trace again") from None
    document.events = None
    return document


def _batches(raw_events: list[msgspec.Raw], length: int = 4096) -> Iterator[bytes]:
    for start in range(0, len(raw_events), length):
        yield b"[" + b",".join(raw_events[start : start + length]) + b"]"
