"""A Kineto trace in memory: host events and device activities as columns.

:func:`read_trace` reads any trace that ``torch.profiler`` wrote, from torch 1.8 to today, with or without a GPU. It
keeps what attribution needs: ops, annotations, ``nn.Module`` frames and launches on the host, kernels, copies and fills
on the device. Python frames, flow arrows and memory events are dropped while they are read.

Times are integer nanoseconds since the first event kept: absolute microseconds as float64 lose nanoseconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...errors import TraceError
from .kineto import Args, Document, Event, read_events, to_nanoseconds

#: Kinds of host events. Where several start and end together, the lower kind encloses the higher.
ANNOTATION, MODULE, OP, LAUNCH = range(4)
#: Kinds of device activities, as in the kernel table.
DEVICE_KINDS = ("kernel", "memcpy", "memset")

MODULE_PREFIX = "nn.Module: "

_HOST_KINDS = {
    "cpu_op": OP, "operator": OP, "user_annotation": ANNOTATION, "python_function": MODULE,
    "cuda_runtime": LAUNCH, "cuda_driver": LAUNCH, "runtime": LAUNCH, "driver": LAUNCH,
    "hip_runtime": LAUNCH, "hip_driver": LAUNCH, "privateuse1_runtime": LAUNCH, "privateuse1_driver": LAUNCH,
}  # fmt: skip
_DEVICE_KINDS = {
    "kernel": 0, "concurrent_kernel": 0, "gpu_memcpy": 1, "memcpy": 1, "gpu_memset": 2, "memset": 2,
}  # fmt: skip
#: Categories of events that can be rows of the kernel table, in small letters, and the kind of the row.
KERNEL_KINDS = {
    **{category: DEVICE_KINDS[kind] for category, kind in _DEVICE_KINDS.items()},
    **{category: "op" for category, kind in _HOST_KINDS.items() if kind == OP},
}
#: Kind of events that are dropped, and offset of the device kinds.
_DROPPED, _DEVICE = -1, 100
_ALL_KINDS = (_DROPPED, ANNOTATION, MODULE, OP, LAUNCH, _DEVICE, _DEVICE + 1, _DEVICE + 2)
#: Frequent runtime calls that never start device work: dropped before anything else looks at them.
_NEVER_LAUNCHES = frozenset({
    "cudaEventQuery", "cudaEventRecord", "cudaFuncSetAttribute", "cudaFuncGetAttributes", "cudaStreamGetCaptureInfo",
    "cudaStreamIsCapturing", "cudaPeekAtLastError", "cudaGetLastError", "cudaStreamWaitEvent",
    "cudaPointerGetAttributes", "cudaDeviceGetAttribute", "cudaOccupancyMaxActiveBlocksPerMultiprocessor",
    "cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags", "cudaStreamSynchronize", "cudaDeviceSynchronize",
})  # fmt: skip
_SEPARATOR = b"\0"
#: Characters of a name that are kept.
_LONGEST_NAME = 10_000
_NO_ARGS = Args()
#: Larger absolute values cannot be nanoseconds in an int64.
_MAX_US = 9_000_000_000_000_000


class Signature(NamedTuple):
    """What a trace recorded of an op's inputs, as JSON text; empty where it was not recorded."""

    dims: bytes
    types: bytes
    strides: bytes
    concrete: bytes


@dataclass(frozen=True, slots=True)
class HostEvents:
    """Events on host threads, sorted so that each thread's events are together and parents come before children."""

    kind: np.ndarray  # int8: ANNOTATION, MODULE, OP or LAUNCH
    name: np.ndarray  # int32, index into Trace.names
    thread: np.ndarray  # int32, index into Trace.threads
    start_ns: np.ndarray  # int64
    dur_ns: np.ndarray  # int64
    sequence: np.ndarray  # int64, autograd sequence number, -1 without one
    forward_thread: np.ndarray  # int64, of backward ops: logical id (> 0) of the thread that ran the forward
    signature: np.ndarray  # int32, index into Trace.signatures
    correlation: np.ndarray  # int64, of launches; -1 on others

    def __len__(self) -> int:
        return len(self.kind)


@dataclass(frozen=True, slots=True)
class DeviceEvents:
    """Device activities in order of start."""

    kind: np.ndarray  # int8, index into DEVICE_KINDS
    name: np.ndarray  # int32, index into Trace.names
    device: np.ndarray  # int32
    stream: np.ndarray  # int64
    start_ns: np.ndarray  # int64
    dur_ns: np.ndarray  # int64
    correlation: np.ndarray  # int64, -1 when missing
    nbytes: np.ndarray  # float64, of copies and fills; NaN when not recorded

    def __len__(self) -> int:
        return len(self.kind)


