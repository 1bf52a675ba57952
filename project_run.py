"""From a dry run to the run that is reported: times by the efficiency model, the memory they need, every power mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .errors import DeviceError

if TYPE_CHECKING:
    from .profiler.costs import Cost
    from .profiler.device import Device, PowerMode
    from .profiler.ops import OpRecord
    from .profiler.projection import StepProjection
    from .profiler.run import Run
    from .workloads.dry import DryStep

#: Share of the least power budget that a board is assumed to draw at rest: the lower end of the energy of a step.
AT_REST = 0.5

INTERVAL_WORDS = (
    "Intervals hold nine in ten cases. Those of the step and its phases come from whole steps that were measured on "
    "GPUs which the fit had not seen, those of kernels from single kernels there; both are widened by assumption where "
    "nothing was measured: matrix units, small boards, unknown power limits, CPUs."
)


def projected_run(
    dry: DryStep, device: Device, memory: dict[str, Any] | None, modes: Sequence[Device], command: str
) -> Run:
    """Price, time and report a dry run on a device.

    Args:
        dry: the dry run.
        device: where it would run.
        memory: from :func:`memory_entry`.
        modes: the device in each of the power modes to compare.
        command: how to make the run again.
    """
    from .profiler.projected import Projected, StepTimes, is_kernel, project_run

    costs = dry.costs
    places = [place for place, record in enumerate(dry.records) if is_kernel(record)]
    priced = [(dry.records[place], costs[place]) for place in places]
    step = step_times(device, priced, dry)
    entry = {
        "method": _method(device),
        "interval": INTERVAL_WORDS,
        "assumed": [*step.notes, *_assumed(dry, device, memory)],
        "step_time_ms": _estimate(step.total),
        "phases": [{"phase": name, **_estimate(phase)} for name, phase in step.phases.items()],
        **_passes(step),
        "memory": memory,
        "power_modes": _power_modes(device, modes, priced, dry),
    }
    warnings = [] if memory is None or memory["fits"] else [_too_large(memory)]
    return project_run(
        dry.records,
        costs,
        StepTimes(places, step.starts_us, [kernel.us for kernel in step.kernels], step.total.us),
        device,
        workload=dry.describe(),
        tokens=(dry.tokens, dry.padded_tokens),
        peak_bytes=dry.footprint.total,
        projected=Projected(entry, warnings),
        command=command,
    )


def memory_entry(dry: DryStep, device: Device) -> dict[str, Any] | None:
    """The ``memory`` entry; ``None`` where the device states no memory."""
    from .workloads.footprint import fit

    try:
        verdict = fit(dry.footprint, device)
    except DeviceError:
        return None
    parts = {name: value for name, value in dry.footprint.describe().items() if name != "total"}
    return {
        "parts": parts,
        "total": verdict.needed,
        "room": verdict.room,
        "reserved": verdict.reserved,
        "fits": verdict.fits,
        "largest_batch": None,
        "capped": False,
    }


def step_times(device: Device, priced: Sequence[tuple[OpRecord, Cost | None]], dry: DryStep) -> StepProjection:
    """Times of priced records on a device by the efficiency model."""
    from .profiler.projection import Projector

    return Projector(device, tf32=dry.tf32).step(priced)


def _assumed(dry: DryStep, device: Device, memory: dict[str, Any] | None) -> list[str]:
    """What was assumed of the workload and of the memory."""
    from .workloads.footprint import reserved_words

    notes = [f"experts: {dry.workload['routing']}"] if "routing" in dry.workload else []
    if memory is not None and memory["reserved"]:
        notes.append(reserved_words(device))
    return notes


def _method(device: Device) -> str:
    if device.kind == "cpu":
        return "Times are those of the calibrated roofs at an assumed share of them; nothing was fitted to CPUs."
    from .profiler.projection import load_coefficients

    return (
        "Every op's time comes from its FLOPs and bytes and a model of efficiency: tiles and waves of matrix products, "
        f"bandwidth, L2, power, launches. Fitted to {load_coefficients().source}."
    )


def _estimate(projection: Any) -> dict[str, float]:
    return {
        "value": projection.us * 1e-3,
        "low": projection.low_us * 1e-3,
        "high": projection.high_us * 1e-3,
    }


def _passes(step: StepProjection) -> dict[str, dict[str, float] | None]:
    """Forward, backward, and both without loss, optimizer and the rest; ``None`` where the step has no such phase."""
    forward, backward = step.phases.get("forward"), step.phases.get("backward")
    passes = {"forward_ms": forward, "backward_ms": backward}
    found = {name: None if phase is None else _estimate(phase) for name, phase in passes.items()}
    both = None
    if forward is not None and backward is not None:
        both = {key: _estimate(forward)[key] + _estimate(backward)[key] for key in ("value", "low", "high")}
    return {**found, "forward_backward_ms": both}


def _power_modes(
    device: Device, modes: Sequence[Device], priced: Sequence[tuple[OpRecord, Cost | None]], dry: DryStep
) -> list[dict[str, Any]]:
    """The step in each of the device's power modes."""
    from .profiler.projected import bound_times

    found = []
    for target in modes:
        mode = target.power_modes[str(target.power_mode)]
        step = step_times(target, priced, dry)
        held = bound_times(priced, [kernel.us for kernel in step.kernels], target)
        found.append(
            {
                "mode": mode.name,
                "chosen": mode.name == device.power_mode,
                "gpu_mhz": mode.gpu_mhz,
                "emc_mhz": mode.emc_mhz,
                "step_time_ms": _estimate(step.total),
                "bounds": {bound: us / step.total.us for bound, us in held.items()},
                "tokens_per_s": dry.tokens / (step.total.us * 1e-6),
                "energy_j": _energy(device, mode, target, step.total.us * 1e-6),
            }
        )
    return found


def _energy(device: Device, mode: PowerMode, target: Device, seconds: float) -> dict[str, float] | None:
    """Between what the board draws at rest and the mode's budget; ``None`` where no budget is stated."""
    budgets = [other.power_w for other in device.power_modes.values() if other.power_w is not None]
    budget = mode.power_w or target.power_w
    if budget is None or not budgets:
        return None
    return {"low": AT_REST * min(budgets) * seconds, "high": budget * seconds}


def _too_large(memory: dict[str, Any]) -> str:
    return (
        f"the step needs {memory['total'] / 1e9:.1f} GB and the device has {memory['room'] / 1e9:.1f} GB for it: its "
        "times are those of a device with more memory"
    )
