"""Metrics of a step: time, model FLOP utilisation, tokens per second, power.

MFU = model FLOPs of a step / (step time × peak), counting the matrix products of forward and backward without
recomputation; HFU counts recomputation too (A. Chowdhery et al., "PaLM", arXiv 2204.02311, appendix B). The peak is
named, for an MFU without its denominator says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from .costs import Cost, matmul
from .ops import OpRecord

if TYPE_CHECKING:
    from .device import Device
    from .memory import PeakMemory
    from .power.common import EnergyMeter
    from .timing import StepTiming

#: Phases whose matrix products are the model's work.
_MODEL_PHASES = ("forward", "loss", "backward")


def step_time(timings: Sequence[StepTiming]) -> dict[str, Any]:
    """Median, quartiles and extremes of the bare steps' wall time in milliseconds."""
    samples = [timing.wall_ms for timing in timings]
    p25, p75 = (float(value) for value in np.percentile(samples, [25, 75]))
    return {
        "median": median(samples),
        "p25": p25,
        "p75": p75,
        "min": min(samples),
        "max": max(samples),
        "samples": samples,
    }


def phase_samples(timings: Sequence[StepTiming]) -> dict[str, list[float]]:
    """Device-true milliseconds of each phase that every bare step has, step by step."""
    every = set.intersection(*(set(timing.device_ms) for timing in timings)) if timings else set()
    return {name: [timing.device_ms[name] for timing in timings] for name in timings[0].device_ms if name in every}


def model_flops(records: Sequence[OpRecord], costs: Sequence[Cost | None]) -> tuple[float, float, str]:
    """FLOPs of the matrix products of one step.

    Returns:
        Model FLOPs (no recomputation), hardware FLOPs (with it), and the type most of them are done in.
    """
    useful = recomputed = 0.0
    by_dtype: dict[str, float] = {}
    for record, cost in zip(records, costs):
        if cost is None or record.name not in matmul.RULES or record.phase not in _MODEL_PHASES:
            continue
        if record.autograd == "recompute":
            recomputed += cost.flops
        else:
            useful += cost.flops
        by_dtype[cost.dtype] = by_dtype.get(cost.dtype, 0.0) + cost.flops
    dtype = max(by_dtype, key=lambda name: by_dtype[name], default="fp32")
    return useful, useful + recomputed, dtype


def utilisation(useful: float, hardware: float, dtype: str, step_ms: float, device: Device) -> dict[str, Any]:
    """The ``mfu`` and ``hfu`` entries: against the datasheet's peak where there is one, else the measured one."""
    roof = device.spec or device.roof
    peak = roof.peak(dtype, "tensor")
    if peak is None or not useful:
        reason = f"no {dtype} peak is known for {device.title}" if useful else "the step has no matrix products"
        return {"mfu": {"value": None, "reason": reason}, "hfu": {"value": None, "reason": reason}}
    denominator = f"{roof.source} {peak.dtype} {peak.unit} peak, {_flops_text(peak.flops_per_s)}"
    available = peak.flops_per_s * step_ms * 1e-3
    return {
        "mfu": {"value": useful / available, "denominator": denominator, "model_flops": useful},
        "hfu": {"value": hardware / available, "denominator": denominator, "hardware_flops": hardware},
    }


def throughput(tokens: Sequence[tuple[int, int]], timings: Sequence[StepTiming]) -> dict[str, float]:
    """Tokens per second over all bare steps: (non-padding, padded) counts per step over their summed time."""
    seconds = sum(timing.wall_ms for timing in timings) * 1e-3
    return {
        "non_padding": sum(real for real, _ in tokens) / seconds,
        "padded": sum(padded for _, padded in tokens) / seconds,
    }


def memory(peak: PeakMemory) -> dict[str, Any]:
    """The ``peak_memory`` entry."""
    return {"bytes": peak.bytes, "what": peak.what}


def power(meter: EnergyMeter, steps: int, tokens: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """The ``power`` entry: mean watts, joules per step and tokens per joule (tokens/s/W), or why there is nothing."""
    reading = meter.reading if meter.available else None
    if reading is None or not reading.joules:
        return {"available": False, "reason": meter.reason or "the meter returned no reading"}
    return {
        "available": True,
        "mean_w": reading.mean_w,
        "energy_per_step_j": reading.joules / steps,
        "tokens_per_s_per_w": sum(real for real, _ in tokens) / reading.joules,
        "domain": meter.domain,
        "method": meter.method,
        "samples": reading.samples,
        "parts_j": dict(reading.parts),
        "note": reading.note,
    }


def _flops_text(flops_per_s: float) -> str:
    return f"{flops_per_s / 1e12:.3g} TFLOP/s" if flops_per_s >= 1e12 else f"{flops_per_s / 1e9:.3g} GFLOP/s"
