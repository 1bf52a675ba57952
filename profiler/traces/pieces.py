"""The text of a trace as a stream of pieces: what stands before its events, the events block by block, what follows.

A trace is a JSON object whose ``traceEvents`` array holds nearly all of its bytes. The file is unpacked block by block,
so the unpacked text is never in memory as a whole. A block is cut at the comma where one event ends and the next
begins. Should a cut fall inside an event or a string, the piece before it is not valid JSON, and whoever decodes it
raises :class:`IrregularLayoutError` and reads the file again in one piece: a cut cannot go wrong unnoticed.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import msgspec

from ...errors import TraceError

try:  # unpacks five times as fast as zlib, which would be a sixth of an import
    from isal import igzip as _gzip
    from isal import isal_zlib as _zlib
except ImportError:
    import gzip as _gzip  # type: ignore[no-redef]
    import zlib as _zlib  # type: ignore[no-redef]

_DAMAGED: Any = (gzip.BadGzipFile, _zlib.error)

#: A file that unpacks to more than this is refused.
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

#: Kinds of pieces, in the order in which they come: one head, any number of arrays of events, one tail.
HEAD, EVENTS, TAIL = range(3)


class Piece(NamedTuple):
    """Part of a trace's text; that of events is memory which is used again, so nobody keeps it."""

    kind: int
    #: HEAD: the text up to and with the bracket that opens the events. EVENTS: a JSON array of events. TAIL: the last
    #: events, the bracket that closes them, and the rest of the object.
    text: bytes | memoryview


class IrregularLayoutError(Exception):
    """The text cannot be cut between events."""


def limit_from_environment() -> int:
    """Most bytes a trace may unpack to.

    Raises:
        TraceError: the environment variable holds no number.
    """
    text = os.environ.get(MAX_BYTES_VARIABLE, "")
    if not text:
        return MAX_BYTES
    try:
        return int(text)
    except ValueError:
        raise TraceError(f"{MAX_BYTES_VARIABLE}={text!r} is not a number of bytes") from None


def unpacked_blocks(path: Path, limit: int, size: list[int]) -> Iterator[bytes]:
    """Unpacked blocks of the file; ``size`` is told how many bytes there were.

    Raises:
        TraceError: the file cannot be read, is damaged, empty, or unpacks to more than ``limit`` bytes.
    """
    with _explained(path), open(path, "rb") as file:
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


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns what can go wrong while a file is read into an error that says what to do."""
    try:
        yield
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


def cut(blocks: Iterator[bytes]) -> Iterator[Piece]:
    """Pieces of a regular trace.

    Raises:
        IrregularLayoutError: no array of events begins where Kineto begins it.
    """
    head, rest = _head(blocks)
    yield Piece(HEAD, head)
    buffer = bytearray(2 * _BLOCK + len(rest))  # used again and again: fresh memory costs more than the copy
    buffer[0] = ord("[")
    end = _put(buffer, 1, rest)
    for block in blocks:
        if end + len(block) > len(buffer):
            buffer = buffer[:end] + bytes(end + 2 * len(block))
        end = _put(buffer, end, block)
        at = _last_cut(buffer, end)
        if at:
            buffer[at] = ord("]")  # in place of the comma
            yield Piece(EVENTS, memoryview(buffer)[: at + 1])
            end = _put(buffer, 1, bytes(memoryview(buffer)[at + 1 : end]))
    yield Piece(TAIL, bytes(memoryview(buffer)[1:end]))


def _head(blocks: Iterator[bytes]) -> tuple[bytes, bytes]:
    """The text up to and with the opening bracket of the events, and what follows it."""
    text = b""
    for block in blocks:
        text += block
        start = _ARRAY_START.search(text)
        if start:
            return text[: start.end()], text[start.end() :]
        if len(text) > _MAX_HEADER or text[:64].lstrip()[:1] not in (b"{", b""):
            break
    raise IrregularLayoutError


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


def joined(path: Path, blocks: Iterator[bytes]) -> bytes:
    """The whole text, unless its first character tells that it is not JSON."""
    first = next(blocks, b"")
    if first.lstrip()[:1] not in (b"{", b"["):
        found = "neither gzip, as its name says, nor JSON" if path.suffix == ".gz" else "not JSON"
        if first[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            found = "UTF-16, not the UTF-8 of JSON"
        raise TraceError(f"{path} is {found}; give a Kineto trace (.json or .json.gz)")
    return first + b"".join(blocks)


def tolerant(decode: Callable[[bytes | memoryview], Any], text: bytes | memoryview) -> Any:
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
