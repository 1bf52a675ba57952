"""Energy: meters for NVIDIA GPUs (NVML), Jetson boards (power rails) and CPUs (RAPL)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...errors import UsageError
from ..tegra import is_tegra
from .common import EnergyMeter, EnergyReading, NullMeter
from .jetson import jetson_meter
from .nvml import nvml_meter
from .rapl import rapl_meter

__all__ = ["EnergyMeter", "EnergyReading", "NullMeter", "find_meter"]


def find_meter(kind: str, device_index: int = 0, *, root: Path = Path("/")) -> EnergyMeter:
    """The best meter for a device, or a :class:`NullMeter` that gives the reason of every attempt.

    On a Jetson the rails come first for both kinds, since NVML has no power there. A GPU is never measured by a CPU's
    counters or the other way round.

    Args:
        kind: ``cuda`` or ``cpu``.
        device_index: which GPU.
        root: root of the file system to read.

    Raises:
        UsageError: the kind is neither.
    """
    attempts: dict[str, list[Callable[[], EnergyMeter]]] = {
        "cuda": [lambda: nvml_meter(device_index)],
        "cpu": [lambda: rapl_meter(root)],
    }
    if kind not in attempts:
        raise UsageError(f"unknown kind of device {kind!r}; it is cuda or cpu")
    order = attempts[kind]
    if is_tegra(root):
        order = [lambda: jetson_meter(root), *order]
    reasons = []
    for attempt in order:
        meter = attempt()
        if meter.available:
            return meter
        reasons.append(meter.reason)
    return NullMeter("; ".join(reasons))
