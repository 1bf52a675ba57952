"""Time of one kernel on a GPU: from its work and cost to seconds, through the model of its kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ..costs import Cost
from .coefficients import Coefficients
from .hardware import Hardware
from .matmul import Products, product_times
from .memory import dram_bandwidth, layer_norm, row_seconds, softmax, streaming_seconds
from .work import Work

#: Assumption for arithmetic that is no plain product (fused attention, convolutions): the share of its peak it reaches.
_OTHER_ARITHMETIC = 0.5


@dataclass(frozen=True)
class KernelTime:
    """Device time of a kernel without the gap before it.

    Attributes:
        seconds: its duration.
        compute_s: the part bound by arithmetic if memory were free, at the clock held.
        memory_s: the part bound by memory if arithmetic were free.
        clock_share: share of its clock that the board holds meanwhile.
        how: in words, for people.
    """

    seconds: float
    compute_s: float
    memory_s: float
    clock_share: float
    how: str


def product_kernels(
    works: Iterable[Work], hardware: Hardware, c: Coefficients, clock_share: float | None
) -> dict[Work, KernelTime]:
    """Times of all different products among ``works``; without a clock share, at that of each repeated without end."""
    groups: dict[tuple[bool, int, str, str], dict[Work, None]] = {}
    for work in works:
        if work.kind == "product":
            groups.setdefault((work.batched, work.item, work.dtype, work.unit), {})[work] = None
    found: dict[Work, KernelTime] = {}
    for (batched, item, dtype, unit), members in groups.items():
        batch, m, n, k, along_inner = np.array([work.shape for work in members], float).T
        products = Products(batch, m, n, k, along_inner, batched, item, dtype, unit)
        times = product_times(products, hardware, c, clock_share=clock_share)
        for row, work in enumerate(members):
            tile, split = times.tiles[times.tile[row]], times.split[row]
            how = f"tile {tile.name}, {times.waves[row]:.1f} waves" + (f", split {split} ways" if split > 1 else "")
            found[work] = KernelTime(
                float(times.seconds[row]),
                float(times.compute_s[row]),
                float(times.memory_s[row]),
                float(times.clock_share[row]),
                how,
            )
    return found


def other_kernel(
    work: Work,
    cost: Cost,
    hardware: Hardware,
    c: Coefficients,
    *,
    resident: float,
    overfetched: float,
    clock_share: float,
) -> KernelTime:
    """Time of a kernel that is no matrix product.

    Args:
        work: its kind and sizes.
        cost: its bytes and FLOPs.
        hardware: where it runs.
        c: coefficients.
        resident: bytes of its inputs that L2 holds.
        overfetched: bytes that strided reads bring for nothing.
        clock_share: share of its clock that the board holds.
    """
    if work.kind == "compute":
        peak = hardware.roof.peak(work.dtype, work.unit)
        rate = (peak.flops_per_s if peak else hardware.peak_fp32) * _OTHER_ARITHMETIC * clock_share
        compute, memory = cost.flops / rate, cost.bytes / dram_bandwidth(hardware, c)
        return KernelTime(max(compute, memory), compute, memory, clock_share, "half of the peak, an assumption")
    if work.kind == "stream":
        seconds = float(streaming_seconds(cost.bytes + overfetched, hardware, c, resident))
        return KernelTime(seconds, 0.0, seconds, 1.0, _streaming_words(cost, resident, overfetched))
    rows, length = work.shape
    backward = work.kind.endswith("backward")
    kernel = layer_norm(c, backward=backward) if "norm" in work.kind else softmax(c, length, backward=backward)
    seconds = float(row_seconds(rows, length, work.item, kernel, hardware, c, resident))
    return KernelTime(seconds, 0.0, seconds, 1.0, f"{rows} rows of {length}")


def _streaming_words(cost: Cost, resident: float, overfetched: float) -> str:
    words = [f"{cost.bytes / 1e6:.3g} MB"]
    if resident:
        words.append(f"{resident / 1e6:.3g} MB of it in L2")
    if overfetched:
        words.append(f"{overfetched / 1e6:.3g} MB more by strided reads")
    return ", ".join(words)


def totals(
    times: Mapping[Work, KernelTime], counts: Mapping[Work, int], hardware: Hardware
) -> tuple[float, float, float]:
    """Seconds of products bound by arithmetic at the full clock, seconds that memory adds, and how busy the lanes are.

    Matrix units count as all lanes busy, an assumption.
    """
    compute = sum(times[work].compute_s * times[work].clock_share * count for work, count in counts.items())
    rest = sum(max(times[work].seconds - times[work].compute_s, 0.0) * count for work, count in counts.items())
    done = sum(_lane_seconds(work, times[work], hardware) * count for work, count in counts.items())
    return compute, rest, min(done / compute, 1.0) if compute else 1.0


def _lane_seconds(work: Work, time: KernelTime, hardware: Hardware) -> float:
    """Seconds that all lanes together would need for the FLOPs of a product."""
    if work.unit == "tensor":
        return time.compute_s * time.clock_share
    batch, m, n, k, _ = work.shape
    return 2.0 * batch * m * n * k / hardware.peak_fp32
