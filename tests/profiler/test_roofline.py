import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeroof.profiler.roofline import attainable_flops, classify, ridge_intensity

from .kernel_tables import ROOF, table


@pytest.mark.parametrize(
    ("kernel", "bound", "fraction"),
    [
        ({"bytes_read": 6e6, "bytes_written": 2e6}, "memory", 0.8),
        ({"flops": 9e7, "bytes_read": 1e5}, "compute", 0.9),
        ({"flops": 2e8, "dtype": "bf16", "unit": "tensor"}, "compute", 0.5),
        ({"flops": 2e7, "bytes_read": 1e5}, "inefficient", 0.2),
        ({"bytes_read": 1e4, "dur_us": 9.0}, "latency", 0.1 / 9),
        ({"bytes_read": 1e4, "dur_us": 11.0}, "inefficient", 0.1 / 11),
        ({"bytes_read": 2.5e6}, "memory", 0.25),  # the threshold itself is near enough to the roof
        ({"bytes_read": 2e7}, "memory", 2.0),  # above the roof: evidence, not clipped
        ({"flops": 1e7, "bytes_read": 1e6, "dur_us": 20.0}, "memory", 0.5),  # equal times count as memory
        ({"phase": "communication", "flops": math.nan}, "communication", None),
        ({"kind": "memcpy", "name": "Memcpy HtoD (Pinned -> Device)", "bytes_read": 1e6}, "unknown", None),
        ({"kind": "memcpy", "name": "Memcpy DtoD (Device -> Device)", "bytes_read": 8e6}, "memory", 0.8),
        ({"flops": math.nan, "bytes_read": math.nan}, "unknown", None),
        ({"flops": 1e9, "dtype": "fp64"}, "unknown", None),  # no such peak is known
    ],
)
def test_bounds(kernel: dict, bound: str, fraction: float | None) -> None:
    row = classify(table(kernel), ROOF).iloc[0]
    assert row["bound"] == bound
    if fraction is not None:
        assert row["roof_fraction"] == pytest.approx(fraction)
        assert row["headroom_us"] == pytest.approx(row["dur_us"] * (1 - fraction))


def test_headroom_of_several_kernels_adds_up() -> None:
    kernels = classify(table({"bytes_read": 5e6}, {"flops": 5e7}, {"bytes_read": 2e7}), ROOF)
    assert list(kernels["t_roof_us"]) == pytest.approx([50, 50, 200])
    assert kernels["headroom_us"].sum() == pytest.approx(kernels["dur_us"].sum() - kernels["t_roof_us"].sum())


def test_fp32_products_without_a_matrix_unit_run_on_the_vector_unit() -> None:
    row = classify(table({"flops": 5e7, "unit": "tensor"}), ROOF).iloc[0]
    assert row["t_compute_us"] == pytest.approx(50)


@given(st.floats(0, 1e12), st.floats(0, 1e9), st.floats(0.1, 1e6))
def test_achieved_rates_never_pass_the_roof_unless_the_fraction_says_so(flops: float, moved: float, dur: float) -> None:
    row = classify(table({"flops": flops, "bytes_read": moved, "dur_us": dur}), ROOF).iloc[0]
    assert (row["roof_fraction"] > 1) == (row["headroom_us"] < 0)
    if row["roof_fraction"] <= 1 and moved > 0:
        assert row["gflops"] * 1e9 <= attainable_flops(row["intensity"], 1e12, 100e9) * (1 + 1e-9)


def test_ridge() -> None:
    assert ridge_intensity(1e12, 100e9) == 10
    assert attainable_flops(10, 1e12, 100e9) == 1e12