@dataclass(frozen=True, slots=True)
class Trace:
    """What a trace file holds."""

    path: Path
    host: HostEvents
    device: DeviceEvents
    names: Sequence[str]
    threads: Sequence[tuple[Any, Any]]  # (pid, tid)
    signatures: Sequence[Signature]  # the first is empty: nothing recorded
    device_properties: Sequence[dict[str, Any]]
    distributed: dict[str, Any]
    start_ns: int  # of the first event kept, in the time of the file
    resolution_ns: int  # 1, or 1000 where the profiler wrote whole microseconds
    uncompressed_bytes: int
    warnings: tuple[str, ...]

    @property
    def has_shapes(self) -> bool:
        """Whether input shapes were recorded (``record_shapes=True``)."""
        return len(self.signatures) > 1


def read_trace(path: str | Path, *, max_bytes: int | None = None) -> Trace:
    """Read a Kineto trace, ``.json`` or ``.json.gz``.

    Events that make no sense (a negative duration, a missing name) are left out and counted in ``Trace.warnings``.

    Args:
        path: the file.
        max_bytes: refuse a file that unpacks to more; by default ``EDGEROOF_MAX_TRACE_BYTES`` or 8 GiB.

    Raises:
        TraceError: the file is missing, damaged, too large, or holds no profile.
    """
    path = Path(path)
    collectors: list[_Collector] = []

    def new_consumer() -> Callable[[list[Event]], None]:
        collectors.append(_Collector())
        return collectors[-1].add

    document, skipped, size = read_events(path, new_consumer, max_bytes)
    return collectors[-1].trace(path, document, skipped, size)


def cut_name(name: str) -> str:
    """A name of sensible length; C++ templates stay whole."""
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


class _Collector:
    """Takes batches of events, keeps what is needed of each as columns."""

    def __init__(self) -> None:
        self._names = _Ids()
        self._threads = _Ids()
        self._signatures = _Ids({_SEPARATOR * 3: 0})
        self._host: list[list[np.ndarray]] = []
        self._device: list[list[np.ndarray]] = []
        self._skipped: Counter[str] = Counter()
        self._whole_microseconds = True
        self._kinds = _Kinds()

    def add(self, events: list[Event]) -> None:
        """Keep what matters of a batch."""
        kinds = self._kinds
        groups: dict[int, list[Event]] = {kind: [] for kind in _ALL_KINDS}
        for event in events:
            if event.ph == "X":
                groups[kinds[event.cat]].append(event)
        groups[LAUNCH] = [event for event in groups[LAUNCH] if _may_launch(event)]
        groups[MODULE] = [event for event in groups[MODULE] if (event.name or "").startswith(MODULE_PREFIX)]
        for kind in (ANNOTATION, MODULE, OP, LAUNCH):
            if groups[kind]:
                self._host.append(self._host_columns(kind, groups[kind]))
        for kind in range(len(DEVICE_KINDS)):
            if groups[_DEVICE + kind]:
                self._device.append(self._device_columns(kind, groups[_DEVICE + kind]))

    def _host_columns(self, kind: int, events: list[Event]) -> list[np.ndarray]:
        threads = self._threads
        events, names, start_ns, dur_ns = self._sound(events)
        args = [event.args or _NO_ARGS for event in events]
        nothing = np.full(len(events), -1)
        return [
            np.full(len(events), kind, np.int8),
            names,
            np.array([threads[event.pid, event.tid] for event in events], np.int32),
            start_ns,
            dur_ns,
            _integers([arg.sequence for arg in args]) if kind == OP else nothing,
            _integers([arg.forward_thread for arg in args]) if kind == OP else nothing,
            self._signature_ids(args) if kind == OP else np.zeros(len(events), np.int32),
            _integers([arg.correlation for arg in args]) if kind == LAUNCH else nothing,
        ]

    def _device_columns(self, kind: int, events: list[Event]) -> list[np.ndarray]:
        events, names, start_ns, dur_ns = self._sound(events)
        args = [event.args or _NO_ARGS for event in events]
        return [
            np.full(len(events), kind, np.int8),
            names,
            np.maximum(_integers([arg.device for arg in args], np.int32), 0),
            _integers([arg.stream for arg in args]),
            start_ns,
            dur_ns,
            _integers([arg.correlation for arg in args]),
            np.array([np.nan if arg.bytes is None else float(arg.bytes) for arg in args]),
        ]

    def _sound(self, events: list[Event]) -> tuple[list[Event], np.ndarray, np.ndarray, np.ndarray]:
        """Those events that make sense, with the ids of their names, their starts and durations in nanoseconds."""
        ids = self._names
        names = [event.name for event in events]
        starts: list[Any] = [event.ts for event in events]
        durations: list[Any] = [event.dur for event in events]
        if (
            None in names or None in starts or None in durations or min(durations) < 0
            or max(durations) >= _MAX_US or min(starts) <= -_MAX_US or max(starts) >= _MAX_US
        ):  # fmt: skip
            flaws = [flaw_of(event) for event in events]
            self._skipped.update(flaw for flaw in flaws if flaw)
            events = [event for event, flaw in zip(events, flaws) if not flaw]
            names = [event.name for event in events]
            starts, durations = [event.ts for event in events], [event.dur for event in events]
        name_ids = np.array([ids[name] for name in names], np.int32)
        return events, name_ids, self._nanoseconds(starts), self._nanoseconds(durations)

    def _signature_ids(self, args: list[Args]) -> np.ndarray:
        """Ids of what was recorded of the inputs; a NUL, which JSON text cannot contain, separates the parts."""
        known, join = self._signatures, _SEPARATOR.join
        ids = [
            known[join((arg.dims or arg.old_dims, arg.types, arg.strides, arg.concrete))] if arg.types else 0
            for arg in args
        ]
        return np.array(ids, np.int32)

    def _nanoseconds(self, times_us: list[Any]) -> np.ndarray:
        self._whole_microseconds &= set(map(type, times_us)) <= {int}
        return to_nanoseconds(times_us)

    def trace(self, path: Path, document: Document, skipped: Counter[str], size: int) -> Trace:
        """Everything collected, sorted.

        Raises:
            TraceError: there is nothing to attribute.
        """
        host = HostEvents(*_concatenated(self._host, _HOST_TYPES))
        device = DeviceEvents(*_concatenated(self._device, _DEVICE_TYPES))
        host = _take(host, (host.kind != LAUNCH) | np.isin(host.correlation, device.correlation))
        if not len(host) and not len(device):
            raise TraceError(f"{path} holds no profile: none of its events is an op, a launch or a kernel")
        start_ns = min(int(column.min()) for column in (host.start_ns, device.start_ns) if len(column))
        host.start_ns[:] -= start_ns
        device.start_ns[:] -= start_ns
        skipped = skipped + self._skipped
        return Trace(
            path=path,
            host=_take(host, np.lexsort((host.kind, -host.dur_ns, host.start_ns, host.thread))),
            device=_take(device, np.argsort(device.start_ns, kind="stable")),
            names=[cut_name(name) for name in self._names],
            threads=list(self._threads),
            signatures=[Signature(*key.split(_SEPARATOR, 3)) for key in self._signatures],
            device_properties=_dictionaries(document.deviceProperties),
            distributed=document.distributedInfo if isinstance(document.distributedInfo, dict) else {},
            start_ns=start_ns,
            resolution_ns=1000 if self._whole_microseconds else 1,
            uncompressed_bytes=size,
            warnings=tuple(
                f"{count} {'event' if count == 1 else 'events'} with {reason} left out"
                for reason, count in skipped.items()
            ),
        )


