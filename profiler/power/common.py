"""Energy meters: one interface, a null object that says why there is nothing, and two ways of measuring.

A meter is a context manager; after the block its ``reading`` holds the energy of that time. A thread samples in the
background: a :class:`PowerMeter` integrates watts by the trapezoid rule, a :class:`CounterMeter` follows energy
counters that may wrap. The thread ends with the block, also when the block raises.
"""

from __future__ import annotations

import itertools
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

#: Shorter windows than this are not representative: sources average over up to a second, and bursts alias.
SHORTEST_WINDOW_S = 5.0


@dataclass(frozen=True)
class EnergyReading:
    """Energy of one window.

    Attributes:
        joules: energy of all parts together.
        seconds: length of the window.
        mean_w: joules / seconds.
        samples: how often the source was read.
        parts: joules of each rail, zone or GPU.
        note: what a reader must know, such as a window that is too short.
    """

    joules: float
    seconds: float
    mean_w: float
    samples: int
    parts: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


class EnergyMeter(ABC):
    """Measures energy between entering and leaving the ``with`` block.

    Attributes:
        domain: what the energy is of, such as ``GPU board 0`` or the rails that were summed.
        method: how it is measured.
        available: whether there will be a reading.
        reason: why there is none; empty while available.
        reading: the last window's energy, ``None`` before the first one and when the source failed.
    """

    domain: str = ""
    method: str = ""
    available: bool = True
    reason: str = ""
    reading: EnergyReading | None = None

    @abstractmethod
    def __enter__(self) -> EnergyMeter:
        """Start measuring."""

    @abstractmethod
    def __exit__(self, *exc: object) -> None:
        """Stop and set ``reading``. Never hides an exception of the block."""


class NullMeter(EnergyMeter):
    """Stands in where nothing can be read; ``reason`` says why."""

    available = False

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __enter__(self) -> NullMeter:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


class SamplingMeter(EnergyMeter):
    """Reads named sources repeatedly, on entering, in the background, and on leaving.

    Args:
        sources: a reader for each part. A reader that raises ends the measurement: ``reason`` tells, without a reading.
        domain: what is measured.
        method: how.
        interval_s: time between samples.
        clock: seconds from any origin; injected by tests.
        background: sample in a thread; without it only :meth:`sample`, entering and leaving do.
    """

    def __init__(
        self,
        sources: Mapping[str, Callable[[], float]],
        *,
        domain: str,
        method: str,
        interval_s: float,
        clock: Callable[[], float] = time.perf_counter,
        background: bool = True,
    ) -> None:
        self.domain = domain
        self.method = method
        self._sources = dict(sources)
        self._interval_s = interval_s
        self._clock = clock
        self._background = background
        self._times: list[float] = []
        self._values: dict[str, list[float]] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> SamplingMeter:
        self._times, self._values = [], {name: [] for name in self._sources}
        self.available, self.reason, self.reading = True, "", None
        self._stop.clear()
        self.sample()
        if self._background and self.available:
            self._thread = threading.Thread(target=self._run, name="edgeroof-energy", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.sample()
        if not self.available:
            return
        try:
            self.reading = self._evaluate()
        except ValueError as error:
            self.available, self.reason = False, f"{self.domain}: {error}"

    def sample(self) -> None:
        """Read every source once. A failing source makes the meter unavailable instead of raising."""
        if not self.available:
            return
        try:
            values = {name: read() for name, read in self._sources.items()}
        except Exception as error:  # a driver may raise anything; the run being measured must not suffer from it
            self.available, self.reason = False, f"{self.domain} could not be read any more: {error}"
            return
        self._times.append(self._clock())
        for name, value in values.items():
            self._values[name].append(value)

    def _run(self) -> None:
        while self.available and not self._stop.wait(self._interval_s):
            self.sample()

    def _evaluate(self) -> EnergyReading:
        seconds = self._times[-1] - self._times[0]
        parts = {name: self._joules(name) for name in self._sources}
        joules = sum(parts.values())
        notes = (
            [] if seconds >= SHORTEST_WINDOW_S else [f"a window of {seconds:.1f} s is short: 5 s or more are better"]
        )
        extra = self._remark()
        if extra:
            notes.append(extra)
        mean_w = joules / seconds if seconds > 0 else 0.0
        return EnergyReading(joules, seconds, mean_w, len(self._times), parts, "; ".join(notes))

    @abstractmethod
    def _joules(self, name: str) -> float:
        """Energy of one part over the window."""

    def _remark(self) -> str:
        """Something to add to the reading's note, evaluated after the window."""
        return ""


class PowerMeter(SamplingMeter):
    """Integrates sources that give watts."""

    def _joules(self, name: str) -> float:
        return trapezoid(self._times, self._values[name])


class CounterMeter(SamplingMeter):
    """Follows sources that give joules since some origin.

    ``wraps_at`` holds the joules at which a counter starts over; one that is absent never does. Samples must be less
    than one turn apart.
    """

    def __init__(
        self,
        sources: Mapping[str, Callable[[], float]],
        *,
        wraps_at: Mapping[str, float] | None = None,
        domain: str,
        method: str,
        interval_s: float,
        clock: Callable[[], float] = time.perf_counter,
        background: bool = True,
    ) -> None:
        super().__init__(
            sources, domain=domain, method=method, interval_s=interval_s, clock=clock, background=background
        )
        self._wraps_at = dict(wraps_at or {})

    def _joules(self, name: str) -> float:
        values, wraps_at = self._values[name], self._wraps_at.get(name)
        return sum(counter_delta(before, after, wraps_at) for before, after in itertools.pairwise(values))


def trapezoid(times_s: Sequence[float], watts: Sequence[float]) -> float:
    """Joules under a power curve: the trapezoid rule over samples in order of time, not necessarily evenly spaced."""
    samples = itertools.pairwise(zip(times_s, watts, strict=True))
    return sum((after - before) * (low + high) / 2 for (before, low), (after, high) in samples)


def counter_delta(before: float, after: float, wraps_at: float | None) -> float:
    """What a rising counter has gained, allowing for one turn from ``wraps_at`` to zero.

    Raises:
        ValueError: the counter fell although it does not wrap, as when a driver is loaded anew.
    """
    if after >= before:
        return after - before
    if wraps_at is None:
        raise ValueError(f"an energy counter fell from {before} to {after} J")
    return after - before + wraps_at
