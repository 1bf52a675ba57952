"""Meters: integration, wrapping counters, the sampling thread, and failing sources."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeroof.profiler.power.common import CounterMeter, NullMeter, PowerMeter, counter_delta, trapezoid


class FakeClock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def power_meter(watts: dict[str, float], clock: FakeClock) -> PowerMeter:
    sources = {name: (lambda name=name: watts[name]) for name in watts}
    return PowerMeter(sources, domain="test", method="fake", interval_s=0.01, clock=clock, background=False)  # type: ignore[arg-type]


def energy_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "edgeroof-energy"]


@given(st.floats(0, 500), st.lists(st.floats(0.001, 10), min_size=1, max_size=50))
def test_trapezoid_of_constant_power_is_power_times_time(watts: float, gaps: list[float]) -> None:
    times = [sum(gaps[:n]) for n in range(len(gaps) + 1)]
    assert trapezoid(times, [watts] * len(times)) == pytest.approx(watts * times[-1])


@given(st.floats(0, 100), st.floats(0, 20), st.lists(st.floats(0.01, 10), min_size=1, max_size=30))
def test_trapezoid_is_exact_for_a_ramp_however_it_is_sampled(start: float, slope: float, gaps: list[float]) -> None:
    times = [sum(gaps[:n]) for n in range(len(gaps) + 1)]
    end = times[-1]
    expected = start * end + slope * end**2 / 2
    assert trapezoid(times, [start + slope * t for t in times]) == pytest.approx(expected)


def test_trapezoid_of_fewer_than_two_samples_is_nothing() -> None:
    assert trapezoid([], []) == 0
    assert trapezoid([1.0], [50.0]) == 0


@given(
    wraps_at=st.integers(10, 10**12),
    start=st.integers(0, 10**12),
    steps=st.lists(st.integers(0, 10**12), min_size=1, max_size=20),
)
def test_wrapping_counter_recovers_every_step_shorter_than_a_turn(wraps_at: int, start: int, steps: list[int]) -> None:
    steps = [step % wraps_at for step in steps]
    readings = [start % wraps_at]
    for step in steps:
        readings.append((readings[-1] + step) % wraps_at)
    clock = FakeClock()
    pending = iter(readings)
    meter = CounterMeter(
        {"package-0": lambda: float(next(pending))},
        wraps_at={"package-0": float(wraps_at)},
        domain="test",
        method="fake",
        interval_s=1,
        clock=clock,
        background=False,
    )
    with meter:
        for _ in steps[:-1]:
            clock.now += 1
            meter.sample()
        clock.now += 1
    assert meter.reading is not None
    assert meter.reading.joules == sum(steps)


def test_a_counter_that_does_not_wrap_may_not_fall() -> None:
    with pytest.raises(ValueError, match="fell"):
        counter_delta(5.0, 4.0, None)


def test_a_counter_that_was_reset_makes_the_meter_unavailable_instead_of_raising() -> None:
    values = iter([100.0, 3.0])
    with CounterMeter(
        {"gpu": lambda: next(values)}, domain="GPU", method="fake", interval_s=1, background=False
    ) as meter:
        pass
    assert (meter.available, meter.reading) == (False, None)
    assert "fell" in meter.reason


def test_power_of_several_rails_is_summed_and_kept_apart() -> None:
    clock, watts = FakeClock(), {"A": 10.0, "B": 1.0}
    with power_meter(watts, clock) as meter:
        clock.now += 4
        watts["A"] = 20.0
        meter.sample()
        clock.now += 4
    reading = meter.reading
    assert reading is not None
    assert reading.parts == {"A": 4 * 15.0 + 4 * 20.0, "B": 8.0}
    assert (reading.joules, reading.seconds, reading.mean_w, reading.samples) == (148.0, 8.0, 18.5, 3)
    assert reading.note == ""


def test_a_short_window_is_remarked() -> None:
    clock = FakeClock()
    with power_meter({"A": 1.0}, clock) as meter:
        clock.now += 1.5
    assert meter.reading is not None
    assert "1.5 s is short" in meter.reading.note


def test_an_empty_window_has_no_division_by_zero() -> None:
    with power_meter({"A": 1.0}, FakeClock()) as meter:
        pass
    assert meter.reading is not None
    assert (meter.reading.joules, meter.reading.mean_w) == (0.0, 0.0)


def test_a_meter_can_be_used_again() -> None:
    clock = FakeClock()
    meter = power_meter({"A": 2.0}, clock)
    for seconds in (10, 20):
        with meter:
            clock.now += seconds
        assert meter.reading is not None
        assert meter.reading.joules == 2.0 * seconds


def test_a_source_that_fails_in_the_middle_gives_a_reason_not_an_exception() -> None:
    values = iter([5.0])

    def read() -> float:
        try:
            return next(values)
        except StopIteration:
            raise OSError("bus error") from None

    with PowerMeter({"A": read}, domain="rail A", method="fake", interval_s=0.001) as meter:
        deadline = time.monotonic() + 5
        while meter.available and time.monotonic() < deadline:
            time.sleep(0.001)
    assert (meter.available, meter.reading) == (False, None)
    assert meter.reason == "rail A could not be read any more: bus error"


def test_the_thread_samples_and_ends_with_the_block() -> None:
    with PowerMeter({"A": lambda: 7.0}, domain="test", method="fake", interval_s=0.001) as meter:
        assert len(energy_threads()) == 1
        time.sleep(0.2)
    assert energy_threads() == []
    assert meter.reading is not None
    assert meter.reading.samples > 10
    assert meter.reading.mean_w == pytest.approx(7.0)


def test_the_thread_ends_and_the_exception_passes_when_the_block_raises() -> None:
    meter = PowerMeter({"A": lambda: 7.0}, domain="test", method="fake", interval_s=0.001)
    with pytest.raises(KeyboardInterrupt), meter:
        raise KeyboardInterrupt
    assert energy_threads() == []
    assert meter.reading is not None


def test_null_meter_gives_its_reason_and_no_reading() -> None:
    with NullMeter("no sensor") as meter:
        pass
    assert (meter.available, meter.reason, meter.reading) == (False, "no sensor", None)
