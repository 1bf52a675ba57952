import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeroof.profiler.findings.phase_table import busy_and_idle, phase_table
from edgeroof.profiler.roofline import classify
from edgeroof.profiler.timing import StepTiming

from ..kernel_tables import ROOF, table


def test_gaps_are_booked_on_the_kernel_that_ends_them() -> None:
    kernels = table(
        {"start_us": 0, "dur_us": 10, "phase": "forward"},
        {"start_us": 15, "dur_us": 10, "phase": "backward"},
        {"start_us": 20, "dur_us": 10, "phase": "backward", "stream": 8},  # overlaps by 5
    )
    phases = phase_table(classify(kernels, ROOF), 1).set_index("phase")
    assert phases.at["forward", "busy_ms"] == pytest.approx(0.010)
    assert phases.at["backward", "busy_ms"] == pytest.approx(0.015)
    assert phases.at["backward", "kernel_ms"] == pytest.approx(0.020)
    assert phases.at["backward", "idle_ms"] == pytest.approx(0.005)
    assert list(phases.index) == ["forward", "backward"]


def test_a_new_step_does_not_inherit_the_gap_between_steps() -> None:
    kernels = table({"start_us": 0, "dur_us": 10}, {"start_us": 1000, "dur_us": 10, "step": 1})
    assert busy_and_idle(kernels)["idle_us"].sum() == 0


spans = st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 100)), min_size=1, max_size=20)


@given(spans)
def test_busy_and_idle_add_up_to_the_span_and_busy_is_the_union(intervals: list[tuple[float, float]]) -> None:
    kernels = table(*({"start_us": start, "dur_us": dur} for start, dur in intervals))
    added = busy_and_idle(kernels)
    first, last = min(s for s, _ in intervals), max(s + d for s, d in intervals)
    assert added["busy_us"].sum() + added["idle_us"].sum() == pytest.approx(last - first, abs=1e-6)
    union, cursor = 0.0, first
    for start, dur in sorted(intervals):
        union += max(0.0, start + dur - max(start, cursor))
        cursor = max(cursor, start + dur)
    assert added["busy_us"].sum() == pytest.approx(union, abs=1e-6)


def test_timers_stand_beside_the_kernels() -> None:
    timings = [StepTiming(10, {"optimizer": ms, "data": 1.0}, {"optimizer": 9.0, "data": 1.0}, 9.5) for ms in (1, 2, 6)]
    phases = phase_table(classify(table({"phase": "optimizer"}), ROOF), 1, timings).set_index("phase")
    assert phases.at["optimizer", "device_ms"] == 2
    assert phases.at["optimizer", "closure_ms"] == 9.5
    assert phases.at["data", "kernels"] == 0
    assert phases.at["data", "device_ms"] == 1.0
