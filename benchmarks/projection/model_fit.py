"""Fitting the coefficients to measured kernels.

Each set of kernels (one kind on one GPU) counts the same, and only as much as a few dozen independent kernels would:
what the model misses is alike in all of a set. Each coefficient is drawn to its starting value, a figure from
architecture documents, with the width given here; data that say nothing of a coefficient leave it there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from measurements import DEVICES, SOURCE, KernelSet
from optimiser import minimise

from edgeroof.profiler.device import load_device
from edgeroof.profiler.projection.coefficients import Coefficients
from edgeroof.profiler.projection.hardware import Hardware, describe_hardware
from edgeroof.profiler.projection.matmul import Products, product_times
from edgeroof.profiler.projection.memory import PERSISTENT_ROW, layer_norm, row_seconds, softmax, streaming_seconds
from edgeroof.profiler.projection.tiles import SIMT_TILES

#: Relative error that counts as one unit, and independent kernels that a set is worth.
_UNIT, _WORTH = 0.1, 40.0

#: Widths (of the logarithm) of what each coefficient may be.
MEMORY_WIDTHS = {
    "dram_hbm": 0.05, "dram_hbm_old": 0.05, "dram_gddr": 0.05, "norm_rate": 1.0, "softmax_rate": 1.0, "l2_keep": 0.7,
    "host_us.elementwise": 0.5, "host_us.norm": 0.5, "host_us.softmax": 0.5,
}  # fmt: skip
PRODUCT_WIDTHS = {
    "issue": 0.03, "issue_ampere": 0.04, "operand_cost": 0.4, "operand_cost_old": 0.4, "turning_cost": 0.7,
    "turning_cost_old": 0.7,
    "prologue_steps": 0.5, "warps": 0.4, "l2_bytes_per_clock": 0.3, "drift": 0.2, "drift_old": 0.7, "overlap": 0.4,
    "split_us": 0.7, "product_dram": 0.1, "pj_per_flop": 0.5, "board_w": 0.25, "threshold_voltage": 0.15,
    "throttle_us": 1.0, "throttle_slope": 0.3, "host_us.bmm": 0.5, "host_us.linear": 0.5,
}  # fmt: skip

#: Coefficients that are shares of something.
_AT_MOST_ONE = (
    "issue",
    "issue_ampere",
    "dram_hbm",
    "dram_hbm_old",
    "dram_gddr",
    "product_dram",
    "threshold_voltage",
    "l2_keep",
)

#: A tile belongs to a generation's catalogue when it ran this share of a kind's kernels on one of its GPUs.
_CATALOGUE_SHARE = 0.02


def hardware_by_device() -> dict[str, Hardware]:
    """The five GPUs as the projection sees them, from their device files."""
    return {name: describe_hardware(load_device(name)) for name in DEVICES}


def fit(sets: Sequence[KernelSet]) -> Coefficients:
    """Coefficients for the sets of kernels given, and nothing else."""
    gpus = hardware_by_device()
    coefficients = dataclasses.replace(Coefficients(), catalogue=_catalogue(sets, gpus), source=SOURCE)
    products = [each for each in sets if each.kind in ("bmm", "linear")]
    others = [each for each in sets if each.kind not in ("bmm", "linear")]
    coefficients = _fit_some(others, gpus, coefficients, MEMORY_WIDTHS)
    return _fit_some(products, gpus, coefficients, PRODUCT_WIDTHS)


def predict(kernels: KernelSet, hardware: Hardware, c: Coefficients) -> np.ndarray:
    """Seconds that each kernel should take when measured by itself, the latency of its launch included."""
    dims = kernels.dims
    host = c.host_us[kernels.kind] * 1e-6
    if kernels.kind in ("bmm", "linear"):
        products = Products(**dims, batched=kernels.kind == "bmm")
        return product_times(products, hardware, c, sustained=False).seconds + host
    if kernels.kind == "elementwise":
        return streaming_seconds(dims["moved"], hardware, c) + host
    rows, length = dims["rows"], dims["length"]
    if kernels.kind == "norm":
        return row_seconds(rows, length, 4, layer_norm(c), hardware, c) + host
    short, long = (row_seconds(rows, length, 4, softmax(c, row), hardware, c) for row in (1, PERSISTENT_ROW + 1))
    return np.where(length <= PERSISTENT_ROW, short, long) + host


def _fit_some(
    sets: Sequence[KernelSet], gpus: dict[str, Hardware], start: Coefficients, widths: dict[str, float]
) -> Coefficients:
    names = list(widths)
    width = np.array(list(widths.values()))
    middle = np.log([_get(Coefficients(), name) for name in names])

    def residuals(x: np.ndarray) -> np.ndarray:
        c = _with(start, names, x)
        parts = [(x - middle) / width]
        for each in sets:
            error = np.log(predict(each, gpus[each.device], c) / each.seconds)
            parts.append(error / _UNIT * np.sqrt(_WORTH / len(each)))
        return np.concatenate(parts)

    return _with(start, names, minimise(residuals, middle))


def _get(c: Coefficients, name: str) -> float:
    group, _, key = name.partition(".")
    return getattr(c, group)[key] if key else getattr(c, group)


def _with(c: Coefficients, names: Sequence[str], logarithms: np.ndarray) -> Coefficients:
    plain: dict[str, float] = {}
    host = dict(c.host_us)
    for name, value in zip(names, np.exp(logarithms)):
        group, _, key = name.partition(".")
        if key:
            host[key] = float(value)
        else:
            plain[group] = float(min(value, 1.0) if group in _AT_MOST_ONE else value)
    return dataclasses.replace(c, **plain, host_us=host)


def _catalogue(sets: Sequence[KernelSet], gpus: dict[str, Hardware]) -> dict[str, dict[str, tuple[str, ...]]]:
    """Tiles that ran, by major compute capability and kind of product."""
    found: dict[str, dict[str, set[str]]] = {}
    for each in sets:
        if each.kind in ("bmm", "linear"):
            family = found.setdefault(str(gpus[each.device].capability[0]), {})
            tiles, counts = np.unique(each.tile[np.isin(each.tile, list(SIMT_TILES))], return_counts=True)
            frequent = tiles[counts >= _CATALOGUE_SHARE * len(each)]
            family.setdefault(each.kind, set()).update(map(str, frequent))
    return {
        family: {kind: tuple(sorted(t)) for kind, t in sorted(kinds.items())} for family, kinds in sorted(found.items())
    }
