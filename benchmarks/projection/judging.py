"""Leave-one-GPU-out: every GPU is judged by coefficients that were fitted without it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from measurements import DEVICES, KernelSet
from model_fit import fit, hardware_by_device, predict
from op_streams import op_stream

from edgeroof.profiler.device import load_device
from edgeroof.profiler.projection import Coefficients, ErrorBand, Hardware, Projector

#: Kinds of kernels in the order they are reported.
KINDS = ("bmm", "linear", "elementwise", "norm", "softmax")

_TAIL = 0.05


@dataclass(frozen=True)
class KernelJudgement:
    """Ratios projected / measured of one set of kernels: by the model, and by the plain roofline."""

    kernels: KernelSet
    model: np.ndarray
    roofline: np.ndarray


def fit_without_each(sets: Sequence[KernelSet]) -> dict[str, Coefficients]:
    """For each device, the coefficients fitted to all others."""
    return {device: fit([each for each in sets if each.device != device]) for device in DEVICES}


def judge_kernels(sets: Sequence[KernelSet], held_out: Mapping[str, Coefficients]) -> Iterator[KernelJudgement]:
    """Ratios of every judged set on the device its coefficients never saw."""
    gpus = hardware_by_device()
    for each in sets:
        if each.judged:
            gpu = gpus[each.device]
            projected = predict(each, gpu, held_out[each.device])
            yield KernelJudgement(each, projected / each.seconds, roofline_seconds(each, gpu) / each.seconds)


def roofline_seconds(kernels: KernelSet, gpu: Hardware) -> np.ndarray:
    """The plain roofline: the longer of FLOPs over peak and bytes over bandwidth."""
    dims = kernels.dims
    if kernels.kind in ("bmm", "linear"):
        batch, m, n, k = (dims[key] for key in ("batch", "m", "n", "k"))
        flops, moved = 2 * batch * m * n * k, 4 * batch * (m * k + k * n + m * n)
        return np.maximum(flops / gpu.peak_fp32, moved / gpu.roof.bandwidth)
    moved = dims["moved"] if kernels.kind == "elementwise" else 8 * dims["rows"] * dims["length"]
    return moved / gpu.roof.bandwidth


def judge_steps(steps: pd.DataFrame, held_out: Mapping[str, Coefficients]) -> pd.DataFrame:
    """The measured steps with ``projected_ms``, ``forward_ms``, ``backward_ms`` and ``roofline_ms``."""
    rows = []
    for step in steps.itertuples():
        device = load_device(step.device)
        stream = op_stream(step.model, step.mode, step.sequence, step.batch)
        projected = Projector(device, held_out[step.device]).step(stream)
        phases = {name: phase.us / 1e3 for name, phase in projected.phases.items()}
        peak, bandwidth = hardware_by_device()[step.device].peak_fp32, device.roof.bandwidth
        roofline = sum(max(cost.flops / peak, cost.bytes / bandwidth) for _, cost in stream if cost) * 1e3
        rows.append(
            {
                "projected_ms": projected.total.us / 1e3,
                "forward_ms": phases.get("forward", 0.0),
                "backward_ms": phases.get("backward", np.nan),
                "roofline_ms": roofline,
            }
        )
    return steps.reset_index(drop=True).join(pd.DataFrame(rows))


def kernel_bands(judgements: Sequence[KernelJudgement]) -> dict[str, ErrorBand]:
    """Error bands by kind of kernel; each device counts the same."""
    return {kind: _band([j.model for j in judgements if j.kernels.kind == kind]) for kind in KINDS}


def step_bands(steps: pd.DataFrame) -> dict[str, ErrorBand]:
    """The error band of whole steps."""
    ratio = (steps["projected_ms"] / steps["e2e_ms"]).to_numpy(float)
    return {"all": _band([ratio])}


def _band(parts: Sequence[np.ndarray]) -> ErrorBand:
    """Quantiles of measured / projected; parts are weighed alike by repeating none, drawing as many from each."""
    fewest = min(len(part) for part in parts)
    ratios = np.concatenate([np.sort(part)[np.linspace(0, len(part) - 1, fewest).astype(int)] for part in parts])
    low, high = np.quantile(1.0 / ratios, [_TAIL, 1.0 - _TAIL])
    error = float(np.median(np.abs(ratios - 1.0)))
    return ErrorBand(round(float(low), 3), round(float(high), 3), round(error, 3), sum(map(len, parts)))
