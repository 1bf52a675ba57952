"""Devices and their roofs.

A :class:`Device` is plain data: what the machine is, and at most two :class:`Roof` objects, one from the datasheet
(``spec``) and one from measurements (``measured``, see :mod:`.calibrate`). Spec roofs come from the TOML files in
``devices/``, scaled to a power mode or to given clocks: compute with GPU clock times active SMs, memory with the memory
clock.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DeviceError, UsageError
from .device_files import SHIPPED, TEMPLATE, DeviceFile, PowerMode, device_paths, read_device_file, user_folder

__all__ = [
    "Device",
    "Peak",
    "PowerMode",
    "Roof",
    "build_device",
    "detect",
    "device_file",
    "known_devices",
    "load_device",
    "template_path",
]

#: Types whose arithmetic the vector unit does at the rate of another type when it has no rate of its own.
_VECTOR_STAND_INS = {
    **dict.fromkeys(("tf32", "fp16", "bf16", "fp8", "complex64"), "fp32"),
    **dict.fromkeys(("int64", "int32", "int16", "int8", "uint8", "bool"), "fp32"),
    "complex128": "fp64",
}


class Peak(NamedTuple):
    """A peak rate and the entry it was read from, so that the denominator of every share can be named."""

    flops_per_s: float
    dtype: str
    unit: str


@dataclass(frozen=True)
class Roof:
    """The two roofs of a device, and the shortest time a kernel can take.

    Attributes:
        source: ``spec`` (datasheet) or ``measured``.
        bandwidth: bytes/s, counting bytes read plus bytes written.
        peaks: dense FLOP/s, by unit (``vector``, ``tensor``) and dtype.
        launch_floor_us: shortest duration of a kernel (on a CPU: of an op) in microseconds.
        note: how it was obtained, for people.
    """

    source: str
    bandwidth: float
    peaks: Mapping[str, Mapping[str, float]]
    launch_floor_us: float
    note: str = ""

    def peak(self, dtype: str, unit: str) -> Peak | None:
        """Peak for arithmetic in ``dtype`` on ``unit``, or ``None`` when nothing is known.

        A tensor unit without an entry for the dtype falls back to the vector unit; there, narrow floats, integers and
        booleans without an entry of their own run at the fp32 rate.
        """
        if unit not in ("tensor", "vector"):
            return None
        tensor, vector = self.peaks.get("tensor", {}), self.peaks.get("vector", {})
        if unit == "tensor" and dtype in tensor:
            return Peak(tensor[dtype], dtype, "tensor")
        if dtype in vector:
            return Peak(vector[dtype], dtype, "vector")
        stand_in = _VECTOR_STAND_INS.get(dtype, "")
        return Peak(vector[stand_in], stand_in, "vector") if stand_in in vector else None

    def describe(self) -> dict[str, Any]:
        """JSON-ready form: GB/s, GFLOP/s, microseconds."""
        return {
            "source": self.source,
            "bandwidth_gbs": self.bandwidth / 1e9,
            "launch_floor_us": self.launch_floor_us,
            "note": self.note,
            "peaks_gflops": {
                unit: {dtype: rate / 1e9 for dtype, rate in rates.items()} for unit, rates in self.peaks.items()
            },
        }


@dataclass(frozen=True)
class Device:
    """A device to run or to project on.

    ``sm_count`` is the number of active SMs (``None`` on a CPU), ``cores`` the number of CPU cores (``None`` on a GPU).
    ``l2_bytes`` is the GPU's L2, or one CPU core's L2; ``llc_bytes`` the last-level cache. ``sources`` says for each
    figure of the spec where it comes from. ``lanes_per_sm`` (fp32), ``power_w`` (the limit in W: of the mode, or of the
    board), ``process_nm`` and ``memory_kind`` (``hbm``, ``gddr``, ``lpddr``) serve projection; ``None``: not stated.
    """

    name: str
    title: str
    kind: str
    compute_capability: tuple[int, int] | None = None
    sm_count: int | None = None
    l2_bytes: int | None = None
    memory_bytes: int | None = None
    unified_memory: bool = False
    power_mode: str | None = None
    power_modes: Mapping[str, PowerMode] = field(default_factory=dict)
    spec: Roof | None = None
    measured: Roof | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    cores: int | None = None
    llc_bytes: int | None = None
    lanes_per_sm: int | None = None
    power_w: float | None = None
    process_nm: int | None = None
    memory_kind: str | None = None

    @property
    def roof(self) -> Roof:
        """The measured roof if there is one, else the spec.

        Raises:
            DeviceError: the device has neither.
        """
        best = self.measured or self.spec
        if best is None:
            raise DeviceError(
                f"no roofs are known for {self.title}: run `edgeroof calibrate` on it, or describe it in a device file "
                f"({_how_to_add()})"
            )
        return best

    def describe(self) -> dict[str, Any]:
        """JSON-ready description, the ``device`` entry of ``run.json``."""
        roofs = [roof for roof in (self.spec, self.measured) if roof is not None]
        used = self.measured or self.spec
        return {
            "name": self.name,
            "title": self.title,
            "kind": self.kind,
            "compute_capability": list(self.compute_capability) if self.compute_capability else None,
            "power_mode": self.power_mode,
            "sm_count": self.sm_count,
            "cores": self.cores,
            "l2_bytes": self.l2_bytes,
            "llc_bytes": self.llc_bytes,
            "memory_bytes": self.memory_bytes,
            "unified_memory": self.unified_memory,
            "power_w": self.power_w,
            "roof_used": used.source if used else None,
            "roofs": [roof.describe() for roof in roofs],
            "sources": dict(self.sources),
        }


def known_devices() -> list[str]:
    """Names of the devices that have a file, shipped or the user's own."""
    return list(device_paths())


