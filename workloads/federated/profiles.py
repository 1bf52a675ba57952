"""What each client of a fleet costs: the time of its step, its power while it computes, and that of its radio.

Step times are projected, given, or those of a run folder; powers are the modes' budgets, which bound them from above,
or what a run measured; those of radios are models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import UsageError
from .compute_time import measured_step
from .fleet_text import Group, parse_fleet

if TYPE_CHECKING:
    from ...profiler.device import Device

#: Dialogues of a step where no run has its own.
BATCH_SIZE = 32

#: Called with what is being done, the steps done and the steps in all.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Profile:
    """What one kind of client costs.

    Attributes:
        device: name of a device file, with its power mode behind a colon, or a run folder.
        link: name of its link.
        step_ms: one training step.
        step_kind: ``projected``, ``given`` or ``measured``.
        power_w: while computing.
        power_source: where that comes from.
        radio_w: while sending or receiving.
        on_battery: whether its energy ends.
        batch_size: dialogues of a step.
        mfu: model FLOPs of a step over its time and the device's peak; ``None`` where one is unknown.
    """

    device: str
    link: str
    step_ms: float
    step_kind: str
    power_w: float
    power_source: str
    radio_w: float
    on_battery: bool
    batch_size: int = BATCH_SIZE
    mfu: float | None = None


@dataclass(frozen=True)
class Projection:
    """The step of a device.

    Attributes:
        ms: by power mode; of the device as it is described under ``None``.
        model_flops: of the step; ``None`` when unknown.
    """

    ms: Mapping[str | None, float]
    model_flops: float | None


def build_profiles(text: str, model: str, on_progress: Progress = lambda what, done, total: None) -> list[Profile]:
    """One profile per client of a fleet; step times that are not given are projected, once per device.

    Args:
        text: see :func:`~.fleet_text.parse_fleet`.
        model: whose steps take the time.
        on_progress: told which device is projected.

    Raises:
        EdgeroofError: a device or mode is unknown, states no power, or cannot be projected.
    """
    groups = parse_fleet(text)
    runs = {group: _run_profile(group, model) for group in groups if group.is_run}  # first: projections take a while
    unknown = sorted({group.device for group in groups if group.step_ms is None and not group.is_run})
    projected: dict[str, Projection] = {}
    for done, device in enumerate(unknown):
        on_progress(f"projecting {device}", done, len(unknown))
        projected[device] = _project(device, model)
    profiles = []
    for group in groups:
        one = runs[group] if group.is_run else _device_profile(group, projected)
        profiles += [one] * group.count
    return profiles


def _project(device: str, model: str) -> Projection:
    from ... import project

    run = project.client_step(device, largest_batch=False, model=model, batch_size=BATCH_SIZE)
    found = run.summary["projection"]
    by_mode = {entry["mode"]: entry["step_time_ms"]["value"] for entry in found["power_modes"]}
    flops = (run.summary["metrics"].get("mfu") or {}).get("model_flops")
    return Projection({None: found["step_time_ms"]["value"], **by_mode}, flops)


def _device_profile(group: Group, projected: Mapping[str, Projection]) -> Profile:
    from ...profiler.device import load_device

    found = load_device(group.device, power_mode=group.mode)
    chosen = found.power_mode
    power_w = found.power_modes[chosen].power_w if chosen and chosen in found.power_modes else None
    source = f"budget of mode {chosen}" if power_w else "limit of the device"
    power_w = power_w or found.power_w
    if power_w is None:
        raise UsageError(
            f"the device file of {group.device} states no power, so its energy is unknown: choose another device"
        )
    if group.step_ms is not None:
        ms, kind, mfu = group.step_ms, "given", None
    else:
        projection = projected[group.device]
        ms, kind = projection.ms[chosen if group.mode else None], "projected"
        mfu = _mfu(projection, ms, found)
    return Profile(
        f"{group.device}:{group.mode}" if group.mode else group.device,
        group.link.name,
        ms,
        kind,
        power_w,
        f"{source}, an upper bound",
        group.radio_w,
        found.unified_memory,
        mfu=mfu,
    )


def _mfu(projection: Projection, ms: float, device: Device) -> float | None:
    """Of a projected step, whose products are in fp32, as in a client's default configuration."""
    from ...profiler.metrics import utilisation

    flops = projection.model_flops
    value = utilisation(flops, flops, "fp32", ms, device)["mfu"]["value"] if flops else None
    return None if value is None else float(value)


def _run_profile(group: Group, model: str) -> Profile:
    """A client that takes what the step of a run folder took, or was projected to take."""
    run = measured_step(group.device)
    if run.model != model or run.lora_rank is not None:
        trained = f"{run.model}{f' with adapters of rank {run.lora_rank}' if run.lora_rank else ''}"
        raise UsageError(f"{group.device} is a run of {trained}, and the fleet trains all weights of {model}")
    power_w = run.power_w or run.limit_w
    if power_w is None:
        raise UsageError(
            f"{group.device} has no measured power and its device states none, so its energy is unknown: use another"
        )
    source = "mean of the run's steps, measured" if run.power_w else f"limit of {run.device}, an upper bound"
    return Profile(
        f"{Path(group.device)} ({run.device})",
        group.link.name,
        run.time.ms,
        run.time.kind,
        power_w,
        source,
        group.radio_w,
        run.unified_memory,
        run.batch_size,
        run.mfu,
    )
