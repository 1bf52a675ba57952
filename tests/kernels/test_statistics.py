"""The statistics on samples whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeroof.kernels.statistics import (
    RESOLUTION,
    SAME_AT_MOST,
    Interval,
    compare,
    floor_of,
    judge,
    log_ratios,
    median_interval,
    noise_floor,
    pairs_needed,
    spread,
)


def times(seed: int, pairs: int, noise: float, speedup: float = 1.0, drift: float = 0.0, spikes: float = 0.0):
    """Base and other times in µs: a common drift, independent noise, rare spikes, and a true ratio of base / other."""
    rng = np.random.default_rng(seed)
    common = 1000 * (1 + drift * np.linspace(0, 1, pairs))
    spiky = 1 + 4 * (rng.random((2, pairs)) < spikes)
    noisy = common * np.exp(rng.normal(0, noise, (2, pairs))) * spiky
    return noisy[0], noisy[1] / speedup


def verdict(seed: int, pairs: int, noise: float, **options: float) -> str:
    """A whole session: A/A for the floor, then the comparison."""
    same = compare(*times(2 * seed, pairs, noise, spikes=options.get("spikes", 0.0)))
    return compare(*times(2 * seed + 1, pairs, noise, **options), floor_of(same)).verdict


def test_equal_providers_are_hardly_ever_told_apart():
    found = [verdict(seed, 30, 0.02, drift=0.3, spikes=0.03) for seed in range(300)]
    assert sum(name in ("FASTER", "SLOWER") for name in found) <= 3


def test_equal_providers_are_the_same_on_a_quiet_machine():
    found = [verdict(seed, 30, 0.01) for seed in range(200)]
    assert found.count("SAME") >= 190


@pytest.mark.parametrize(("speedup", "expected"), [(1.1, "FASTER"), (1 / 1.1, "SLOWER")])
def test_ten_percent_are_found(speedup, expected):
    found = [verdict(seed, 30, 0.02, speedup=speedup, drift=0.3, spikes=0.03) for seed in range(200)]
    assert found.count(expected) >= 195
    ratio = compare(*times(1, 400, 0.02, speedup=speedup)).ratio
    assert ratio == pytest.approx(speedup, rel=0.01)


def test_wide_noise_is_unclear_and_never_the_same():
    found = [verdict(seed, 30, 0.5, speedup=1.05) for seed in range(100)]
    assert found.count("SAME") == 0
    assert found.count("UNCLEAR") >= 95


def test_drift_that_hits_both_does_not_matter():
    base, other = times(3, 40, 0.005, speedup=1.2, drift=5.0)
    assert np.median(base) / np.median(other) == pytest.approx(1.2, rel=0.2)
    found = compare(base, other)
    assert found.low < 1.2 < found.high
    assert found.high - found.low < 0.02


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [median_interval(rng.normal(0.3, 0.05, 50), draws=500) for _ in range(300)]
    covered = sum(interval.low <= 0.3 <= interval.high for interval in intervals)
    assert 0.90 <= covered / 300 <= 0.99


def test_blocks_widen_the_interval_of_bursty_noise():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        shocks, values = rng.normal(0, 0.05, 80), np.zeros(80)
        for index in range(1, 80):
            values[index] = 0.5 * values[index - 1] + shocks[index]
        interval = median_interval(values, draws=500)
        covered += interval.low <= 0 <= interval.high
    assert covered / 200 >= 0.84  # single draws would cover about 0.75


@given(
    st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=60),
    st.floats(0.5, 2.0),
)
@settings(max_examples=40)
def test_a_constant_ratio_is_found_exactly_and_swapping_inverts_it(base, factor):
    other = [value * factor for value in base]
    found, swapped = compare(base, other), compare(other, base)
    assert found.ratio == pytest.approx(1 / factor)
    assert found.low == pytest.approx(found.high)
    assert swapped.ratio == pytest.approx(factor)
    opposite = {"FASTER": "SLOWER", "SLOWER": "FASTER", "SAME": "SAME", "UNCLEAR": "UNCLEAR"}
    if abs(abs(math.log(factor)) - RESOLUTION) > 1e-6:
        assert swapped.verdict == opposite[found.verdict]


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 0.5))
def test_the_rule(middle, half, floor):
    interval = Interval(middle, middle - half, middle + half)
    found = judge(interval, floor)
    if found == "FASTER":
        assert interval.low > floor
    elif found == "SLOWER":
        assert interval.high < -floor
    elif found == "SAME":
        assert max(abs(interval.low), abs(interval.high)) <= SAME_AT_MOST
    else:
        assert interval.low <= floor
        assert interval.high >= -floor


@given(st.floats(0, 0.4), st.floats(0, 0.4))
def test_more_noise_never_finds_more(low, extra):
    interval = Interval(0.2, 0.1, 0.3)
    quiet, noisy = judge(interval, low), judge(interval, low + extra)
    if noisy == "FASTER":
        assert quiet == "FASTER"


def test_the_floor_is_how_far_the_interval_reaches():
    assert noise_floor(Interval(0.0, -0.03, 0.02)) == pytest.approx(0.03)
    assert noise_floor(Interval(0.0, -1e-5, 1e-5)) == RESOLUTION
    biased = compare([1.06] * 30, [1.0] * 30)
    assert biased.verdict == "FASTER"
    assert math.exp(floor_of(biased)) == pytest.approx(1.06)


def test_equal_samples_give_equal_intervals():
    values = np.random.default_rng(2).normal(0, 1, 33)
    assert median_interval(values) == median_interval(values.copy())


@pytest.mark.parametrize(("base", "other"), [([], []), ([1.0], [1.0, 2.0]), ([0.0], [1.0]), ([1.0], [-1.0])])
def test_what_are_no_pairs_is_refused(base, other):
    with pytest.raises(ValueError, match=r"pairs|above zero"):
        log_ratios(base, other)


@pytest.mark.parametrize(
    ("pair_seconds", "expected"),
    [(0.1, 30), (1e-3, 2000), (0.01, 200), (2.0, 15), (100.0, 5), (0.0, 2000)],
)
def test_number_of_pairs(pair_seconds, expected):
    found = pairs_needed(pair_seconds, pairs=30, seconds=2.0, most_seconds=30.0, most_pairs=2000)
    assert found == expected


def test_spread_of_a_providers_own_times():
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == {"median": 3.0, "p25": 2.0, "p75": 4.0, "min": 1.0, "max": 5.0}
