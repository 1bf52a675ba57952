"""Measured kernels carried over to another GPU."""

import numpy as np
import pandas as pd
import pytest

from edgeroof.errors import DeviceError, UsageError
from edgeroof.profiler.detect import cpu_device
from edgeroof.profiler.device import load_device
from edgeroof.profiler.projection import carry_over

ROWS = [  # dur_us, flops, bytes_read, bytes_written, dtype, unit
    (1000.0, 1.4e10, 1e7, 1e7, "fp32", "vector"),  # compute
    (1000.0, 1e6, 7e8, 7e8, "fp32", "vector"),  # memory
    (2.0, 10.0, 100.0, 100.0, "fp32", "vector"),  # latency
    (500.0, np.nan, np.nan, np.nan, "fp32", "none"),  # unknown
    (300.0, 8e10, 1e7, 1e7, "bf16", "tensor"),
]
KERNELS = pd.DataFrame(ROWS, columns=["dur_us", "flops", "bytes_read", "bytes_written", "dtype", "unit"])


def test_a_device_carried_to_itself_stays_as_it_was():
    a100 = load_device("a100")
    carried = carry_over(KERNELS, a100, a100)
    assert carried["projected_us"].tolist() == pytest.approx(KERNELS["dur_us"].tolist())
    assert carried["carried_by"].tolist() == ["compute", "memory", "latency", "unknown", "compute"]
    assert (carried["projected_low_us"] < carried["projected_us"]).all()
    assert (carried["projected_high_us"] > carried["projected_us"]).all()
    assert "projected_us" not in KERNELS


def test_each_kernel_scales_with_what_holds_it():
    a100, orin = load_device("a100"), load_device("orin")
    ratio = carry_over(KERNELS, a100, orin)["projected_us"] / KERNELS["dur_us"]
    assert ratio[0] == pytest.approx(19.5 / 5.3, rel=0.25)
    assert ratio[1] == pytest.approx(2039 / 204.8, rel=0.3)
    assert 1.0 <= ratio[2] < 2.0
    assert ratio[3] == pytest.approx(ratio[1], rel=0.01)


def test_nothing_beats_the_roof_of_the_target():
    fast = KERNELS.assign(dur_us=[1e-3] * len(KERNELS))
    carried = carry_over(fast, load_device("a100"), load_device("t4"))
    assert (carried["projected_us"] >= load_device("t4").roof.launch_floor_us).all()


def test_cpus_and_other_tables_are_refused():
    a100 = load_device("a100")
    with pytest.raises(DeviceError):
        carry_over(KERNELS, cpu_device(), a100)
    with pytest.raises(UsageError, match="flops"):
        carry_over(KERNELS.drop(columns="flops"), a100, a100)