def load_device(
    name: str,
    *,
    power_mode: str | None = None,
    gpu_mhz: float | None = None,
    emc_mhz: float | None = None,
) -> Device:
    """Load a device by name, by the path of a ``.toml`` file, or ``cpu`` or ``auto`` for this machine.

    Args:
        name: a name from :func:`known_devices`, a path that ends in ``.toml``, ``cpu``, or ``auto``.
        power_mode: one of the device's modes; without it the file's default mode, which the roof's note names.
        gpu_mhz: GPU clock in MHz, in place of the mode's.
        emc_mhz: memory clock in MHz, in place of the mode's.

    Raises:
        DeviceError: the device or the mode is unknown, its file is wrong, or it cannot be scaled to these clocks.
        UsageError: a clock is not above zero.
    """
    if name in ("auto", "cpu"):
        return _this_machine(name, power_mode, gpu_mhz, emc_mhz)
    return build_device(device_file(name), power_mode=power_mode, gpu_mhz=gpu_mhz, emc_mhz=emc_mhz)


def device_file(name: str) -> DeviceFile:
    """The checked content of a device's file.

    Args:
        name: a name from :func:`known_devices`, or a path that ends in ``.toml``.

    Raises:
        DeviceError: the device is unknown, or its file is wrong.
    """
    return read_device_file(_find(name))


def detect() -> Device:
    """The device of this machine: a known CUDA device, an unknown one (without a spec), or else the CPU."""
    from .detect import detect_device

    return detect_device()


def build_device(
    file: DeviceFile,
    *,
    power_mode: str | None = None,
    gpu_mhz: float | None = None,
    emc_mhz: float | None = None,
    sms: int | None = None,
    clocks_from: str = "given",
) -> Device:
    """Turn a device file into a device, scaled to a power mode and clocks.

    Args:
        file: the checked file.
        power_mode: a mode of the file, ``None`` for its default.
        gpu_mhz: GPU clock in MHz, in place of the mode's.
        emc_mhz: memory clock in MHz, in place of the mode's.
        sms: active SMs, in place of the mode's.
        clocks_from: where explicit clocks come from, for the note: ``given`` or ``read``.

    Raises:
        DeviceError: unknown mode, or the file has no clock to scale from.
        UsageError: a clock is not above zero.
    """
    for what, value in (("GPU", gpu_mhz), ("memory", emc_mhz)):
        if value is not None and not 0 < value < 1e5:
            raise UsageError(f"a {what} clock of {value} MHz makes no sense; give MHz above 0, such as 1300")
    mode = _choose_mode(file, power_mode)
    effective_gpu = gpu_mhz or (mode.gpu_mhz if mode else None)
    effective_emc = emc_mhz or (mode.emc_mhz if mode else None)
    active = sms or (mode.sms if mode else file.sm_count)
    notes = [f"power mode {mode.name}{'' if power_mode else ', the default of the file'}"] if mode else []
    if effective_gpu or active != file.sm_count:
        clock = f"GPU {effective_gpu:g} MHz{_origin(gpu_mhz, clocks_from)}, " if effective_gpu else ""
        notes.append(f"{clock}{active} of {file.sm_count} SMs")
    if effective_emc:
        notes.append(f"memory {effective_emc:g} MHz{_origin(emc_mhz, clocks_from)}")
    spec = Roof(
        source="spec",
        bandwidth=file.bandwidth * _memory_scale(file, effective_emc),
        peaks=_scaled_peaks(file, effective_gpu, active),
        launch_floor_us=file.launch_floor_us,
        note="; ".join(notes) or "datasheet, at boost clocks",
    )
    return Device(
        name=file.name,
        title=file.title,
        kind=file.kind,
        compute_capability=file.compute_capability,
        sm_count=active,
        l2_bytes=file.l2_bytes,
        memory_bytes=file.memory_bytes,
        unified_memory=file.unified_memory,
        power_mode=mode.name if mode else None,
        power_modes=file.modes,
        spec=spec,
        sources=file.sources,
        llc_bytes=file.l2_bytes,
        lanes_per_sm=file.lanes_per_sm,
        power_w=(mode.power_w if mode else None) or file.power_w,
        process_nm=file.process_nm,
        memory_kind=file.memory_kind,
    )


