"""From any Kineto trace to a run: costs inferred from the shapes it recorded, on the device it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import DeviceError, TraceError
from .calibrate import calibrate
from .detect import CudaInfo, match_file
from .device import Device, build_device, known_devices, load_device
from .roofline import classify
from .run import Run
from .summary import Context, summarize
from .traces.attribution import Attribution, attribute
from .traces.trace import Trace, read_trace


def summarize_trace(path: Path, device: str | Device = "auto", *, command: str = "") -> Run:
    """Attribute, price and classify the kernels of a trace.

    Args:
        path: a Kineto trace, ``.json`` or ``.json.gz``.
        device: the device it was recorded on, by name or as a device; ``auto`` goes by what the trace says.
        command: how to make the run again.

    Raises:
        TraceError: the trace cannot be read.
        DeviceError: the device is unknown, or the trace does not say what it was recorded on.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise TraceError(f"{path} is a pipe or a device, which can be read only once; save the trace to a file first")
    trace = read_trace(path)
    warnings: list[str] = []
    if not isinstance(device, Device):
        device, warnings = _device_of(trace, device)
    attribution = attribute(trace)
    context = Context(
        kind="imported",
        title=f"{path.name} on {device.title}",
        command=command,
        device=device,
        steps=attribution.steps,
        trace_start_ns=attribution.start_ns,
        warnings=[*warnings, *attribution.warnings, *_without_shapes(trace, attribution)],
    )
    return summarize(classify(attribution.kernels, device.roof), attribution.ops, context)


def _device_of(trace: Trace, name: str) -> tuple[Device, list[str]]:
    if name == "cpu" or (name == "auto" and not len(trace.device)):
        device = calibrate(load_device("cpu"))
        return device, [f"a trace does not say which CPU it is from; it is compared with this one, {device.title}"]
    if name != "auto":
        return load_device(name), []
    for properties in trace.device_properties:
        device_file = match_file(_cuda_info(properties))
        if device_file is not None:
            return build_device(device_file), []
    raise DeviceError(
        f"{_recorded_on(trace)}: name the device with --device, one of {', '.join(known_devices())}, or the path of a "
        "device file"
    )


def _recorded_on(trace: Trace) -> str:
    name = next((properties["name"] for properties in trace.device_properties if properties.get("name")), None)
    if name is None:
        return "the trace does not say on which device it was recorded"
    return f"the trace was recorded on {name}, which no device file describes"


def _cuda_info(properties: dict[str, Any]) -> CudaInfo:
    """What Kineto notes about a device; anything may be missing."""

    def number(key: str) -> int:
        value = properties.get(key)
        return int(value) if isinstance(value, (int, float)) else 0

    return CudaInfo(
        name=str(properties.get("name", "")),
        capability=(number("computeMajor"), number("computeMinor")),
        sm_count=number("numSms"),
        memory_bytes=number("totalGlobalMem"),
        l2_bytes=None,
        integrated=False,
    )


def _without_shapes(trace: Trace, attribution: Attribution) -> list[str]:
    """Nothing to add where shapes were recorded, or where attribution has said so already."""
    if trace.has_shapes or any("shape" in warning for warning in attribution.warnings):
        return []
    return ["the trace has no input shapes, so FLOPs and bytes are unknown: record it with record_shapes=True"]
