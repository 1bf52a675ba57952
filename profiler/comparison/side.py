"""One side of a comparison: a run, or repeated runs of one configuration, with the numbers that stand side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

import pandas as pd

from ..energy_range import projected_tokens_per_joule
from ..run import Run
from .breakdown import OUTSIDE, bound_times, breakdown, phase_times, step_ms

#: Versions that are told when they differ.
_VERSIONS = ("edgeroof", "torch", "cuda", "triton", "transformers", "clocks", "torch_threads")
#: Entries of a workload that say the same as others, in more words.
_WORDS = ("precision_detail", "optimizer_detail", "tokens", "model_source", "weights")


@dataclass(frozen=True)
class Side:
    """Runs that are compared as one.

    Attributes:
        label: what it is called.
        runs: of the same configuration.
        bare: whether times are those of bare steps, or sums of kernels.
    """

    label: str
    runs: tuple[Run, ...]
    bare: bool

    @property
    def kind(self) -> str:
        """``"measured"``, ``"imported"`` (a trace from elsewhere) or ``"projected"``."""
        return str(self.runs[0].summary["kind"])

    @cached_property
    def parts(self) -> pd.DataFrame:
        """Where the time goes, see :func:`~.breakdown.breakdown`."""
        return breakdown(self.runs, bare=self.bare)

    @cached_property
    def step_ms(self) -> float:
        """Milliseconds of the mean step."""
        return sum(self.step_samples_of_runs) / len(self.runs)

    @property
    def step_samples_of_runs(self) -> list[float]:
        """The median step of each run."""
        return [step_ms(run, bare=self.bare) for run in self.runs]

    @cached_property
    def phases(self) -> dict[str, float]:
        """Milliseconds of every phase and of what is outside; they add up to :attr:`step_ms`."""
        times = self.phases_of_runs
        return {name: sum(found.get(name, 0.0) for found in times) / len(times) for name in dict.fromkeys(
            name for found in times for name in found
        )}  # fmt: skip

    @cached_property
    def phases_of_runs(self) -> list[dict[str, float]]:
        """The phases of each run."""
        return [phase_times(run, bare=self.bare) for run in self.runs]

    def samples(self, phase: str | None, *, of_runs: bool) -> list[float]:
        """Times in milliseconds that an interval can be made from.

        Args:
            phase: a phase, or ``None`` for the step.
            of_runs: one time of each run; otherwise one of each bare step of all runs.
        """
        if of_runs:
            if phase is None:
                return self.step_samples_of_runs
            return [found[phase] for found in self.phases_of_runs if phase in found]
        if not self.bare:
            return []
        metrics = [run.summary["metrics"] for run in self.runs]
        if phase is None:
            return [ms for entry in metrics for ms in entry["step_time_ms"].get("samples", ())]
        return [ms for entry in metrics for ms in (entry.get("phase_samples_ms") or {}).get(phase, ())]

    def metric(self, *path: str) -> float | None:
        """Median over the runs of an entry of ``metrics``; ``None`` where one of them lacks it."""
        found = [_entry(run.summary.get("metrics"), path) for run in self.runs]
        values = [float(value) for value in found if isinstance(value, (int, float))]
        return median(values) if values and len(values) == len(found) else None

    def describe(self) -> dict[str, Any]:
        """JSON-ready form: everything that stands side by side."""
        first = self.runs[0].summary
        held = bound_times(self.runs)
        total = sum(held.values())
        projection = first.get("projection")
        return {
            "label": self.label,
            "kind": self.kind,
            "runs": [_describe_run(run) for run in self.runs],
            "device": first["device"],
            "workload": first.get("workload"),
            "step_ms": self.step_ms,
            "step_interval_ms": projection and projection.get("step_time_ms"),
            "phases_ms": {name: ms for name, ms in self.phases.items() if name != OUTSIDE or ms},
            "bounds": {bound: ms / total for bound, ms in held.items()} if total else {},
            "mfu": self.metric("mfu", "value"),
            "mfu_denominator": _entry(first.get("metrics"), ("mfu", "denominator")),
            "hfu": self.metric("hfu", "value"),
            "tokens_per_s": self.metric("tokens_per_s", "non_padding"),
            "padded_tokens_per_s": self.metric("tokens_per_s", "padded"),
            "tokens_per_s_per_w": self.metric("power", "tokens_per_s_per_w"),
            "projected_tokens_per_s_per_w": projection and projected_tokens_per_joule(first["metrics"], projection),
            "mean_w": self.metric("power", "mean_w"),
            "power_domain": _entry(first.get("metrics"), ("power", "domain")),
            "no_power": _entry(first.get("metrics"), ("power", "reason")),
            "peak_memory_bytes": self.metric("peak_memory", "bytes"),
            "peak_memory": _entry(first.get("metrics"), ("peak_memory", "what")),
            "warnings": list(dict.fromkeys(text for run in self.runs for text in run.summary.get("warnings", ()))),
        }


def settings_of(run: Run) -> dict[str, Any]:
    """What was run, where: the configuration that repeated runs have in common."""
    summary = run.summary
    device = summary["device"]
    workload = {name: value for name, value in (summary.get("workload") or {}).items() if name not in _WORDS}
    return {
        "kind": summary["kind"],
        "device": device["title"],
        "power mode": device.get("power_mode"),
        **workload,
        **({} if workload else {"title": summary["title"]}),
    }


def versions_of(run: Run) -> dict[str, Any]:
    """Versions and clocks that may explain a difference."""
    environment = run.summary.get("environment") or {}
    return {name: environment.get(name) for name in _VERSIONS}


def differing(runs: Sequence[Run], *, versions: bool = False) -> list[str]:
    """Names of the settings, and with ``versions`` of the versions too, in which runs differ."""
    every = [settings_of(run) | (versions_of(run) if versions else {}) for run in runs]
    names = dict.fromkeys(name for settings in every for name in settings)
    return [name for name in names if len({_text(settings.get(name)) for settings in every}) > 1]


def group_repeated(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs of the same configuration together, in order of first appearance.

    Where all are of one configuration each stands alone: then it is the runs themselves that are compared, such as
    those before and after a change of the code.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(_text(settings_of(run)), []).append(run)
    return list(groups.values()) if len(groups) > 1 else [[run] for run in runs]


def _describe_run(run: Run) -> dict[str, Any]:
    summary = run.summary
    found = {name: summary.get(name) for name in ("title", "kind", "created", "command")}
    slowdown = _entry(summary.get("metrics"), ("profiler_slowdown",))
    return {"path": str(run.path) if run.path else None, **found, "profiler_slowdown": slowdown}


def _entry(metrics: Any, path: Sequence[str]) -> Any:
    for name in path:
        if not isinstance(metrics, dict):
            return None
        metrics = metrics.get(name)
    return metrics


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