_HOST_TYPES = (np.int8, np.int32, np.int32, np.int64, np.int64, np.int64, np.int64, np.int32, np.int64)
_DEVICE_TYPES = (np.int8, np.int32, np.int32, np.int64, np.int64, np.int64, np.int64, np.float64)


class _Ids(dict[Any, int]):
    """Numbers whatever is looked up, from 0."""

    def __missing__(self, key: Any) -> int:
        self[key] = number = len(self)
        return number


class _Kinds(dict[Any, int]):
    """Category of an event to its kind, whatever its capitals; device kinds are shifted by ``_DEVICE``."""

    def __missing__(self, category: Any) -> int:
        known = category.lower() if category else ""
        kind = _HOST_KINDS.get(known, _DEVICE + _DEVICE_KINDS[known] if known in _DEVICE_KINDS else _DROPPED)
        self[category] = kind
        return kind


def _may_launch(event: Event) -> bool:
    return event.name not in _NEVER_LAUNCHES and event.args is not None and event.args.correlation != -1


def flaw_of(event: Event) -> str:
    """Why an event cannot be used; empty when it can."""
    if event.name is None:
        return "no name"
    if event.ts is None or event.dur is None:
        return "no time"
    if event.dur < 0:
        return "a negative duration"
    return "" if abs(event.ts) < _MAX_US and event.dur < _MAX_US else "a time out of range"


def _integers(values: list[int | None], dtype: type = np.int64) -> np.ndarray:
    """A column of integers; -1 stands for those that are null or do not fit."""
    try:
        return np.array(values, dtype)
    except (OverflowError, TypeError):
        limit = np.iinfo(dtype).max
        return np.array([value if value is not None and -limit <= value <= limit else -1 for value in values], dtype)


def _concatenated(batches: list[list[np.ndarray]], types: Sequence[type]) -> list[np.ndarray]:
    """Whole columns; the batches are dropped on the way, so that memory holds everything only once."""
    columns = [np.concatenate([batch.pop() for batch in batches]) if batches else np.empty(0, t) for t in types[::-1]]
    return columns[::-1]


def _take(events: Any, rows: np.ndarray) -> Any:
    return type(events)(*(getattr(events, column)[rows] for column in events.__slots__))


def _dictionaries(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
