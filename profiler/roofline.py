"""The roofline: how fast each kernel could be on this device, and what holds it back.

For a kernel of time t: t_compute = FLOPs / peak, t_memory = bytes / bandwidth, t_roof = the larger of both,
roof fraction = t_roof / t, headroom = t - t_roof (S. Williams, A. Waterman, D. Patterson, CACM 52(4), 2009).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .schema import BOUNDS

if TYPE_CHECKING:
    from .device import Roof

#: Below this share of the roof a kernel is bound by neither memory nor compute.
ROOF_FRACTION_FLOOR = 0.25

#: A slow kernel shorter than this many launch floors is held by latency, a longer one is inefficient.
LATENCY_FLOORS = 5.0


def attainable_flops(intensity: float, peak_flops: float, bandwidth: float) -> float:
    """Attainable FLOP/s at ``intensity`` (FLOP/byte) under ``peak_flops`` (FLOP/s) and ``bandwidth`` (bytes/s)."""
    return min(peak_flops, intensity * bandwidth)


def ridge_intensity(peak_flops: float, bandwidth: float) -> float:
    """Intensity in FLOP/byte at which a kernel leaves the memory roof for the compute roof."""
    return peak_flops / bandwidth


def classify(kernels: pd.DataFrame, roof: Roof) -> pd.DataFrame:
    """Place every kernel on the roofline.

    Args:
        kernels: a table with the columns of :data:`~edgeroof.profiler.schema.KERNEL_COLUMNS`.
        roof: the peaks to compare with.

    Returns:
        The table with the columns of :data:`~edgeroof.profiler.schema.ROOFLINE_COLUMNS` added or replaced.
    """
    duration_s = kernels["dur_us"].to_numpy(float) * 1e-6
    flops = kernels["flops"].to_numpy(float)
    moved = kernels["bytes_read"].to_numpy(float) + kernels["bytes_written"].to_numpy(float)
    t_compute = _compute_time_s(kernels, flops, roof)
    t_memory = moved / roof.bandwidth
    t_roof = np.where(_crosses_host_link(kernels), np.nan, np.maximum(t_compute, t_memory))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        fraction = t_roof / duration_s
        added = {
            "intensity": np.where(moved > 0, flops / moved, np.nan),
            "gflops": flops / duration_s / 1e9,
            "bandwidth_gbs": moved / duration_s / 1e9,
        }
    added |= {
        "t_compute_us": t_compute * 1e6,
        "t_memory_us": t_memory * 1e6,
        "t_roof_us": t_roof * 1e6,
        "roof_fraction": fraction,
        "headroom_us": (duration_s - t_roof) * 1e6,
        "bound": _bound(kernels, duration_s, t_compute, t_memory, fraction, roof.launch_floor_us * 1e-6),
    }
    return kernels.assign(**added)


def _crosses_host_link(kernels: pd.DataFrame) -> np.ndarray:
    """Copies between host and device: the link holds them, of which the device's roofs say nothing."""
    names = kernels["name"].astype("category")
    crossing = [name for name in names.cat.categories if "HtoD" in str(name) or "DtoH" in str(name)]
    return (names.isin(crossing) & (kernels["kind"] == "memcpy")).to_numpy(bool)


def _compute_time_s(kernels: pd.DataFrame, flops: np.ndarray, roof: Roof) -> np.ndarray:
    """FLOPs over the peak of each kernel's own type and unit; infinite time is never claimed for a missing peak."""
    seconds = np.where(flops > 0, np.nan, flops)
    keys = kernels.groupby(["dtype", "unit"], observed=True, sort=False).indices
    for (dtype, unit), rows in keys.items():
        peak = roof.peak(str(dtype), str(unit))
        if peak is not None:
            seconds[rows] = flops[rows] / peak.flops_per_s
    return seconds


def _bound(
    kernels: pd.DataFrame,
    duration_s: np.ndarray,
    t_compute: np.ndarray,
    t_memory: np.ndarray,
    fraction: np.ndarray,
    launch_floor_s: float,
) -> pd.Categorical:
    near_roof = fraction >= ROOF_FRACTION_FLOOR
    conditions = [
        (kernels["phase"] == "communication").to_numpy(bool),
        np.isnan(fraction),
        near_roof & (t_memory >= t_compute),
        near_roof,
        duration_s < LATENCY_FLOORS * launch_floor_s,
    ]
    names = ["communication", "unknown", "memory", "compute", "latency"]
    codes = np.select(conditions, [BOUNDS.index(name) for name in names], default=BOUNDS.index("inefficient"))
    return pd.Categorical.from_codes(codes, categories=list(BOUNDS))