def _find(name: str) -> Path:
    if name.endswith(".toml") or os.sep in name:
        return Path(name).expanduser()
    paths = device_paths()
    if name.lower() in paths:
        return paths[name.lower()]
    if name in paths:
        return paths[name]
    close = difflib.get_close_matches(name.lower(), paths, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise DeviceError(
        f"unknown device {name!r}.{hint} Known: {', '.join(paths)}, and cpu or auto for this machine. "
        f"To add one: {_how_to_add()}"
    )


def _how_to_add() -> str:
    return f"copy {template_path()} to {user_folder()}/NAME.toml and fill it in, or give the path of such a file"


def template_path() -> Path:
    """Path of the commented template for a new device file."""
    return SHIPPED / f"{TEMPLATE}.toml"


def _this_machine(name: str, power_mode: str | None, gpu_mhz: float | None, emc_mhz: float | None) -> Device:
    from .detect import cpu_device

    device = detect() if name == "auto" else cpu_device()
    if not (power_mode or gpu_mhz or emc_mhz):
        return device
    if device.spec is None:
        raise DeviceError(f"{device.title} has no device file, so power modes and clocks cannot be applied to it")
    scaled = load_device(device.name, power_mode=power_mode or device.power_mode, gpu_mhz=gpu_mhz, emc_mhz=emc_mhz)
    return dataclasses.replace(scaled, memory_bytes=device.memory_bytes)


def _choose_mode(file: DeviceFile, wanted: str | None) -> PowerMode | None:
    if not file.modes:
        if wanted:
            raise DeviceError(f"{file.name} has no power modes, so {wanted!r} cannot be chosen")
        return None
    by_key = {_mode_key(name): mode for name, mode in file.modes.items()}
    mode = by_key.get(_mode_key(wanted or file.default_mode or ""))
    if mode is None:
        raise DeviceError(f"{file.name} has no power mode {wanted!r}; it has {', '.join(file.modes)}")
    return mode


def _mode_key(name: str) -> str:
    """NVIDIA writes MODE_30W in configuration files and 30W in documents."""
    return name.upper().removeprefix("MODE_")


def _origin(explicit: float | None, clocks_from: str) -> str:
    return f" ({clocks_from})" if explicit is not None else ""


def _memory_scale(file: DeviceFile, emc_mhz: float | None) -> float:
    if emc_mhz is None:
        return 1.0
    if file.emc_mhz is None:
        raise DeviceError(
            f"{file.path} states no figures.emc_mhz, so its bandwidth cannot be scaled to {emc_mhz:g} MHz"
        )
    return emc_mhz / file.emc_mhz


def _scaled_peaks(file: DeviceFile, gpu_mhz: float | None, sms: int) -> dict[str, dict[str, float]]:
    scaled: dict[str, dict[str, float]] = {}
    for unit, figures in file.peaks.items():
        scaled[unit] = {}
        for dtype, figure in figures.items():
            scale = sms / file.sm_count
            if gpu_mhz is not None:
                if figure.at_mhz is None:
                    raise DeviceError(
                        f"{file.path} states no GPU clock for peaks.{unit}.{dtype}, so it cannot be scaled to "
                        f"{gpu_mhz:g} MHz"
                    )
                scale *= gpu_mhz / figure.at_mhz
            scaled[unit][dtype] = figure.flops_per_s * scale
    return scaled
