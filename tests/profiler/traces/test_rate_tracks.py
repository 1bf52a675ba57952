import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeroof.profiler.traces.rate_tracks import levels

INTERVALS = st.lists(
    st.tuples(
        st.integers(0, 60),
        st.integers(0, 20),
        st.one_of(st.floats(0, 1e7, allow_subnormal=False), st.just(float("nan")), st.just(float("inf"))),
    ),
    max_size=30,
)


def columns(intervals: list[tuple[int, int, float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    starts = np.array([start for start, _, _ in intervals], np.int64)
    return (
        starts,
        starts + np.array([dur for _, dur, _ in intervals], np.int64),
        np.array([value for _, _, value in intervals], float),
    )


@given(INTERVALS)
def test_the_sum_of_what_runs_at_every_moment(intervals: list[tuple[int, int, float]]) -> None:
    times, sums = levels(*columns(intervals))
    known = [(start, start + dur, value) for start, dur, value in intervals if np.isfinite(value)]
    for moment in range(85):
        at = np.searchsorted(times, moment, "right") - 1
        level = sums[at] if at >= 0 else 0.0
        running = [value for start, end, value in known if start <= moment < end]
        assert level == pytest.approx(sum(running), rel=1e-9, abs=1e-6)
        if not running:
            assert level == 0


@given(INTERVALS)
def test_times_rise_and_neighbours_differ(intervals: list[tuple[int, int, float]]) -> None:
    times, sums = levels(*columns(intervals))
    assert (np.diff(times) > 0).all()
    assert (np.diff(sums) != 0).all()
    assert (sums >= 0).all()
    assert not len(sums) or sums[-1] == 0
