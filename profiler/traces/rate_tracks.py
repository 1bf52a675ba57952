"""Counter tracks of a trace: what the kernels achieve at every moment, summed over the streams of a device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Track:
    """A counter track; trace viewers show it as its name and its unit."""

    name: str
    unit: str
    column: str  # of the kernel table
    scale: float = 1.0


#: Bytes moved, arithmetic done, and how near the device is to its roof.
TRACKS = (
    Track("achieved bandwidth", "GB/s", "bandwidth_gbs"),
    Track("achieved compute", "GFLOP/s", "gflops"),
    Track("share of the roof", "%", "roof_fraction", 100.0),
)


def levels(starts_ns: np.ndarray, ends_ns: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sum of the values of whatever runs, as a step function.

    Args:
        starts_ns: int64, starts of the intervals.
        ends_ns: int64, their ends; an interval without duration counts for nothing.
        values: float64, of each interval while it lasts; those that are not finite count for nothing.

    Returns:
        The times at which the sum changes and the sum from then on; exactly 0 where nothing runs.
    """
    counts = np.isfinite(values) & (ends_ns > starts_ns)
    starts_ns, ends_ns, values = starts_ns[counts], ends_ns[counts], values[counts]
    times, place = np.unique(np.concatenate([starts_ns, ends_ns]), return_inverse=True)
    change = np.bincount(place, np.concatenate([values, -values]), len(times))
    running = np.cumsum(np.bincount(place, np.repeat([1.0, -1.0], len(values)), len(times)))
    level = np.cumsum(change)
    # Rounding errors end with every gap: what is left of the sum there is taken off until the next one.
    gap = np.maximum.accumulate(np.where(running == 0, np.arange(len(times)), -1))
    level = np.maximum(level - np.where(gap >= 0, level[gap], 0.0), 0.0)
    changed = np.ones(len(times), bool)
    changed[1:] = level[1:] != level[:-1]
    return times[changed], level[changed]


def device_levels(kernels: pd.DataFrame, track: Track) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Each device of a kernel table with its times, in ns since the start of the profile, and levels of a track."""
    starts_ns = np.rint(kernels["start_us"].to_numpy(float) * 1000).astype(np.int64)
    ends_ns = starts_ns + np.rint(kernels["dur_us"].to_numpy(float) * 1000).astype(np.int64)
    values = kernels[track.column].to_numpy(float) * track.scale
    devices = kernels["device_index"].to_numpy()
    for device in np.unique(devices).tolist():
        of_device = devices == device
        yield device, *levels(starts_ns[of_device], ends_ns[of_device], values[of_device])
