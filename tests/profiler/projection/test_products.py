"""Matrix products: bounded by the roofline, quantised by tiles and waves, slowed by what the model says slows them."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeroof.profiler.device import load_device
from edgeroof.profiler.projection.coefficients import load_coefficients
from edgeroof.profiler.projection.hardware import describe_hardware
from edgeroof.profiler.projection.matmul import Products, product_times
from edgeroof.profiler.projection.tiles import SIMT_TILES, simt_tiles

C = load_coefficients()
SIZES = st.integers(1, 20_000)


def seconds(device="v100-pcie-32gb", batch=1, m=4096, n=4096, k=4096, along_inner=1, **options):
    columns = (np.array([float(value)]) for value in (batch, m, n, k, along_inner))
    products = Products(*columns, batched=batch > 1, **options)
    return product_times(products, describe_hardware(load_device(device)), C).seconds[0]


@given(batch=st.integers(1, 64), m=SIZES, n=SIZES, k=SIZES, device=st.sampled_from(["t4", "a100", "l4", "orin", "p4"]))
def test_no_product_is_faster_than_the_roofline(batch, m, n, k, device):
    hardware = describe_hardware(load_device(device))
    at_peak = 2.0 * batch * m * n * k / hardware.peak_fp32
    at_bandwidth = 4.0 * batch * (m * k + k * n + m * n) / hardware.roof.bandwidth
    assert seconds(device, batch, m, n, k) >= max(at_peak, at_bandwidth)


def test_large_products_sustain_a_plausible_share_of_the_peak():
    for device, low, high in (("v100-pcie-32gb", 0.75, 0.95), ("a100", 0.75, 0.95), ("h100", 0.55, 0.85)):
        peak = describe_hardware(load_device(device)).peak_fp32
        assert low < 2 * 8192**3 / seconds(device, m=8192, n=8192, k=8192) / peak < high


def test_one_block_beyond_a_full_wave_costs_nearly_a_wave():
    hardware = describe_hardware(load_device("v100-pcie-32gb"))
    tile = SIMT_TILES["128x128"]
    slots = hardware.sms * tile.resident

    def of(blocks):
        columns = (np.array([float(value)]) for value in (1, tile.rows, tile.columns * blocks, 4096, 1))
        return product_times(Products(*columns, batched=True), hardware, C, tiles=[tile]).seconds[0]

    assert of(slots + 1) - of(slots) > 0.3 * of(slots)
    assert of(slots) - of(slots - hardware.sms // 2) < 0.05 * of(slots)  # no more than their traffic


def test_a_long_inner_dimension_is_split_when_blocks_are_few():
    columns = (np.array([float(value)]) for value in (1, 128, 128, 60_000, 2))
    times = product_times(Products(*columns, batched=False), describe_hardware(load_device("a100")), C)
    assert times.split[0] > 1


def test_operands_along_the_inner_dimension_cost_more():
    assert seconds(along_inner=0) < seconds(along_inner=1) < seconds(along_inner=2)


def test_blocks_drift_apart_only_so_far():
    """An A40-like board: 84 SMs, 6 MB of L2; its memory must not bound a product of 8192 cubed."""
    hardware = dataclasses.replace(describe_hardware(load_device("a100")), l2_bytes=6 * 2**20, sms=84)
    shapes = [np.array([1.0, 1.0]), np.array([8192.0] * 2), np.array([8192.0] * 2), np.array([4096.0, 16384.0])]
    times = product_times(Products(*shapes, np.ones(2), batched=False), hardware, C)
    assert times.memory_s[1] / times.memory_s[0] == pytest.approx(4, rel=0.1)


def test_matrix_units_are_faster_than_lanes():
    assert seconds("a100", item=2, dtype="bf16", unit="tensor") < seconds("a100") / 5


def test_a_new_generation_takes_the_tiles_of_the_newest_measured_one():
    assert simt_tiles(C, 12, batched=True) == simt_tiles(C, 8, batched=True)
    assert simt_tiles(C, 5, batched=True) == simt_tiles(C, 6, batched=True)
    assert set(simt_tiles(dataclasses.replace(C, catalogue={}), 8, batched=False)) == set(SIMT_TILES.values())


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_a_lower_clock_slows_arithmetic_in_proportion(share):
    columns = [np.array([float(value)]) for value in (1, 4096, 4096, 4096, 1)]
    hardware = describe_hardware(load_device("a100"))
    full, slow = (
        product_times(Products(*columns, batched=False), hardware, C, clock_share=each) for each in (1.0, share)
    )
    assert slow.compute_s[0] == pytest.approx(full.compute_s[0] / share, rel=0.02)
