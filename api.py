"""The public functions: profile a step, analyze a trace, load a run.

import edgeroof
run = edgeroof.profile(model="small", batch_size=4)
run = edgeroof.analyze("trace.json.gz", device="a100")
run = edgeroof.load("runs/flan-t5-small")
run.kernels.groupby("bound")["dur_us"].sum()
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import DeviceError, UsageError, WorkloadError
from .profiler.views import register_view

if TYPE_CHECKING:
    from .profiler.capture import CaptureOptions, Progress
    from .profiler.counters import Merged
    from .profiler.device import Device
    from .profiler.run import Run
    from .reports.notebook import Figure


def devices() -> list[str]:
    """Names of the devices edgeroof knows."""
    from .profiler.device import known_devices

    return known_devices()


def load(path: str | Path) -> Run:
    """Read a run folder; see :func:`edgeroof.profiler.run.load`."""
    from .profiler.run import load as load_run

    return load_run(path)


def check_config(**config: Any) -> None:
    """Check a workload's settings before anything slow starts.

    Raises:
        UsageError: a value makes no sense.
        WorkloadError: the data file is missing.
    """
    from .workloads.client_config import ClientConfig
    from .workloads.huggingface import resolve_model

    settings = ClientConfig(device="cuda", **config)  # what only a CPU cannot do is told once the device is known
    resolve_model(settings.model)
    if settings.data is not None and not Path(settings.data).exists():
        raise WorkloadError(f"no such data file: {settings.data}")


def profile(
    *,
    device: str | Device = "auto",
    options: CaptureOptions | None = None,
    out: str | Path | None = None,
    on_progress: Progress = lambda name, done, total: None,
    command: str = "",
    **config: Any,
) -> Run:
    """Profile a client's training step on this machine.

    Args:
        device: ``auto``, the name of this machine's device, or one from :func:`this_machine`.
        options: how many steps each pass takes.
        out: folder to write the run to; without it the run is only returned.
        on_progress: told after each step.
        command: how to make the run again, for the report.
        **config: fields of :class:`~edgeroof.workloads.client_config.ClientConfig`, such as ``model``.

    Returns:
        The run, measured on this machine.

    Raises:
        EdgeroofError: what went wrong and what to do.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # the profiler's own chatter; read when torch is loaded

    from .profiler.capture import CaptureOptions, capture
    from .profiler.captured import summarize_capture
    from .workloads.client import ClientConfig, build_client_step

    machine = this_machine(device) if isinstance(device, str) else device
    options = options or CaptureOptions()
    settings = ClientConfig(device="cuda" if machine.kind == "cuda" else "cpu", **config)
    with tempfile.TemporaryDirectory(prefix="edgeroof-") as scratch:
        trace = Path(scratch) / "trace.json.gz"
        on_progress("building the model", 0, 1)
        step = build_client_step(settings)
        on_progress("building the model", 1, 1)
        captured = capture(step, options, trace, on_progress)
        run = summarize_capture(captured, machine, step.describe(), command=command)
        return _save(run, out, trace) if out else run


def analyze(
    trace: str | Path,
    *,
    device: str | Device = "auto",
    out: str | Path | None = None,
    command: str = "",
) -> Run:
    """Classify the kernels of any Kineto trace.

    Args:
        trace: a ``.json`` or ``.json.gz`` file of ``torch.profiler``.
        device: the device it was recorded on; ``auto`` takes the name the trace gives.
        out: folder to write the run to; without it the run is only returned.
        command: how to make the run again, for the report.

    Raises:
        TraceError: the trace cannot be read.
        DeviceError: the device is unknown.
    """
    from .profiler.imported import summarize_trace

    run = summarize_trace(Path(trace), device, command=command)
    return _save(run, out, Path(trace)) if out else run


def add_counters(run: Run, counters: str | Path, *, out: str | Path | None = None) -> Merged:
    """Put hardware counters of Nsight Compute into a run.

    Args:
        run: from a GPU.
        counters: what ``ncu --csv --page raw`` printed, or an ``.ncu-rep``.
        out: folder to write the new run to, which may be that of the old one; without it it is only returned.

    Raises:
        CounterError: the file cannot be read, or is not of the same step.
        RunError: the folder cannot be written.
    """
    from .profiler.counters import merge_counters, read_counters

    merged = merge_counters(run, read_counters(counters))
    return dataclasses.replace(merged, run=_save(merged.run, out, run.trace_path)) if out else merged


def device_at(
    name: str, *, power_mode: str | None = None, gpu_mhz: float | None = None, emc_mhz: float | None = None
) -> str | Device:
    """A named device in a power mode or at given clocks; the name itself when nothing is given.

    Raises:
        DeviceError: the device or the mode is unknown.
        UsageError: ``auto`` has no mode to choose, or a clock makes no sense.
    """
    from .profiler.device import load_device

    if power_mode is None and gpu_mhz is None and emc_mhz is None:
        return name
    if name == "auto":
        raise UsageError("a power mode or a clock needs the name of the device: add --device, such as --device orin")
    return load_device(name, power_mode=power_mode, gpu_mhz=gpu_mhz, emc_mhz=emc_mhz)


def this_machine(name: str = "auto", *, on_calibration: Callable[[str, float], None] | None = None) -> Device:
    """The device of this machine, with its measured roofs where it has been calibrated.

    A device without a data sheet, such as a CPU, is calibrated now if it never was.

    Args:
        name: ``auto``, ``cpu``, or the device one expects; another device than this machine's is an error.
        on_calibration: told what is being measured and the share that is done.

    Raises:
        DeviceError: the machine is not the device that was named.
    """
    from .profiler.calibrate import cached_roof, calibrate
    from .profiler.device import detect, load_device

    found = load_device(name) if name == "cpu" else detect()
    if name not in ("auto", "cpu", found.name):
        found = _expect(load_device(name), found)
    if found.spec is None:
        return calibrate(found, on_progress=on_calibration)
    return dataclasses.replace(found, measured=cached_roof(found))


def _expect(named: Device, found: Device) -> Device:
    """A user's own description of a GPU that edgeroof does not know is believed; anything else must be this machine."""
    if named.kind == found.kind == "cuda" and found.spec is None:
        return named
    raise DeviceError(
        f"this machine is {found.title}, not {named.name}: run on that device, or leave the device at auto for this one"
    )


def save(run: Run, out: str | Path) -> Run:
    """Write a run with its report, and its trace if it has one, to a folder; a run that is there is replaced.

    Raises:
        RunError: the place is taken by something else, or cannot be written.
    """
    return _save(run, out, run.trace_path)


def _roofline(run: Run) -> Figure:
    from .reports.notebook import roofline

    return roofline(run)


register_view("roofline", _roofline)


def _save(run: Run, out: str | Path, trace: Path | None) -> Run:
    from .profiler.run import save
    from .reports import html

    return save(run, Path(out), trace=trace, write_report=html.write)
