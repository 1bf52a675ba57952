"""A measured run carried over to another device: each kernel keeps the efficiency it was measured with.

Where a kernel's time comes from a real run of the same code on a similar GPU, scaling it by the ratio of what holds it
is sounder than modelling it anew: its fusions, layouts and launch habits are in the measurement.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ...errors import UsageError
from ..device import Device, Roof
from .coefficients import Coefficients, load_coefficients
from .hardware import Hardware, describe_hardware
from .intervals import UNKNOWN_POWER, UNMEASURED, kernel_interval
from .memory import dram_bandwidth
from .power import sustained_clock_share

#: A kernel shorter than this many launch floors of its device is held by latency.
_LATENCY_FLOORS = 3.0

#: Time of a latency-bound kernel is made of instructions and trips to memory, so it goes with the clock about half.
_CLOCK_PART = 0.5

_NEEDED = ("dur_us", "flops", "bytes_read", "bytes_written", "dtype", "unit")


def carry_over(
    kernels: pd.DataFrame, source: Device, target: Device, coefficients: Coefficients | None = None
) -> pd.DataFrame:
    """Scale measured kernel times to another GPU.

    Args:
        kernels: the kernel table of a run (``docs/run-folder.md``) that was measured on ``source``; not changed.
        source: the GPU it was measured on, as it ran.
        target: the GPU to project on.
        coefficients: of the efficiency model; by default those shipped.

    Returns:
        The table with ``projected_us``, ``projected_low_us``, ``projected_high_us`` (nine in ten measurements should
        lie between) and ``carried_by``, what the time was scaled by: ``compute``, ``memory``, ``latency``, or
        ``unknown`` for kernels without a cost, which are scaled like memory.

    Raises:
        DeviceError: one of the devices lacks what the model needs, as every CPU does.
        UsageError: the table lacks columns.
    """
    missing = [column for column in _NEEDED if column not in kernels]
    if missing:
        raise UsageError(f"the kernel table has no column {', '.join(missing)}; give the kernels of a run folder")
    c = coefficients or load_coefficients()
    old, new = describe_hardware(source), describe_hardware(target)
    duration = kernels["dur_us"].to_numpy(float)
    moved = (kernels["bytes_read"] + kernels["bytes_written"]).to_numpy(float)
    flops = kernels["flops"].to_numpy(float)
    compute_old, compute_new = (_compute_us(kernels, flops, each, c) for each in (old, new))
    memory_old, memory_new = (moved / dram_bandwidth(each, c) * 1e6 for each in (old, new))

    floors = np.array([old.roof.launch_floor_us, new.roof.launch_floor_us])
    known = np.isfinite(flops) & np.isfinite(moved)
    with np.errstate(invalid="ignore"):
        by_compute = known & (compute_old > memory_old) & np.isfinite(compute_new)
    by_latency = duration < _LATENCY_FLOORS * floors[0]
    bandwidths = dram_bandwidth(old, c) / dram_bandwidth(new, c)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(by_compute, compute_new / compute_old, bandwidths)
    slower_clock = old.clock_hz / new.clock_hz
    ratio = np.where(by_latency, (1 - _CLOCK_PART) + _CLOCK_PART * slower_clock, ratio)
    # What leaves one roof may meet the other one on the new device.
    floor = np.fmax(np.fmax(compute_new, memory_new), floors[1])
    projected = np.where(by_latency, np.fmax(duration * ratio, floors[1]), np.fmax(duration * ratio, floor))

    names = np.select([by_latency, by_compute, known], ["latency", "compute", "memory"], default="unknown")
    low, high = _intervals(kernels, names, c, new)
    return kernels.assign(
        projected_us=projected, projected_low_us=projected * low, projected_high_us=projected * high, carried_by=names
    )


def _compute_us(kernels: pd.DataFrame, flops: np.ndarray, hardware: Hardware, c: Coefficients) -> np.ndarray:
    share = sustained_clock_share(hardware, c)
    seconds = np.where(flops > 0, np.nan, 0.0)
    for (dtype, unit), rows in kernels.groupby(["dtype", "unit"], observed=True, sort=False).indices.items():
        peak = _peak(hardware.roof, str(dtype), str(unit))
        if peak:
            seconds[rows] = flops[rows] / (peak * share)
    return seconds * 1e6


def _peak(roof: Roof, dtype: str, unit: str) -> float | None:
    peak = roof.peak(dtype, unit)
    return peak.flops_per_s if peak else None


def _intervals(
    kernels: pd.DataFrame, names: np.ndarray, c: Coefficients, target: Hardware
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of each kernel: products as products are cross-validated, the rest as streams; assumptions widen them."""
    power = 0.0 if target.power_w is not None else UNKNOWN_POWER
    tensor = (kernels["unit"] == "tensor").to_numpy(bool)
    low, high = np.empty(len(kernels)), np.empty(len(kernels))
    for rows, kind, widening in (
        (names == "memory", "stream", 0.0),
        ((names == "compute") & ~tensor, "product", 0.0),
        ((names == "compute") & tensor, "product", UNMEASURED),
        (np.isin(names, ("latency", "unknown")), "stream", UNMEASURED),
    ):
        interval = kernel_interval(c, kind, False, widening + power)
        low[rows], high[rows] = interval.low, interval.high
    return low, high
