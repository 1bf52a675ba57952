"""A suite whose providers only move a clock: what the runner does can be seen call by call."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edgeroof.kernels.ab import Check, Instruments, Problem, Provider, Settings, Suite, Work
from edgeroof.kernels.sampling import Stopwatch
from edgeroof.profiler.device import Device, Roof
from edgeroof.profiler.timing import HostClock

BASE_US = 1000.0
DEVICE = Device(
    name="cpu", title="a CPU", kind="cpu", measured=Roof("measured", 20e9, {"vector": {"fp32": 100e9}}, 1.0)
)
PROBLEM = Problem("one", "one problem", parameters=1_000_000, tensors=3, flops=14e6, floor_bytes=10e6)


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class FakeLab:
    """Providers by name, with the time a call takes in µs; every call is written down."""

    clock: ManualClock = field(default_factory=ManualClock)
    calls: list[str] = field(default_factory=list)
    noise: float = 0.002
    errors: dict[str, float] = field(default_factory=dict)
    rng: random.Random = field(default_factory=lambda: random.Random(0))

    def provider(self, name: str, us: float, **options: Any) -> Provider:
        def build(problem: Problem, inputs: Any) -> Work:
            def call() -> None:
                self.calls.append(name)
                self.clock.now += us * 1e-6 * self.rng.lognormvariate(0, self.noise)

            return Work(call, bytes_moved=20e6)

        return Provider(name, f"takes {us:g} µs", build, **options)

    def suite(self, *providers: Provider, **options: Any) -> Suite:
        def check(provider: Provider, problem: Problem, device: str, seed: int) -> Check:
            return Check(self.errors.get(provider.name, 1e-7), 1e-6, "error relative to the update")

        return Suite(
            name="fake",
            operation="one fake step",
            providers=(self.provider("base", BASE_US), *providers),
            problems={PROBLEM.name: PROBLEM},
            defaults={"cpu": ("one",), "cuda": ("one",)},
            quick={"cpu": ("one",), "cuda": ("one",)},
            baseline="base",
            inputs=lambda problem, device: None,
            check=check,
            **options,
        )

    def instruments(self, **options: Any) -> Instruments:
        return Instruments(stopwatch=Stopwatch(HostClock(self.clock)), **options)


SETTINGS = Settings(pairs=30, seconds=0.0, most_pairs=200, warmup=1)


class FakeMeter:
    """A meter that always reads the same power."""

    domain, method, reason = "fake board", "by definition", ""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.reading: Any = None

    def __enter__(self) -> FakeMeter:
        self._began = self._clock()
        return self

    def __exit__(self, *exc: object) -> None:
        from edgeroof.profiler.power import EnergyReading

        seconds = self._clock() - self._began
        self.reading = EnergyReading(50.0 * seconds, seconds, 50.0, 2)


@contextlib.contextmanager
def interrupted_after(lab: FakeLab, calls: int):
    """Press Ctrl-C in the middle of a provider's call."""
    original = lab.rng.lognormvariate

    def press(*args: float) -> float:
        if len(lab.calls) > calls:
            raise KeyboardInterrupt
        return original(*args)

    lab.rng.lognormvariate = press  # type: ignore[method-assign]
    yield
