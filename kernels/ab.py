"""The A/B lab: providers of one operation, checked, then timed against a base in one process.

A :class:`Suite` declares an operation, its providers and its problems; :func:`run` checks every provider against the
suite's reference, runs the base against itself for the noise, and then each provider against the base in ABBA order on
the same tensors, in several placements in memory (:mod:`.placement`). What the times mean is decided in
:mod:`.statistics` alone. A provider that is missing, wrong or fails is part of the result, with the reason, and is not
timed.
"""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from ..errors import UsageError
from ..profiler.device import Device
from .declarations import Check, Problem, Provider, ProviderError, Settings, Suite, Work
from .gate import failures
from .placement import Site, take_pairs
from .sampling import Pairs, Stopwatch, one_call_seconds
from .statistics import RESOLUTION, Comparison, compare, floor_of, spread

__all__ = [
    "Check", "Instruments", "Problem", "Provider", "ProviderError", "Settings", "Suite", "Work", "choose_problems",
    "choose_providers", "failures", "run",
]  # fmt: skip

SCHEMA_VERSION = 1

#: Called with what is being done, the steps done and the steps in all.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Instruments:
    """What is read besides the times; every default reads nothing.

    Attributes:
        energy_meter: makes a context manager with ``reading`` afterwards, or is ``None``.
        energy_reason: why there is no meter.
        machine_state: clocks, temperature, power, throttling now, as name → text.
        throttling: why the device ran below its clocks, in words, from such a state.
        load: makes an object whose ``share()`` tells which part of the processors others used since it was made.
        peak_memory: makes a context manager with ``bytes`` and ``what`` afterwards.
        memory_resolution: bytes below which a difference of peaks says nothing.
        stopwatch: times one call.
    """

    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    energy_meter: Callable[[], Any] | None = None
    energy_reason: str = "no energy meter was asked for"
    machine_state: Callable[[], Mapping[str, str]] = dict
    throttling: Callable[[Mapping[str, str]], Sequence[str]] = lambda state: ()
    load: Callable[[], Any] | None = None
    peak_memory: Callable[[], AbstractContextManager[Any]] = nullcontext
    memory_resolution: int = 0


def choose_providers(
    suite: Suite, names: Sequence[str] | None, baseline: str | None
) -> tuple[Provider, list[Provider]]:
    """The base and the providers to compare with it.

    Args:
        suite: the suite.
        names: providers to run; without any, the suite's defaults.
        baseline: name of the base, ``None`` for the suite's.

    Raises:
        UsageError: a name is unknown.
    """
    known = {provider.name: provider for provider in suite.providers}
    for name in (*(names or ()), *([baseline] if baseline else [])):
        if name not in known:
            raise UsageError(f"suite {suite.name} has no provider {name!r}; it has {', '.join(known)}")
    base = known[baseline or suite.baseline]
    wanted = names or suite.default_providers or list(known)
    return base, [known[name] for name in dict.fromkeys(wanted) if name != base.name]


def choose_problems(suite: Suite, names: Sequence[str] | None, kind: str, quick: bool = False) -> list[Any]:
    """The problems to run: those named, or the suite's defaults for a kind of device.

    Raises:
        UsageError: a name is unknown.
    """
    chosen = names or (suite.quick if quick else suite.defaults)[kind]
    for name in chosen:
        if name not in suite.problems:
            raise UsageError(f"suite {suite.name} has no problem {name!r}; it has {', '.join(suite.problems)}")
    return [suite.problems[name] for name in dict.fromkeys(chosen)]


def run(
    suite: Suite,
    problems: Sequence[Any],
    device: Device,
    *,
    baseline: str | None = None,
    providers: Sequence[str] | None = None,
    settings: Settings | None = None,
    instruments: Instruments | None = None,
    on_progress: Progress = lambda what, done, total: None,
) -> dict[str, Any]:
    """Check and time the providers of a suite.

    Args:
        suite: what to compare.
        problems: sizes to compare at, from :func:`choose_problems`.
        device: this machine's device with its roofs.
        baseline: name of the base.
        providers: names to compare with it; without any, the suite's defaults.
        settings: how long to measure.
        instruments: clocks and meters; by default the host's clock alone.
        on_progress: told what is being done.

    Returns:
        The JSON-ready result: ``suite``, ``operation``, ``baseline``, ``settings``, ``device``, ``machine`` and
        ``problems``, each with the A/A run ``aa`` and one entry per provider in ``results``, raw samples included.

    Raises:
        UsageError: unknown names.
        ProviderError: the base itself cannot be used, is wrong, or fails.
    """
    base, others = choose_providers(suite, providers, baseline)
    lab = _Lab(suite, device, settings or Settings(), instruments or Instruments())
    steps = len(problems) * (len(others) + 1)
    found = []
    for number, problem in enumerate(problems):

        def progress(what: str, done: int, title: str = problem.name, first: int = number * (len(others) + 1)) -> None:
            on_progress(f"{title}: {what}", first + done, steps)

        with _quick_collection():
            found.append(lab.compare_all(problem, base, others, progress))
    on_progress("done", steps, steps)
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "ab",
        "suite": suite.name,
        "operation": suite.operation,
        "notes": list(suite.notes),
        "baseline": base.name,
        "settings": dataclasses.asdict(lab.settings),
        "device": device.describe(),
        "problems": found,
    }


