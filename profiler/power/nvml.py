"""NVIDIA GPUs through NVML.

Every metric is probed by itself: a driver may have some and not others, and on a Jetson Orin NVML starts but answers
NotSupported to nearly everything. The energy counter (millijoules, refreshed about every 100 ms) is preferred; without
it the power draw is sampled, which Ampere and later GPUs report as an average over the last second.
"""

from __future__ import annotations

import functools
import importlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .common import CounterMeter, EnergyMeter, NullMeter, PowerMeter


@dataclass(frozen=True)
class Metric:
    """One NVML metric: its value as text with unit, or ``None`` and the reason."""

    name: str
    value: str | None
    reason: str = ""


def nvml_meter(
    device_index: int = 0,
    *,
    nvml: Any = None,
    clock: Callable[[], float] = time.perf_counter,
    background: bool = True,
) -> EnergyMeter:
    """Meter of one GPU's board; a :class:`NullMeter` with the reason when NVML has neither energy nor power.

    Args:
        device_index: CUDA device, counted as ``CUDA_VISIBLE_DEVICES`` has it; NVML itself counts all GPUs.
        nvml: a module with the interface of ``pynvml``; imported by default.
        clock: see :class:`SamplingMeter`.
        background: see :class:`SamplingMeter`.
    """
    opened = open_device(device_index, nvml)
    if isinstance(opened, str):
        return NullMeter(f"NVML: {opened}")
    nvml, handle, name = opened
    domain = f"GPU board {device_index} ({name})"

    def energy_j() -> float:
        return nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3

    def power_w() -> float:
        return nvml.nvmlDeviceGetPowerUsage(handle) / 1e3

    no_energy = _why_not(energy_j)
    if no_energy is None:
        return CounterMeter(
            {domain: energy_j},
            domain=domain,
            method="NVML energy counter, refreshed about every 100 ms",
            interval_s=10.0,
            clock=clock,
            background=background,
        )
    no_power = _why_not(power_w)
    if no_power is None:
        return PowerMeter(
            {domain: power_w},
            domain=domain,
            method="NVML power draw sampled every 20 ms and integrated; a 1 s average on Ampere and later GPUs",
            interval_s=0.02,
            clock=clock,
            background=background,
        )
    return NullMeter(f"NVML has neither energy ({no_energy}) nor power ({no_power}) for {name}")


def open_device(device_index: int, nvml: Any = None) -> tuple[Any, Any, str] | str:
    """Start NVML and find a GPU: (module, handle, name), or why that failed."""
    if nvml is None:
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            return "the Python package nvidia-ml-py is not installed"
    try:
        nvml.nvmlInit()
        handle = _handle(nvml, device_index)
        name = nvml.nvmlDeviceGetName(handle)
    except Exception as error:  # pynvml's errors have no common base besides Exception in a stub-free driver
        return describe(error)
    return nvml, handle, name.decode() if isinstance(name, bytes) else str(name)


def _handle(nvml: Any, device_index: int) -> Any:
    visible = [entry.strip() for entry in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if entry.strip()]
    if device_index >= len(visible):
        return nvml.nvmlDeviceGetHandleByIndex(device_index)
    entry = visible[device_index]
    if entry.isdigit():
        return nvml.nvmlDeviceGetHandleByIndex(int(entry))
    return nvml.nvmlDeviceGetHandleByUUID(entry)


def probe(device_index: int = 0, *, nvml: Any = None) -> list[Metric]:
    """Try every metric that edgeroof can use, one by one."""
    opened = open_device(device_index, nvml)
    if isinstance(opened, str):
        return [Metric("NVML", None, opened)]
    nvml, handle, _ = opened
    return [_try_metric(name, functools.partial(read, nvml, handle)) for name, read in _METRICS.items()]


def describe(error: Exception) -> str:
    """An NVML error in words; NVML's own texts name the cause."""
    return str(error) or type(error).__name__


_METRICS: dict[str, Callable[[Any, Any], str]] = {
    "energy": lambda n, h: f"{n.nvmlDeviceGetTotalEnergyConsumption(h) / 1e3:.1f} J since the driver was loaded",
    "power": lambda n, h: f"{n.nvmlDeviceGetPowerUsage(h) / 1e3:.1f} W",
    "power limit": lambda n, h: f"{n.nvmlDeviceGetEnforcedPowerLimit(h) / 1e3:.0f} W",
    "SM clock": lambda n, h: f"{n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_SM)} MHz",
    "memory clock": lambda n, h: f"{n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_MEM)} MHz",
    "utilisation": lambda n, h: f"{n.nvmlDeviceGetUtilizationRates(h).gpu} %",
    "temperature": lambda n, h: f"{n.nvmlDeviceGetTemperature(h, n.NVML_TEMPERATURE_GPU)} °C",
    "memory": lambda n, h: f"{n.nvmlDeviceGetMemoryInfo(h).used / 1e9:.1f} GB used",
    "throttling": lambda n, h: f"reasons {n.nvmlDeviceGetCurrentClocksThrottleReasons(h):#x}",
}


def _try_metric(name: str, read: Callable[[], str]) -> Metric:
    try:
        return Metric(name, read())
    except Exception as error:  # NotSupported is normal, and a driver older than a function raises FunctionNotFound
        return Metric(name, None, describe(error))


def _why_not(read: Callable[[], float]) -> str | None:
    try:
        read()
    except Exception as error:  # as above
        return describe(error)
    return None
