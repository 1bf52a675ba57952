"""The statistics on samples whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeroof.kernels.statistics import (
    FEWEST_PAIRS,
    FEWEST_PLACEMENTS,
    RESOLUTION,
    SAME_AT_MOST,
    Interval,
    compare,
    crossed,
    floor_of,
    interval_of,
    is_precise,
    judge,
    log_ratios,
    median_interval,
    noise_floor,
    order_free,
    placed_interval,
    plan,
    spread,
    student_quantile,
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


def placed(
    seed: int,
    placements: int,
    pairs: int,
    noise: float,
    place: float,
    speedup: float = 1.0,
    order: float = 0.0,
    built: float = 0.0,
):
    """Times from several placements, each of which favours one side by a random log-ratio of spread ``place``.

    The side that is timed second is faster by ``order``, the one that was built second by ``built``.
    """
    rng = np.random.default_rng(seed)
    first = built * np.tile([1.0, -1.0], placements // 2)
    favour = np.repeat(rng.normal(0, place, placements) + first, pairs)
    second = order * np.tile([1.0, -1.0], placements * pairs // 2)
    base, other = 1000 * np.exp(rng.normal(0, noise, (2, placements * pairs)))
    return base * np.exp(favour + second), other / speedup, placements


def judged(seed: int, *layout: float, **options: float) -> str:
    """A whole session over placements: A/A for the floor, then the comparison."""
    base, other, counts = placed(2 * seed, *layout)
    same = compare(base, other, placements=counts)
    base, other, counts = placed(2 * seed + 1, *layout, **options)
    return compare(base, other, floor_of(same), counts).verdict


@pytest.mark.parametrize(("placements", "pairs"), [(6, 10), (12, 6), (24, 30)])
def test_the_interval_over_placements_covers_the_truth(placements, pairs):
    """A bias of a placement is part of the noise; were all pairs thought of as alike, the interval would miss it."""
    covered = naive = 0
    for seed in range(200):
        base, other, counts = placed(seed, placements, pairs, 0.02, 0.02)
        found = interval_of(base, other, counts, draws=300)
        covered += found.low <= 0 <= found.high
        found = interval_of(base, other, draws=300)
        naive += found.low <= 0 <= found.high
    assert covered / 200 >= 0.92
    assert naive < covered


def test_providers_that_differ_only_by_place_are_hardly_ever_told_apart():
    found = [judged(seed, 8, 8, 0.02, 0.02) for seed in range(200)]
    assert sum(name in ("FASTER", "SLOWER") for name in found) <= 4


def test_equal_providers_are_the_same_given_enough_places():
    found = [judged(seed, 24, 30, 0.03, 0.015, order=0.04) for seed in range(60)]
    assert found.count("SAME") >= 54


def test_three_percent_are_found_given_enough_pairs():
    found = [judged(seed, 24, 30, 0.03, 0.015, speedup=1.03, order=0.04) for seed in range(60)]
    assert found.count("FASTER") >= 52
    assert found.count("SLOWER") == 0


def test_an_advantage_of_order_cancels():
    assert order_free(np.array([0.3, -0.1, 0.2, 0.0, 0.5])) == pytest.approx([0.1, 0.1, 0.5])
    base, other, counts = placed(1, 6, 10, 0.001, 0.0, order=0.2)
    found = interval_of(base, other, counts)
    assert found.high - found.low < 0.005


def test_an_advantage_of_being_built_first_cancels():
    assert crossed(np.array([[0.3, 0.1], [-0.1, -0.1], [0.2, 0.2], [0.0, 0.4]])) == pytest.approx(
        np.array([[0.1, 0.0], [0.1, 0.3]])
    )
    base, other, counts = placed(1, 12, 10, 0.001, 0.001, built=0.05)
    found = interval_of(base, other, counts)
    assert found.high - found.low < 0.005


def test_equal_providers_are_the_same_whichever_was_built_first():
    found = [judged(seed, 24, 30, 0.03, 0.015, order=0.04, built=0.05) for seed in range(60)]
    assert found.count("SAME") >= 54


def test_pairs_are_averaged_within_their_placement_only():
    base, other = 2 * [2.0, 2.0, 2.0, 8.0, 8.0, 8.0], [1.0] * 12
    assert interval_of(base, other, 4).median == pytest.approx(math.log(4))
    for pairs, placements in [(6, 4), (9, 3), (8, 2)]:
        with pytest.raises(ValueError, match=f"{pairs} pairs cannot be of {placements} placements"):
            interval_of([1.0] * pairs, [1.0] * pairs, placements)


def test_more_placements_say_more():
    def width(placements: int) -> float:
        base, other, counts = placed(3, placements, 4, 0.01, 0.02)
        found = interval_of(base, other, counts)
        return found.high - found.low

    assert width(40) < 0.6 * width(6)


@pytest.mark.parametrize(("freedom", "quantile"), [(1, 12.706), (4, 2.776), (9, 2.262), (15, 2.131), (60, 2.000)])
def test_students_quantiles(freedom, quantile):
    assert student_quantile(freedom) == pytest.approx(quantile, rel=2e-3)


def test_equal_placements_have_no_interval_to_widen():
    found = placed_interval(np.full((5, 3), 0.1))
    assert (found.low, found.high) == pytest.approx((0.1, 0.1))


def test_what_is_precise():
    assert is_precise(Interval(0.0, -0.01, 0.01), 0.01)
    assert not is_precise(Interval(0.0, -0.02, 0.01), 0.01)
    assert is_precise(Interval(1.0, 0.92, 1.1), 0.01)  # a tenth of a large difference


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


LIMITS = {"pairs": 30, "seconds": 2.0, "most_seconds": 30.0, "most_pairs": 2000}


@pytest.mark.parametrize(
    ("pair_seconds", "expected"),
    [(0.1, 30), (1e-3, 2000), (0.01, 200), (2.0, 16), (9.0, 6), (100.0, 6), (0.0, 2000)],
)
def test_number_of_pairs_in_one_place(pair_seconds, expected):
    for build_seconds in (None, 2.6):  # six times 2.6 s are more than half of the time
        found = plan(pair_seconds, build_seconds, **LIMITS)
        assert (found.pairs, found.placements) == (expected, 1)


@pytest.mark.parametrize(
    ("pair_seconds", "build_seconds", "expected"),
    [
        (0.0025, 0.008, (34, 24)),  # LoRA: quick to build, so many places
        (0.1, 0.5, (10, 6)),  # whole models: a third of the time to build
        (0.7, 1.5, (6, 6)),  # as slow as that leaves thirty pairs
        (1.5, 1.5, (4, 6)),  # no time for thirty
        (4.0, 1.5, (2, 6)),  # twelve pairs take less than twice the limit
        (4.5, 1.5, (6, 1)),  # and here they would take more, so there is one place
    ],
)
def test_pairs_are_spread_over_places(pair_seconds, build_seconds, expected):
    found = plan(pair_seconds, build_seconds, **LIMITS)
    assert (found.pairs, found.placements) == expected


@given(st.floats(0, 100), st.none() | st.floats(0, 100), st.integers(6, 200), st.floats(0, 10), st.floats(0.1, 60))
def test_every_plan_can_be_followed(pair_seconds, build_seconds, pairs, seconds, most_seconds):
    limits = {"pairs": pairs, "seconds": seconds, "most_seconds": most_seconds, "most_pairs": 2000}
    found = plan(pair_seconds, build_seconds, **limits)
    assert found.pairs % 2 == 0
    assert found.fewest >= FEWEST_PAIRS
    assert found.placements == 1 or (found.placements >= FEWEST_PLACEMENTS and found.placements % 2 == 0)
    if found.placements > 1 and pair_seconds > 0:
        takes = found.placements * (build_seconds + found.pairs * pair_seconds)
        assert takes <= 2 * most_seconds * 1.01


def test_spread_of_a_providers_own_times():
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == {"median": 3.0, "p25": 2.0, "p75": 4.0, "min": 1.0, "max": 5.0}