@dataclass(frozen=True)
class _Lab:
    """One session: the same device, settings and instruments for every problem and provider."""

    suite: Suite
    device: Device
    settings: Settings
    instruments: Instruments

    def compare_all(
        self, problem: Any, base: Provider, others: Sequence[Provider], progress: Callable[[str, int], None]
    ) -> dict[str, Any]:
        """Base against itself, then every other provider against the base."""
        progress(f"{base.name} against itself", 0)
        reason = base.unavailable(problem, self.device.kind)
        if reason:
            raise ProviderError(f"the base {base.name} cannot be used on {self.device.kind}: {reason}; choose another")
        inputs = self.suite.inputs(problem, self.device.kind)
        site = Site(base, problem, inputs, self.device.kind)
        try:
            check = self.suite.check(base, problem, self.device.kind, self.settings.seed)
            peak, check = self._prepare(site, check)
            if not check.passed:
                raise ProviderError(f"the base {base.name} is wrong: {_wrong(check)}; choose another with --baseline")
            self.instruments.stopwatch.choose_flush(self._working_set(problem, site.work))
            before = self.instruments.machine_state()
            # The noise: two instances of the base, whose places in memory differ as other providers' do. All verdicts
            # rest on it, so it may take longer.
            twice = dataclasses.replace(self.settings, most_seconds=2 * self.settings.most_seconds)
            same = self._pairs(site, Site(base, problem, inputs, self.device.kind), twice)
        except RuntimeError as error:
            raise ProviderError(f"the base {base.name} failed on {problem.name}: {_first_line(error)}") from error
        floors = {key: floor_of(_compared(pairs)) for key, pairs in same.items()}
        results = [self._base_entry(problem, site, check, same, peak, before)]
        for number, provider in enumerate(others, 1):
            progress(provider.name, number)
            reason = provider.unavailable(problem, self.device.kind)
            if reason:
                results.append(_named(provider) | {"status": "unavailable", "reason": reason})
                continue
            self.suite.refresh(inputs, self.settings.seed + number)
            results.append(self._against(problem, site, provider, inputs, floors))
        return {
            **_describe(problem),
            "working_set_bytes": self._working_set(problem, site.work),
            "cache": self.instruments.stopwatch.cache,
            "aa": _comparisons(same),
            "results": results,
        }

    def _against(
        self, problem: Any, base: Site, provider: Provider, inputs: Any, floors: Mapping[str, float]
    ) -> dict[str, Any]:
        entry = _named(provider)
        try:
            check = self.suite.check(provider, problem, self.device.kind, self.settings.seed)
            site = Site(provider, problem, inputs, self.device.kind)
            if check.passed:
                peak, check = self._prepare(site, check)
            entry |= _checked(check)
            if not check.passed:
                return entry | {"status": "wrong", "reason": _wrong(check)}
            before = self.instruments.machine_state()
            others = self.instruments.load() if self.instruments.load else None
            pairs = self._pairs(base, site, self.settings)
            state = self._state(before, others.share() if others else None)
            energy = self._energy(site.work)
        except Exception as error:  # a provider may raise anything; the others must still be measured
            self._release()
            return entry | {"status": "failed", "reason": f"{type(error).__name__}: {_first_line(error)}"}
        entry |= {"status": "measured", "peak_bytes": peak, "energy": energy, "state": state}
        entry |= _comparisons(pairs, floors) | self._placed(problem, site.work, pairs)
        entry["samples"] = {key: series.describe() for key, series in pairs.items()}
        del site
        self._release()
        return entry

    def _base_entry(
        self,
        problem: Any,
        base: Site,
        check: Check,
        same: Mapping[str, Pairs],
        peak: int | None,
        before: Mapping[str, str],
    ) -> dict[str, Any]:
        entry = _named(base.provider)
        state = self._state(before, None)
        entry |= {"status": "baseline", **_checked(check), "peak_bytes": peak, "energy": self._energy(base.work)}
        own = {key: Pairs(series.base, series.base, series.placements) for key, series in same.items()}
        entry |= {"state": state} | self._placed(problem, base.work, own)
        return entry | {"samples": {key: series.describe() for key, series in same.items()}}

    def _state(self, before: Mapping[str, str], others: float | None) -> dict[str, Any]:
        """The machine before and after the pairs, what else ran, and why the device was throttled, if it was."""
        after = self.instruments.machine_state()
        reasons = [reason for state in (before, after) for reason in self.instruments.throttling(state)]
        return {"before": dict(before), "after": dict(after), "others": others, "throttled": sorted(set(reasons))}

    def _prepare(self, site: Site, check: Check) -> tuple[int | None, Check]:
        """Build, verify and warm up a work.

        Returns:
            The peak of memory in bytes over what was there before, without the verification; and the worse of ``check``
            and the verification. A work that is wrong is not warmed up.
        """
        self._release()
        with self.instruments.peak_memory() as before:
            pass
        with self.instruments.peak_memory() as building:
            work = site.build()
        verified = work.verify() if work.verify else Check(0.0, 1.0)
        worse = verified if not verified.passed or verified.severity > check.severity else check
        with self.instruments.peak_memory() as running:
            for _ in range(self.settings.warmup if worse.passed else 0):
                work.call()
            self.instruments.stopwatch.synchronize()
        peaks = [probe.bytes for probe in (building, running) if probe is not None and probe.bytes is not None]
        if before is None or before.bytes is None or not peaks:
            return None, worse
        peak = max(peaks) - before.bytes
        return peak if peak >= self.instruments.memory_resolution else None, worse

    def _pairs(self, base: Site, other: Site, settings: Settings) -> dict[str, Pairs]:
        return take_pairs(base, other, settings, self.instruments.stopwatch, self._release)

    def _energy(self, work: Work) -> dict[str, Any]:
        """Energy of one call, from calls back to back; the meter's own note says when the window is short."""
        seconds = self.settings.energy_seconds
        if self.instruments.energy_meter is None or seconds <= 0:
            reason = self.instruments.energy_reason if self.instruments.energy_meter is None else "not asked for"
            return {"available": False, "reason": reason}
        watch, meter = self.instruments.stopwatch, self.instruments.energy_meter()
        calls = max(1, round(seconds / max(one_call_seconds(work, watch), 1e-6)))
        with meter:
            for _ in range(calls):
                work.call()
            watch.synchronize()
        if meter.reading is None:
            return {"available": False, "reason": meter.reason or "the meter gave no reading"}
        reading = meter.reading
        return {
            "available": True,
            "joules_per_call": reading.joules / calls,
            "mean_w": reading.mean_w,
            "seconds": reading.seconds,
            "calls": calls,
            "domain": meter.domain,
            "method": meter.method,
            "note": reading.note,
        }

    def _placed(self, problem: Any, work: Work, pairs: Mapping[str, Pairs]) -> dict[str, Any]:
        """A provider's own times, and where they lie under the device's roof."""
        times = {key: spread(series.other) for key, series in pairs.items()}
        seconds = times.get("device", times["wall"])["median"] * 1e-6
        roof = self.device.roof
        moved = work.bytes_moved
        floor_s = None if problem.floor_bytes is None else problem.floor_bytes / roof.bandwidth
        return {
            "times_us": times,
            "bytes_moved": moved,
            "bytes_per_parameter": None if moved is None else moved / problem.parameters,
            "gbs": None if moved is None else moved / seconds / 1e9,
            "gflops": None if problem.flops is None else problem.flops / seconds / 1e9,
            "intensity": problem.flops / moved if moved and problem.flops is not None else None,
            "roof_fraction": self._roof_fraction(problem, moved, seconds),
            "floor_fraction": None if floor_s is None else floor_s / seconds,
        }

    def _roof_fraction(self, problem: Any, moved: float | None, seconds: float) -> float | None:
        """Time at the roof (memory or arithmetic, whichever is longer) over the time taken."""
        if moved is None:
            return None
        peak = self.device.roof.peak(problem.dtype, problem.unit)
        compute_s = problem.flops / peak.flops_per_s if peak and problem.flops else 0.0
        return max(moved / self.device.roof.bandwidth, compute_s) / seconds

    def _working_set(self, problem: Any, work: Work) -> float | None:
        """Bytes that one call touches, each once at most: what the caches would have to hold."""
        return work.bytes_moved if problem.floor_bytes is None else problem.floor_bytes

    def _release(self) -> None:
        gc.collect()
        if self.device.kind == "cuda":
            import torch

            torch.cuda.empty_cache()


