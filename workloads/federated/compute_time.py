"""How long a client computes in a round: steps times the time of a step, which is measured, projected or given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ...errors import UsageError

#: Eleven days for one step; beyond, times of rounds would soon be no finite numbers.
MOST_STEP_MS = 1e9


@dataclass(frozen=True)
class StepTime:
    """Time of one training step.

    Attributes:
        ms: median.
        kind: where it comes from.
        what: the same in words.
        low_ms: lower end of its interval, ``None`` without one.
        high_ms: upper end.
    """

    ms: float
    kind: Literal["measured", "projected", "given"]
    what: str
    low_ms: float | None = None
    high_ms: float | None = None


@dataclass(frozen=True)
class MeasuredStep:
    """A step of a run folder: its time, the workload that it is the time of, and the device.

    Attributes:
        time: of the step.
        model: as the user named it.
        device: name of the device.
        batch_size: dialogues of a step.
        lora_rank: of adapters; ``None`` for all weights.
        power_w: mean of the steps, measured; ``None`` where nothing metered.
        limit_w: of the device, in its power mode; ``None`` where nobody states it.
        unified_memory: whether the device is a board whose memory is the system's.
        mfu: model FLOPs of the step over its time and the device's peak; ``None`` where that is unknown.
    """

    time: StepTime
    model: str
    device: str
    batch_size: int
    lora_rank: int | None
    power_w: float | None
    limit_w: float | None = None
    unified_memory: bool = False
    mfu: float | None = None


def given_step(ms: float) -> StepTime:
    """A step time that the user knows.

    Raises:
        UsageError: it is not above zero, or takes longer than anybody waits.
    """
    if not 0 < ms <= MOST_STEP_MS:
        raise UsageError(f"a step time of {ms} ms makes no sense; give milliseconds above 0, at most {MOST_STEP_MS:g}")
    return StepTime(ms, "given", "given by the user")


def measured_step(folder: str | Path) -> MeasuredStep:
    """The step of a run folder; its interval is that between the quartiles of the steps.

    Raises:
        RunError: there is no run, or it is damaged.
        UsageError: the run has no step time, or is not of a client's step.
    """
    from ...profiler.run import load

    summary = load(folder).summary
    time, workload = summary["metrics"].get("step_time_ms"), summary.get("workload") or {}
    source, batch = workload.get("model_source"), workload.get("batch_size")
    if not time or not source or not isinstance(batch, int):
        raise UsageError(f"{folder} is no run of a client's training step: it has no step time, model or batch size")
    projection = summary.get("projection")
    step = _projected_time(projection, str(folder)) if projection else _measured_time(time, str(folder))
    accumulated = workload.get("gradient_accumulation") or 1
    power = (summary["metrics"].get("power") or {}).get("mean_w")
    device = summary["device"]
    return MeasuredStep(
        step,
        source,
        device["name"],
        batch * accumulated,
        workload.get("lora_rank"),
        power,
        device.get("power_w"),
        bool(device.get("unified_memory")),
        (summary["metrics"].get("mfu") or {}).get("value"),
    )


def projected_step(device: str, power_mode: str | None = None, **config: Any) -> StepTime:
    """The step of a device that need not be here, see :func:`edgeroof.project.client_step`.

    Args:
        device: its name.
        power_mode: one of its modes.
        **config: fields of :class:`~edgeroof.workloads.client_config.ClientConfig`.
    """
    from ... import project

    run = project.client_step(device, power_mode=power_mode, largest_batch=False, **config)
    return _projected_time(run.summary["projection"], f"{device}, nothing measured there")


def step_count(dialogues: int, batch_size: int, local_epochs: int) -> int:
    """Steps of a client's round, the last batch of an epoch being what is left."""
    return -(-dialogues // batch_size) * local_epochs


def _measured_time(time: Mapping[str, float], where: str) -> StepTime:
    return StepTime(time["median"], "measured", f"median of {where}, quartiles as interval", time["p25"], time["p75"])


def _projected_time(projection: Mapping[str, Any], where: str) -> StepTime:
    time = projection["step_time_ms"]
    return StepTime(time["value"], "projected", f"projected for {where}, 90 % interval", time["low"], time["high"])
