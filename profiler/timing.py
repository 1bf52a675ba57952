"""Step and phase times of unprofiled steps, as the device saw them and as naive host timers would have.

Three readings of the same steps stand side by side:

- *device-true*: on a GPU, CUDA events on the stream at the borders of each phase; on a CPU, the host's clock.
- *unsynchronised host*: the host's clock at the same borders without waiting for the GPU. The host runs ahead, so the
  queue's wait lands on whichever phase synchronises first.
- *closure-style*: a timer around ``optimizer.step(closure)`` whose closure runs forward, loss and backward (as
  PyTorch Lightning calls it), so that nearly the whole step is booked as optimizer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

#: Phases that run inside the closure of ``optimizer.step(closure)``.
CLOSURE_PHASES = ("zero_grad", "forward", "loss", "backward", "optimizer")


@dataclass
class StepTiming:
    """Times of one step in milliseconds; phases that ran more than once are summed."""

    wall_ms: float = 0.0
    device_ms: dict[str, float] = field(default_factory=dict)
    host_ms: dict[str, float] = field(default_factory=dict)
    closure_ms: float = 0.0


class Clock(Protocol):
    """Takes marks cheaply while a step runs; the distance between two marks is asked for after the last step."""

    def mark(self) -> Any:
        """A mark at the current point of the work."""

    def elapsed_ms(self, start: Any, end: Any) -> float:
        """Milliseconds between two marks."""

    def finish(self) -> None:
        """Wait until every mark has been passed."""


class HostClock:
    """Marks are readings of the host's monotonic clock."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now

    def mark(self) -> float:
        """Seconds now."""
        return self._now()

    def elapsed_ms(self, start: float, end: float) -> float:
        """Milliseconds between two marks."""
        return (end - start) * 1e3

    def finish(self) -> None:
        """Nothing to wait for."""


class CudaClock:
    """Marks are CUDA events on the current stream: when the device got there, not when the host asked."""

    def mark(self) -> Any:
        """An event, recorded now."""
        import torch

        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def elapsed_ms(self, start: Any, end: Any) -> float:
        """Milliseconds between two events."""
        return float(start.elapsed_time(end))

    def finish(self) -> None:
        """Synchronise the device."""
        import torch

        torch.cuda.synchronize()


@dataclass
class _Span:
    name: str
    device: tuple[Any, Any]
    host: tuple[float, float]


class StepTimer:
    """Phase listener that times steps; see :func:`~edgeroof.profiler.phases.listening`.

    Args:
        device_clock: :class:`CudaClock` on a GPU, :class:`HostClock` on a CPU.
        host_clock: the host's clock.
    """

    def __init__(self, device_clock: Clock, host_clock: HostClock | None = None) -> None:
        self._device_clock = device_clock
        self._host_clock = host_clock or HostClock()
        self._begun: list[tuple[Any, float]] = []
        self._steps: list[tuple[Any, Any, list[_Span]]] = []
        self._spans: list[_Span] = []

    def phase_began(self, name: str) -> None:
        """Mark the beginning of a phase."""
        self._begun.append((self._device_clock.mark(), self._host_clock.mark()))

    def phase_ended(self, name: str) -> None:
        """Mark the end of a phase."""
        device, host = self._begun.pop()
        self._spans.append(_Span(name, (device, self._device_clock.mark()), (host, self._host_clock.mark())))

    @contextmanager
    def step(self) -> Iterator[None]:
        """Time one step; phases inside are its own."""
        self._spans = []
        start = self._device_clock.mark()
        yield
        self._steps.append((start, self._device_clock.mark(), self._spans))

    def results(self) -> list[StepTiming]:
        """Times of every finished step; waits for the device."""
        self._device_clock.finish()
        return [self._timing(*step) for step in self._steps]

    def _timing(self, start: Any, end: Any, spans: list[_Span]) -> StepTiming:
        timing = StepTiming(wall_ms=self._device_clock.elapsed_ms(start, end))
        for span in spans:
            device = self._device_clock.elapsed_ms(*span.device)
            host = self._host_clock.elapsed_ms(*span.host)
            timing.device_ms[span.name] = timing.device_ms.get(span.name, 0.0) + device
            timing.host_ms[span.name] = timing.host_ms.get(span.name, 0.0) + host
        inside = [span for span in spans if span.name in CLOSURE_PHASES]
        if any(span.name == "optimizer" for span in inside):
            timing.closure_ms = self._host_clock.elapsed_ms(inside[0].host[0], inside[-1].host[1])
        return timing
