"""Projections put together: a dry run, the efficiency model, the memory it takes, and the run that is reported.

run = edgeroof.project.client_step("orin", model="xl", batch_size=8)
run = edgeroof.project.model_pass("orin", "bert-large.json", mode="train", batch=8, sequence=512)
run = edgeroof.project.carry(edgeroof.load("runs/base-a100"), "orin")
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import api
from .errors import UsageError
from .project_run import INTERVAL_WORDS, memory_entry, projected_run, step_times
from .result_files import write_result

if TYPE_CHECKING:
    from .profiler.device import Device
    from .profiler.run import Run
    from .workloads.dry import DryStep

#: Called with what is being done, the steps done and the steps in all.
Progress = Callable[[str, int, int], None]

SCHEMA_VERSION = 1

_CARRIED = (
    "Each kernel keeps the efficiency it was measured with on {source}; its time is scaled by the roof that holds it. "
    "The gaps between kernels are those that were measured."
)


def client_step(
    device: str | Device,
    *,
    power_mode: str | None = None,
    gpu_mhz: float | None = None,
    emc_mhz: float | None = None,
    largest_batch: bool = True,
    on_progress: Progress = lambda what, done, total: None,
    command: str = "",
    **config: Any,
) -> Run:
    """Project a federated client's training step on a device that need not be here.

    Args:
        device: a name, the path of a device file, or a device.
        power_mode: one of the device's modes.
        gpu_mhz: GPU clock in MHz, in place of the mode's.
        emc_mhz: memory clock in MHz, in place of the mode's.
        largest_batch: also look for the largest batch that fits, which takes some more dry runs.
        on_progress: told what is being done.
        command: how to make the run again.
        **config: fields of :class:`~edgeroof.workloads.client_config.ClientConfig`.

    Raises:
        EdgeroofError: what went wrong and what to do.
    """
    from .workloads.client_config import ClientConfig
    from .workloads.dry import dry_step
    from .workloads.footprint import largest_client_batch

    target = _device(device, power_mode, gpu_mhz, emc_mhz)
    modes = _modes(device, target) if (gpu_mhz, emc_mhz) == (None, None) else []
    settings = ClientConfig(device=target.kind, **config)
    on_progress("dry run", 0, 3)
    dry = dry_step(settings, target_kind=target.kind, compute_capability=target.compute_capability)
    on_progress("largest batch", 1, 3)
    memory = memory_entry(dry, target)
    if memory and largest_batch:
        found = largest_client_batch(settings, target, dry)
        memory |= {"largest_batch": found.batch, "capped": found.capped}
    on_progress("times", 2, 3)
    run = projected_run(dry, target, memory, modes, command)
    on_progress("done", 3, 3)
    return run


def model_pass(
    device: str | Device,
    model: str,
    *,
    power_mode: str | None = None,
    gpu_mhz: float | None = None,
    emc_mhz: float | None = None,
    command: str = "",
    **arguments: Any,
) -> Run:
    """Project a pass of any Hugging Face model: forward, and with ``mode="train"`` backward, apart.

    Args:
        device: a name, the path of a device file, or a device.
        model: a name, a folder, or the path of a bare ``config.json``.
        power_mode: one of the device's modes.
        gpu_mhz: GPU clock in MHz, in place of the mode's.
        emc_mhz: memory clock in MHz, in place of the mode's.
        command: how to make the run again.
        **arguments: of :func:`~edgeroof.workloads.dry.dry_model`: ``mode``, ``batch``, ``sequence`` and so on.

    Raises:
        EdgeroofError: what went wrong and what to do.
    """
    from .workloads.dry import dry_model

    target = _device(device, power_mode, gpu_mhz, emc_mhz)
    modes = _modes(device, target) if (gpu_mhz, emc_mhz) == (None, None) else []
    dry = dry_model(model, target_kind=target.kind, compute_capability=target.compute_capability, **arguments)
    return projected_run(dry, target, memory_entry(dry, target), modes, command)


def carry(
    run: Run,
    device: str | Device,
    *,
    power_mode: str | None = None,
    gpu_mhz: float | None = None,
    emc_mhz: float | None = None,
    command: str = "",
) -> Run:
    """Carry a measured run over to another device: every kernel keeps its measured efficiency.

    Args:
        run: measured or imported, from a GPU.
        device: a name, the path of a device file, or a device.
        power_mode: one of the device's modes.
        gpu_mhz: GPU clock in MHz, in place of the mode's.
        emc_mhz: memory clock in MHz, in place of the mode's.
        command: how to make the run again.

    Raises:
        UsageError: the run was projected itself.
        DeviceError: one of the devices lacks what the model needs.
    """
    from .profiler.carried import carry_run
    from .profiler.device import load_device

    if run.summary["kind"] == "projected":
        raise UsageError("this run was projected already; carry over a measured one")
    described = run.summary["device"]
    source = load_device(described["name"], power_mode=described.get("power_mode"))
    target = _device(device, power_mode, gpu_mhz, emc_mhz)
    method = _CARRIED.format(source=source.title)
    return carry_run(run, source, target, method=method, interval=INTERVAL_WORDS, command=command)


def compare(
    devices: Sequence[str],
    batch_sizes: Sequence[int | None],
    config: Mapping[str, Any],
    *,
    on_progress: Progress = lambda what, done, total: None,
    command: str = "",
) -> dict[str, Any]:
    """Project one client's step on several devices and with several batch sizes.

    Args:
        devices: names or paths of device files.
        batch_sizes: ``None`` stands for the default.
        config: other fields of :class:`~edgeroof.workloads.client_config.ClientConfig`.
        on_progress: told what is being done.
        command: how to make the result again.

    Returns:
        The JSON-ready result: ``workload``, and one of ``rows`` for each device and batch size.

    Raises:
        EdgeroofError: what went wrong and what to do.
    """
    targets = [_device(name, None, None, None) for name in devices]
    places = list(itertools.product(range(len(targets)), range(len(batch_sizes))))
    rows: dict[tuple[int, int], dict[str, Any]] = {}
    workload: dict[str, Any] = {}
    for position, batch in enumerate(batch_sizes):
        found = dry_runs(targets, **{**config, "batch_size": batch})
        for number, target in enumerate(targets):
            on_progress(f"{target.name}, batch {batch or 'default'}", len(rows), len(places))
            _, dry = next(found)
            run = on_device(dry, target, command=command)
            rows[number, position] = _row(run, target)
            workload = run.summary["workload"]
    on_progress("done", len(rows), len(places))
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "projection-comparison",
        "workload": workload,
        "rows": [rows[place] for place in places],
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": command,
    }


def _row(run: Run, device: Device) -> dict[str, Any]:
    summary, entry = run.summary, run.summary["projection"]
    step_us = entry["step_time_ms"]["value"] * 1e3
    modes = [mode for mode in entry["power_modes"] if mode["chosen"]]
    return {
        "device": device.name,
        "title": device.title,
        "power_mode": device.power_mode,
        "batch_size": summary["workload"]["batch_size"],
        "step_time_ms": entry["step_time_ms"],
        "phases": {phase["phase"]: phase["value"] for phase in entry["phases"]},
        "bounds": {bound["bound"]: bound["dur_us"] / step_us for bound in summary["bounds"]},
        "mfu": summary["metrics"]["mfu"]["value"],
        "tokens_per_s": summary["metrics"]["tokens_per_s"]["non_padding"],
        "memory": entry["memory"],
        "energy_j": modes[0]["energy_j"] if modes else None,
        "method": entry["method"],
        "interval": entry["interval"],
        "assumed": entry["assumed"],
    }


def dry_runs(devices: Sequence[str | Device], **config: Any) -> Iterator[tuple[Device, DryStep]]:
    """Dry runs of one client's step for several devices; those that dispatch the same ops share one.

    Args:
        devices: names, paths of device files, or devices.
        **config: fields of :class:`~edgeroof.workloads.client_config.ClientConfig`.

    Yields:
        Each device with its dry run, in their order, for :func:`on_device` and :func:`host_timer`.

    Raises:
        EdgeroofError: what went wrong and what to do.
    """
    from .workloads.client_config import ClientConfig
    from .workloads.dry import dry_step, op_stream_of

    made: dict[Any, DryStep] = {}
    for device in devices:
        target = _device(device, None, None, None)
        kind, capability = target.kind, target.compute_capability
        stream = op_stream_of(kind, capability)
        if stream not in made:
            made[stream] = dry_step(
                ClientConfig(device=kind, **config), target_kind=kind, compute_capability=capability
            )
        yield target, made[stream].on(capability)


def on_device(dry: DryStep, device: Device, *, every_mode: bool = False, command: str = "") -> Run:
    """Project a dry run that was made already, without looking for the largest batch.

    Args:
        dry: from :func:`dry_runs`.
        device: where it would run.
        every_mode: in all power modes of the device, not in its own alone.
        command: how to make the run again.
    """
    own = [device] if device.power_mode in device.power_modes else []
    return projected_run(dry, device, memory_entry(dry, device), _modes(device, device) if every_mode else own, command)


def host_timer(dry: DryStep, device: Device) -> dict[str, float]:
    """What a timer on the host that never waits for the device would say of each phase, in ms; simulated.

    Args:
        dry: from :func:`dry_runs`.
        device: a GPU.
    """
    from .profiler.projected import is_kernel
    from .profiler.projection import host_phases, host_us_of

    priced = [(record, cost) for record, cost in zip(dry.records, dry.costs) if is_kernel(record)]
    durations = [kernel.us for kernel in step_times(device, priced, dry).kernels]
    return {name: us * 1e-3 for name, us in host_phases(priced, durations, host_us_of(device)).items()}


def save_comparison(result: Mapping[str, Any], folder: Path) -> None:
    """Write ``comparison.json`` and ``report.html`` to a folder, which is put in place when whole.

    Raises:
        RunError: the folder holds something else, or cannot be written.
    """
    from .reports import document_html
    from .reports.projection_table import comparison_document

    report = document_html.render(comparison_document(result))
    write_result(result, folder, "comparison.json", report, what="a comparison of devices")


def _device(device: str | Device, power_mode: str | None, gpu_mhz: float | None, emc_mhz: float | None) -> Device:
    from .profiler.device import load_device

    if not isinstance(device, str):
        return device
    if device in ("auto", "cpu"):
        return api.this_machine(device)
    return load_device(device, power_mode=power_mode, gpu_mhz=gpu_mhz, emc_mhz=emc_mhz)


def _modes(device: str | Device, target: Device) -> list[Device]:
    """The device in each of its power modes; none when they cannot be loaded."""
    from .profiler.device import known_devices, load_device

    name = device if isinstance(device, str) else device.name
    if not target.power_modes or (not isinstance(device, str) and name not in known_devices()):
        return []
    return [target if mode == target.power_mode else load_device(name, power_mode=mode) for mode in target.power_modes]


def is_elsewhere(name: str) -> bool:
    """Whether a device that the user named is another than this machine's.

    Raises:
        DeviceError: it is unknown.
    """
    from .profiler.device import detect, load_device

    if name in ("auto", "cpu"):
        return False
    named, found = load_device(name), detect()
    if named.name == found.name:
        return False
    return not (named.kind == found.kind == "cuda" and found.spec is None)  # a description of the GPU that is here


__all__ = [
    "carry",
    "client_step",
    "compare",
    "dry_runs",
    "host_timer",
    "is_elsewhere",
    "model_pass",
    "on_device",
    "save_comparison",
]
