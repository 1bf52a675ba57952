"""Taking samples: one call at a time, base and other in turn, on the host's clock and on the device's."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ..profiler.timing import Clock, CudaClock, HostClock

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A working set smaller than this many caches would be found in them, as it never is in a training step.
CACHES_TO_FLUSH = 4


class Timed(Protocol):
    """What the stopwatch needs of a work."""

    @property
    def call(self) -> Callable[[], object]:
        """Does the operation once."""

    @property
    def parts(self) -> Callable[[], Mapping[str, float]] | None:
        """Times of the last call's parts in µs."""


@dataclass
class Pairs:
    """Times of one clock in µs, pair by pair, in the order of measurement, from so many placements in memory."""

    base: list[float] = field(default_factory=list)
    other: list[float] = field(default_factory=list)
    placements: int = 0

    def extend(self, more: Pairs) -> None:
        """Add the pairs of further placements, as many from each."""
        self.base += more.base
        self.other += more.other
        self.placements += more.placements

    def describe(self) -> dict[str, list[float] | int]:
        """JSON-ready form, to the nanosecond."""
        return {
            "base_us": [round(value, 3) for value in self.base],
            "us": [round(value, 3) for value in self.other],
            "placements": self.placements,
        }


class Stopwatch:
    """Times single calls.

    Args:
        host: the host's clock.
        device: the device's clock, ``None`` where the host's is the device's.
        cache_bytes: last-level cache of the device, ``None`` when unknown.
        flush: makes the caches forget, ``None`` where that is not done.
    """

    def __init__(
        self,
        host: Clock | None = None,
        device: Clock | None = None,
        *,
        cache_bytes: int | None = None,
        flush: Callable[[], object] | None = None,
    ) -> None:
        self._host = host or HostClock()
        self._device = device
        self._cache_bytes = cache_bytes
        self._can_flush = flush
        self._flush: Callable[[], object] | None = None
        self.cache = "unknown"

    def choose_flush(self, working_set: float | None) -> None:
        """Flush before every call if, and only if, the working set (bytes) would stay in the cache."""
        self._flush = None
        if working_set is None or self._cache_bytes is None:
            self.cache = "unknown"
        elif working_set >= CACHES_TO_FLUSH * self._cache_bytes:
            self.cache = "exceeded"
        elif self._can_flush:
            self._flush, self.cache = self._can_flush, "flushed"
        else:
            self.cache = "warm"

    def time(self, work: Timed) -> dict[str, float]:
        """One call's times in µs: ``wall``, ``device`` where that differs, and the call's parts."""
        if self._flush:
            self._flush()
        self.synchronize()
        began = self._host.mark()
        device_began = self._device.mark() if self._device else None
        work.call()
        device_ended = self._device.mark() if self._device else None
        self.synchronize()
        times = {"wall": self._host.elapsed_ms(began, self._host.mark()) * 1e3}
        if self._device:
            times["device"] = self._device.elapsed_ms(device_began, device_ended) * 1e3
        return times | dict(work.parts() if work.parts else {})

    def seconds(self) -> float:
        """The host's time now."""
        return self._host.elapsed_ms(0.0, self._host.mark()) * 1e-3

    def synchronize(self) -> None:
        """Wait for the device."""
        (self._device or self._host).finish()


def cuda_stopwatch(cache_bytes: int | None) -> Stopwatch:
    """Stopwatch of the current CUDA device; flushes its L2 by writing twice its size."""
    import torch

    buffer: Any = torch.empty(max(2 * (cache_bytes or 0), 1), dtype=torch.int8, device="cuda")
    return Stopwatch(device=CudaClock(), cache_bytes=cache_bytes, flush=buffer.zero_)


def measure_pairs(
    base: Timed, other: Timed, count: int, watch: Stopwatch, *, other_first: bool = False
) -> dict[str, Pairs]:
    """Time ``count`` pairs of one placement in ABBA order.

    Nothing but the calls happens between two calls, within a pair and between pairs alike: threads that wait longer
    take longer to wake.

    Args:
        base: A.
        other: B.
        count: number of pairs.
        watch: times them.
        other_first: take BAAB instead.

    Returns:
        The pairs of each clock: ``wall``, ``device`` where it differs, and the works' parts.
    """
    turn = (other, base, base, other) if other_first else (base, other, other, base)
    order = [turn[number % 4] for number in range(2 * count)]
    with _no_garbage_collection():
        times = [watch.time(work) for work in order]
    found: dict[str, Pairs] = {}
    for number in range(count):
        pair = times[2 * number : 2 * number + 2]
        base_times, other_times = pair if order[2 * number] is base else pair[::-1]
        for key in base_times.keys() & other_times.keys():
            series = found.setdefault(key, Pairs(placements=1))
            series.base.append(base_times[key])
            series.other.append(other_times[key])
    return found


def one_call_seconds(work: Timed, watch: Stopwatch) -> float:
    """How long a call takes, the shorter of two."""
    return min(watch.time(work)["wall"] for _ in range(2)) * 1e-6


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
