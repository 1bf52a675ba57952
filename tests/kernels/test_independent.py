"""Times that are no pairs: intervals that hold the truth as often as they say, and none where nothing repeats."""

import math

import numpy as np
import pytest

from edgeroof.kernels.statistics import BETWEEN_RUNS, RESOLUTION, compare_independent, independent_interval


@pytest.mark.parametrize(("base", "other"), [(3, 3), (6, 6), (2, 12)])
def test_the_interval_holds_the_truth_as_often_as_it_says(base: int, other: int) -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(600):
        first = np.exp(rng.normal(math.log(2.0), 0.05, base))
        second = np.exp(rng.normal(0.0, 0.02, other))
        interval = independent_interval(first, second)
        assert interval is not None
        held += interval.low <= math.log(2.0) <= interval.high
    assert held / 600 >= 0.92


@pytest.mark.parametrize(("base", "other"), [([1.0], [1.0, 2.0]), ([], []), ([1.0, 0.0], [1.0, 2.0])])
def test_nothing_repeats_nothing_is_said(base: list, other: list) -> None:
    assert independent_interval(base, other) is None
    assert compare_independent(base, other, RESOLUTION) is None


@pytest.mark.parametrize(
    ("floor", "factor", "verdict"),
    [
        (RESOLUTION, 1.03, "SLOWER"),
        (BETWEEN_RUNS, 1.03, "SAME"),
        (BETWEEN_RUNS, 1.2, "SLOWER"),
        (RESOLUTION, 0.8, "FASTER"),
    ],
)
def test_single_runs_need_larger_differences(floor: float, factor: float, verdict: str) -> None:
    times = [0.999, 1.0, 1.0, 1.001]
    compared = compare_independent(times, [factor * time for time in times], floor)
    assert compared is not None
    assert compared.verdict == verdict
    assert compared.ratio == pytest.approx(1 / factor)
