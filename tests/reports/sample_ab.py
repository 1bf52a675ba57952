"""An A/B result with every kind of provider, made by the real runner over a fake clock."""

from __future__ import annotations

import copy
import functools
from typing import Any

from edgeroof.kernels.ab import Check, Instruments, Problem, Provider, Settings, Suite, Work, run
from edgeroof.kernels.sampling import Stopwatch
from edgeroof.profiler.device import Device, Roof
from edgeroof.profiler.timing import HostClock

HOSTILE = "</script><img src=x onerror=alert(1)>\x1b[31m"
ROOF = Roof("measured", 46.6e9, {"vector": {"fp32": 163e9}}, 0.8, "measured here")
DEVICE = Device("cpu", "AMD EPYC, 2 cores", "cpu", measured=ROOF)
SIZES = {"small": 76_961_152, "lora-small": 344_064}

#: Provider → (µs for a million parameters, bytes per parameter, error, reason for not being there, judged).
PROVIDERS: dict[str, tuple[float, float, float, str | None, bool]] = {
    "torch-fused": (620.0, 28.0, 1.5e-6, None, False),
    "torch-foreach": (7500.0, 80.0, 1.7e-6, None, False),
    "edgeroof": (500.0, 28.0, 1.4e-6, None, True),
    "edgeroof-8bit": (619.0, 16.1, 3.8e-2, None, False),
    "broken-math": (1.0, 28.0, 0.7, None, False),
    "apex": (1.0, 28.0, 0.0, f"not installed {HOSTILE}", False),
}


def _problem(name: str) -> Problem:
    count = SIZES[name]
    return Problem(name, f"FLAN-T5-{name}, fp32", count, 190, "fp32", 14.0 * count, 28.0 * count)


def _suite(clock: list[float], hostile: bool) -> Suite:
    ticks = iter(range(10**9))

    def provider(name: str) -> Provider:
        us, per_parameter, _, reason, judged = PROVIDERS[name]

        def build(problem: Problem, inputs: Any) -> Work:
            def call() -> None:
                jitter = 1 + 0.004 * ((next(ticks) * 7919 % 101) / 101 - 0.5)
                clock[0] += us * problem.parameters / 1e6 * jitter * 1e-6

            parts = {"optimizer": us, "rest": 100.0}
            return Work(call, per_parameter * problem.parameters, (lambda: parts) if problem.name == "small" else None)

        shown = HOSTILE if hostile and name == "torch-foreach" else name
        return Provider(shown, f"about {name}", build, lambda problem, device: reason, judged)

    def check(provider: Provider, problem: Problem, device: str, seed: int) -> Check:
        error = PROVIDERS.get(provider.name, (0, 0, 1e-6))[2]
        return Check(error, 0.2, "largest deviation from float64, relative to the largest update")

    return Suite(
        name="adamw", operation="one AdamW step", providers=tuple(map(provider, PROVIDERS)),
        problems={name: _problem(name) for name in SIZES}, defaults={"cpu": tuple(SIZES)}, quick={"cpu": tuple(SIZES)},
        baseline="torch-fused", inputs=lambda problem, device: None, check=check, notes=("A note of the suite.",),
    )  # fmt: skip


@functools.cache
def _result(hostile: bool) -> dict[str, Any]:
    clock = [0.0]
    suite = _suite(clock, hostile)
    instruments = Instruments(
        stopwatch=Stopwatch(HostClock(lambda: clock[0]), cache_bytes=32 << 20),
        energy_reason="RAPL: no CPU package here", machine_state=lambda: {"load": "0.10, 0.20, 0.30"},
    )  # fmt: skip
    settings = Settings(pairs=30, seconds=0.0)
    return run(suite, list(suite.problems.values()), DEVICE, settings=settings, instruments=instruments)


def sample_ab(*, hostile: bool = True) -> dict[str, Any]:
    """A result as :func:`edgeroof.lab.compare` returns it; with ``hostile``, one provider's name is an attack."""
    return copy.deepcopy(_result(hostile)) | {
        "created": "2026-01-02T03:04:05+00:00",
        "command": "edgeroof ab adamw",
        "environment": {"torch": "2.9.0", "torch_threads": 2},
        "machine": {"before": {}, "after": {"load": "0.10, 0.20, 0.30"}, "others": 0.4},
    }


def with_energy(result: dict[str, Any]) -> dict[str, Any]:
    """The same with a meter's readings."""
    for problem in result["problems"]:
        for entry in problem["results"]:
            if "energy" in entry:
                entry["energy"] = {"available": True, "joules_per_call": 1.25, "mean_w": 30.0, "domain": "board"}
    return result


__all__ = ["HOSTILE", "PROVIDERS", "SIZES", "sample_ab", "with_energy"]
