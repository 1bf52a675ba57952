"""Granularity against hand-made rounds and the figures that are published for it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeroof.workloads.federated.granularity import (
    RoundTimes,
    clients_speedup,
    communication_energy_share,
    doubling_speedup,
    round_times,
)
from edgeroof.workloads.federated.links import PRESETS


def test_published_speedups() -> None:
    assert doubling_speedup(1) == pytest.approx(1.33, abs=0.005)
    assert doubling_speedup(10) == pytest.approx(1.83, abs=0.005)


@given(st.floats(0, 1e6))
def test_doubling_lies_between_nothing_and_two(granularity: float) -> None:
    assert 1 <= doubling_speedup(granularity) <= 2
    assert doubling_speedup(granularity) == pytest.approx(clients_speedup(granularity, 2))


def test_infinite_granularity() -> None:
    free = RoundTimes(1.0, 0.0, 0.0, 0.0, 0, 0)
    assert math.isinf(free.granularity)
    assert doubling_speedup(free.granularity) == 2
    assert clients_speedup(free.granularity, 8) == 8


def test_granularity_leaves_coding_out() -> None:
    times = round_times(60.0, 4e8, 4e8, PRESETS["lte"], codec_s=5.0)
    assert times.granularity == pytest.approx(60.0 / (times.down_s + times.up_s))
    assert times.total_s == pytest.approx(65.0 + times.communication_s)
    assert times.up_s > times.down_s


def test_energy_share() -> None:
    times = RoundTimes(compute_s=30.0, codec_s=0.0, down_s=5.0, up_s=25.0, down_bytes=1, up_bytes=1)
    assert communication_energy_share(times, compute_w=30.0, radio_w=2.0) == pytest.approx(60 / 960)
    assert communication_energy_share(RoundTimes(0, 0, 0, 0, 0, 0), 30.0, 2.0) == 0