@contextmanager
def _quick_collection() -> Iterator[None]:
    """Keep the garbage collector, which runs before every build, from searching all that was imported."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _named(provider: Provider) -> dict[str, Any]:
    return {"provider": provider.name, "description": provider.description, "judged": provider.judged}


def _describe(problem: Any) -> dict[str, Any]:
    keys = ("name", "title", "parameters", "tensors", "dtype", "flops", "floor_bytes", "items")
    return {key: getattr(problem, key) for key in keys}


def _checked(check: Check) -> dict[str, Any]:
    return {"error": check.error, "tolerance": check.tolerance, "error_measure": check.measure}


def _wrong(check: Check) -> str:
    place = f", {check.detail}" if check.detail else ""
    return f"error {check.error:.3g}{place}, allowed {check.tolerance:.3g} ({check.measure})"


def _compared(pairs: Pairs, floor: float = RESOLUTION) -> Comparison:
    return compare(pairs.base, pairs.other, floor, pairs.placements)


def _comparisons(pairs: Mapping[str, Pairs], floors: Mapping[str, float] | None = None) -> dict[str, Any]:
    """``comparisons`` by clock (wall, device, a part's name), and the verdict, which is the wall clock's."""
    found = {key: _compared(series, floors[key] if floors else RESOLUTION).describe() for key, series in pairs.items()}
    return {"comparisons": found, "verdict": found["wall"]["verdict"]}


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"
