"""Times that are no pairs: intervals that hold the truth as often as they say, and none where nothing repeats."""

import math

import numpy as np
import pytest

from edgeroof.kernels.statistics import BETWEEN_RUNS, RESOLUTION, compare_independent, independent_interval


@pytest.mark.parametrize("medians", [True, False])
@pytest.mark.parametrize(("base", "other"), [(3, 3), (6, 6), (2, 12), (5, 30)])
def test_the_interval_holds_the_truth_as_often_as_it_says(base: int, other: int, medians: bool) -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(600):
        first = np.exp(rng.normal(math.log(2.0), 0.05, base))
        second = np.exp(rng.normal(0.0, 0.02, other))
        interval = independent_interval(first, second, typical(first, second, medians), medians=medians)
        assert interval is not None
        held += interval.low <= math.log(2.0) <= interval.high
    assert held / 600 >= 0.92


def typical(base: list, other: list, medians: bool) -> tuple[float, float]:
    statistic = np.median if medians else np.mean
    return float(statistic(base)), float(statistic(other))


def test_the_interval_lies_around_what_is_reported() -> None:
    """One slow step moves the mean of the steps; the median that is reported stays in the middle."""
    base, other = [1.0, 1.01, 1.02, 1.01, 9.0], [1.0, 1.01, 1.02, 1.01, 1.0]
    interval = independent_interval(base, other, typical(base, other, True), medians=True)
    assert interval is not None
    assert interval.median == 0.0
    assert interval.low == -interval.high


@pytest.mark.parametrize(("base", "other"), [([1.0], [1.0, 2.0]), ([], []), ([1.0, 0.0], [1.0, 2.0])])
def test_nothing_repeats_nothing_is_said(base: list, other: list) -> None:
    assert independent_interval(base, other, (1.0, 1.0), medians=False) is None
    assert compare_independent(base, other, RESOLUTION, (1.0, 1.0), medians=True) is None
    assert independent_interval([1.0, 1.1], [1.0, 1.1], (0.0, 1.0), medians=False) is None


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
    others = [factor * time for time in times]
    compared = compare_independent(times, others, floor, typical(times, others, True), medians=True)
    assert compared is not None
    assert compared.verdict == verdict
    assert compared.ratio == pytest.approx(1 / factor)
