"""Time of matrix products: tiles over SMs in waves, operands through L2, memory, and the clock that power allows.

All functions take arrays, one entry a product, so that the same code fits thousands of measurements and projects one.
The library's choice among its tiles and splits is taken to be the fastest one by this very model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .coefficients import Coefficients
from .hardware import Hardware
from .memory import dram_bandwidth
from .power import held_clock_shares
from .tiles import TENSOR_TILES, Tile, simt_tiles

#: Splits of the inner dimension over blocks that cuBLAS may choose for plain products.
SPLITS = (1, 2, 4, 8, 16, 32)

#: Assumption for matrix units, which the measurements have nothing of: share of the dense peak that a product reaches
#: when nothing else holds it. 8192 cubed in bf16 gave 0.81 on an H100 and 0.80 on an H200.
_TENSOR_ISSUE = 0.85

_INNER_STEP = 8

#: Assumption: length of the inner dimension beyond which blocks drift no further apart, because those behind find in L2
#: what the ones ahead must fetch. From Volta on; an RTX A40 with 6 MB of L2 keeps 23.7 TFLOP/s at 8192 cubed.
_DRIFTING = 2048


@dataclass(frozen=True)
class Products:
    """Products of ``batch`` pairs of matrices, (m x k) times (k x n), as arrays of one length.

    ``along_inner`` counts, for each product, the operands that are contiguous along the inner dimension: 2 for the
    forward pass of a linear layer (cuBLAS' tn), 1 for two row-major matrices (nn), 0 for a weight's gradient (nt).
    ``item`` is the size of an element in bytes, ``dtype`` and ``unit`` name the arithmetic; these hold for all
    products.
    """

    batch: np.ndarray
    m: np.ndarray
    n: np.ndarray
    k: np.ndarray
    along_inner: np.ndarray
    batched: bool
    item: int = 4
    dtype: str = "fp32"
    unit: str = "vector"


@dataclass(frozen=True)
class ProductTimes:
    """Times in seconds, and what the chosen kernel is like; arrays of one length."""

    seconds: np.ndarray
    compute_s: np.ndarray
    memory_s: np.ndarray
    clock_share: np.ndarray
    waves: np.ndarray
    tile: np.ndarray
    split: np.ndarray
    tiles: Sequence[Tile]


def product_times(
    products: Products,
    hardware: Hardware,
    coefficients: Coefficients,
    *,
    clock_share: float | None = None,
    sustained: bool = True,
    tiles: Sequence[Tile] | None = None,
) -> ProductTimes:
    """Time of each product on its fastest tile and split.

    Args:
        products: what is multiplied.
        hardware: where.
        coefficients: of the model.
        clock_share: share of the clock that the board holds; by default that of each product repeated without end.
        sustained: this share holds throughout, as within a step; otherwise work arrives at an idle board and the clock
            falls from its boost, as in a measurement of single kernels.
        tiles: what the library may choose from; by default what its generation has.
    """
    simt = products.unit != "tensor"
    if tiles is None:
        known = simt_tiles(coefficients, hardware.capability[0], products.batched)
        tiles = known if simt else list(TENSOR_TILES.values())
    splits = (1,) if products.batched else SPLITS
    choices = [(index, split) for index in range(len(tiles)) for split in splits]
    rows = [
        _on_tile(products, hardware, coefficients, tiles[index], split, clock_share, sustained)
        for index, split in choices
    ]
    stacked = np.stack([np.stack(row) for row in rows])  # choice, quantity, product
    best = stacked[:, 0].argmin(axis=0)
    chosen = np.take_along_axis(stacked, best[None, None, :], axis=0)[0]
    picked = np.array(choices)[best]
    seconds, compute, memory, share, waves = chosen
    return ProductTimes(seconds, compute, memory, share, waves, picked[:, 0], picked[:, 1], tiles)


def _on_tile(
    p: Products, hardware: Hardware, c: Coefficients, tile: Tile, split: int, cap: float | None, sustained: bool
) -> tuple[np.ndarray, ...]:
    grid_n, grid_m = np.ceil(p.n / tile.columns), np.ceil(p.m / tile.rows)
    blocks = p.batch * grid_n * grid_m * split
    steps = np.ceil(p.k / split / _INNER_STEP) * _INNER_STEP
    arithmetic = _arithmetic_s(p, hardware, c, tile, blocks, steps)
    l2_rate = hardware.sms * hardware.clock_hz * c.l2_bytes_per_clock
    operands = blocks * (tile.columns + tile.rows) * steps * p.item / l2_rate
    compute = _join(arithmetic, operands, c.overlap)
    partial = 0.0 if split == 1 else 2.0 * 4 * split * p.batch * p.m * p.n
    traffic = _dram_bytes(p, hardware, c, tile, grid_m, grid_n) + partial
    memory = traffic / (dram_bandwidth(hardware, c) * c.product_dram)
    share = _held_clock(p, hardware, c, compute) if cap is None else np.full_like(compute, cap)
    if not sustained:
        boosted_us = _join(compute, memory, c.overlap) * 1e6
        share = share + (1.0 - share) / (1.0 + (boosted_us / c.throttle_us) ** c.throttle_slope)
    seconds = _join(compute / share, memory, c.overlap) + (0.0 if split == 1 else c.split_us * 1e-6)
    waves = blocks / (hardware.sms * tile.resident)
    return seconds, compute / share, memory, share, waves


def _held_clock(p: Products, hardware: Hardware, c: Coefficients, compute_s: np.ndarray) -> np.ndarray:
    """The clock share at which a board repeats each product without end."""
    flops = 2.0 * p.batch * p.m * p.n * p.k
    busy = np.minimum(flops / (hardware.peak_fp32 * compute_s), 1.0) if p.unit != "tensor" else np.ones_like(flops)
    return held_clock_shares(hardware, c, busy)


def _arithmetic_s(
    p: Products, hardware: Hardware, c: Coefficients, tile: Tile, blocks: np.ndarray, steps: np.ndarray
) -> np.ndarray:
    """Full rounds of resident blocks, then what is left over on the SM that has most of it."""
    cost = c.turning_cost_old if hardware.capability < (7, 0) else c.turning_cost
    turning = 1.0 + (cost * p.along_inner if p.unit != "tensor" else 0.0)
    one_block = 2.0 * tile.columns * tile.rows * (steps + c.prologue_steps) * turning / _sm_rate(p, hardware, c, tile)
    rounds = np.floor(blocks / (hardware.sms * tile.resident))
    left = np.ceil((blocks - rounds * hardware.sms * tile.resident) / hardware.sms)
    full = rounds * tile.resident / _busy(np.asarray(tile.resident * tile.warps), c)
    tail = np.where(left > 0, left / _busy(np.maximum(left, 1) * tile.warps, c), 0.0)
    return one_block * (full + tail)


def _sm_rate(p: Products, hardware: Hardware, c: Coefficients, tile: Tile) -> float:
    """FLOP/s of one SM whose inner loop runs undisturbed."""
    if p.unit == "tensor":
        peak = hardware.roof.peak(p.dtype, "tensor")
        return (peak.flops_per_s if peak else hardware.peak_fp32) / hardware.sms * _TENSOR_ISSUE
    peak = hardware.roof.peak(p.dtype, "vector")
    rate = (peak.flops_per_s if peak else hardware.peak_fp32) / hardware.sms
    cost = c.operand_cost_old if hardware.capability < (7, 0) else c.operand_cost
    feeding = cost * (1.0 / tile.thread_columns + 1.0 / tile.thread_rows)
    issue = c.issue if hardware.capability < (8, 0) else c.issue_ampere
    return rate * issue * hardware.issue_share / np.hypot(1.0, feeding)


def _busy(warps: np.ndarray, c: Coefficients) -> np.ndarray:
    """Share of an SM's rate that so many resident warps reach, relative to 16 of them."""
    return np.expm1(-warps / c.warps) / np.expm1(-16.0 / c.warps)


def _dram_bytes(
    p: Products, hardware: Hardware, c: Coefficients, tile: Tile, grid_m: np.ndarray, grid_n: np.ndarray
) -> np.ndarray:
    """Bytes to and from memory: each operand once, and again what L2 lost between waves and between drifting blocks."""
    slots = hardware.sms * tile.resident
    in_wave = np.minimum(slots, grid_m * grid_n)
    across = np.minimum(grid_n, in_wave)
    down = np.minimum(np.ceil(in_wave / across), grid_m)
    at_once = np.maximum(np.minimum(slots / (grid_m * grid_n), p.batch), 1.0)
    panel = across * tile.columns + down * tile.rows

    once = p.item * p.batch * (p.m * p.k + p.k * p.n)
    by_waves = p.item * p.batch * p.k * panel * np.maximum(grid_m * grid_n / (across * down), 1.0)
    by_blocks = p.item * p.batch * p.k * grid_m * grid_n * (tile.columns + tile.rows)

    lost_between_waves = _miss(p.item * (p.m * p.k + p.k * p.n) * at_once, hardware.l2_bytes)
    old = hardware.capability < (7, 0)
    apart = p.k * c.drift_old if old else np.minimum(p.k, _DRIFTING) * c.drift
    lost_in_wave = _miss(p.item * at_once * panel * np.maximum(apart, _INNER_STEP), hardware.l2_bytes)
    rereads = np.maximum(by_waves - once, 0.0)
    drifted = np.maximum(by_blocks - np.maximum(by_waves, once), 0.0)
    return once + lost_between_waves * (rereads + lost_in_wave * drifted) + p.item * p.batch * p.m * p.n


def _miss(working_set: np.ndarray, l2_bytes: float) -> np.ndarray:
    """Share of the reuse that L2 loses: little while the working set is smaller, nearly all when it is much larger."""
    return working_set**2 / (working_set**2 + max(l2_bytes, 1.0) ** 2)


def _join(first: np.ndarray, second: np.ndarray, exponent: float) -> np.ndarray:
    """Time of two things that mostly overlap: the longer one, and somewhat more where both are long."""
    longer = np.maximum(np.maximum(first, second), 1e-12)
    return longer * ((first / longer) ** exponent + (second / longer) ** exponent) ** (1.0 / exponent)
