"""Finding out what this machine is.

A CUDA device is matched to the device files by the rules in them. One that no file describes is still a device, without
a spec, and must be calibrated; it is never taken for another. Without CUDA the device is the CPU.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import DeviceError
from .device import Device, build_device
from .device_files import DeviceFile, all_device_files
from .host import read_host
from .tegra import ROOT, JetsonState, device_tree_model, read_state


@dataclass(frozen=True)
class CudaInfo:
    """What CUDA reports about one GPU; sizes in bytes."""

    name: str
    capability: tuple[int, int]
    sm_count: int
    memory_bytes: int
    l2_bytes: int | None
    integrated: bool


def detect_device(
    *, root: Path = ROOT, cuda: Callable[[], CudaInfo | None] | None = None, device_index: int | None = None
) -> Device:
    """Detect this machine's device.

    Args:
        root: root of the file system to read.
        cuda: reports the GPU, ``None`` without one; by default asks PyTorch.
        device_index: which GPU; PyTorch's current one by default.

    Raises:
        DeviceError: a device file is wrong, or two of them match this GPU.
    """
    info = cuda() if cuda else query_cuda(device_index)
    if info is None:
        return cpu_device(root)
    file = match_file(info, device_tree_model(root))
    if file is None:
        return _undescribed(info)
    if file.modes:
        return _at_runtime_clocks(file, info, read_state(root))
    return dataclasses.replace(build_device(file), memory_bytes=info.memory_bytes)


def cpu_device(root: Path = ROOT) -> Device:
    """This machine's CPU, without roofs: a CPU has no device file and is always calibrated."""
    host = read_host(root)
    return Device(
        name="cpu",
        title=host.model,
        kind="cpu",
        cores=host.cores,
        l2_bytes=host.l2_bytes,
        llc_bytes=host.llc_bytes,
        memory_bytes=host.memory_bytes,
    )


def query_cuda(device_index: int | None = None) -> CudaInfo | None:
    """Ask PyTorch about a GPU; ``None`` without PyTorch or without CUDA."""
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    index = torch.cuda.current_device() if device_index is None else device_index
    properties = torch.cuda.get_device_properties(index)
    return CudaInfo(
        name=properties.name,
        capability=(properties.major, properties.minor),
        sm_count=properties.multi_processor_count,
        memory_bytes=properties.total_memory,
        l2_bytes=getattr(properties, "L2_cache_size", None),
        integrated=bool(getattr(properties, "is_integrated", False)),
    )


def match_file(info: CudaInfo, model: str = "") -> DeviceFile | None:
    """The device file that describes a GPU, ``None`` if there is none.

    SM counts must agree too (a MIG slice is not the whole GPU), except on boards that gate SMs by power mode.

    Raises:
        DeviceError: several files match, or a file is wrong.
    """
    matches = [
        file
        for file in all_device_files()
        if file.match.accepts(info.name, model, info.memory_bytes)
        and file.compute_capability == info.capability
        and (file.sm_count == info.sm_count or (file.modes and info.sm_count < file.sm_count))
    ]
    if len(matches) > 1:
        paths = " and ".join(str(file.path) for file in matches)
        raise DeviceError(f"{info.name} matches {paths}; narrow the [match] rules of your own, or name the device")
    return matches[0] if matches else None


def _undescribed(info: CudaInfo) -> Device:
    return Device(
        name="cuda",
        title=info.name,
        kind="cuda",
        compute_capability=info.capability,
        sm_count=info.sm_count,
        l2_bytes=info.l2_bytes,
        llc_bytes=info.l2_bytes,
        memory_bytes=info.memory_bytes,
        unified_memory=info.integrated,
    )


def _at_runtime_clocks(file: DeviceFile, info: CudaInfo, state: JetsonState) -> Device:
    """Scale the spec to the caps that hold now: they bound what a busy GPU's clocks rise to, idle ones say nothing."""
    mode = _described_mode(file, state)
    device = build_device(
        file,
        power_mode=mode,
        gpu_mhz=state.gpu_cap_mhz,
        emc_mhz=state.emc_cap_mhz,
        sms=_active_sms(file, info, state),
        clocks_from="read",
    )
    device = dataclasses.replace(device, memory_bytes=info.memory_bytes)
    if mode is not None or device.spec is None:
        return device
    caveat = (
        f"power mode {state.mode_name or 'could not be read'}, not described in {file.path.name}: "
        f"what could not be read is {file.default_mode}'s"
    )
    note = "; ".join([caveat, *device.spec.note.split("; ")[1:]])
    return dataclasses.replace(device, power_mode=state.mode_name, spec=dataclasses.replace(device.spec, note=note))


def _described_mode(file: DeviceFile, state: JetsonState) -> str | None:
    """The file's name of the active mode. Mode numbers are a board's own, so a name, where there is one, decides."""
    if state.mode_name is not None:
        named = state.mode_name.upper().removeprefix("MODE_")
        return next((name for name in file.modes if name.upper() == named), None)
    return next((name for name, mode in file.modes.items() if mode.mode_id == state.mode_id), None)


def _active_sms(file: DeviceFile, info: CudaInfo, state: JetsonState) -> int:
    """SMs that have power: what CUDA reports, or fewer if the gating mask says so (a TPC is two SMs)."""
    gated = 2 * (state.gated_tpcs or 0)
    return max(1, min(info.sm_count, file.sm_count - gated))
