"""A host's clock beside a device: who runs ahead, where the queue fills up, and where the wait lands."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeroof.profiler.device import load_device
from edgeroof.profiler.ops import OpRecord, TensorMeta
from edgeroof.profiler.projection import host_phases, host_us_of


def step(*phases: tuple[str, int, float], name: str = "aten::mul") -> tuple[list, list[float]]:
    """Phases as (name, kernels, µs of each)."""
    meta = TensorMeta((8,), "float32")
    priced, durations = [], []
    for phase, kernels, us in phases:
        priced += [(OpRecord(name, (meta, meta), (meta,), phase=phase), None)] * kernels
        durations += [us] * kernels
    return priced, durations


def test_what_is_queued_lands_on_the_last_phase() -> None:
    priced, durations = step(("forward", 10, 100.0), ("backward", 10, 100.0), ("optimizer", 2, 10.0))
    said = host_phases(priced, durations, 5.0)
    assert said["forward"] == said["backward"] == pytest.approx(50.0)
    assert said["optimizer"] == pytest.approx(5.0 + 2020.0 - 100.0)  # first launch, all kernels, less what was booked


def test_a_full_queue_slows_the_host_to_the_devices_pace() -> None:
    priced, durations = step(("forward", 20, 100.0), ("optimizer", 1, 10.0))
    ahead = host_phases(priced, durations, 5.0)["forward"]
    throttled = host_phases(priced, durations, 5.0, queue_launches=4)["forward"]
    assert throttled > 15 * 100.0 > ahead


def test_a_slow_host_is_seen_as_it_is() -> None:
    priced, durations = step(("forward", 10, 1.0), ("optimizer", 10, 1.0))
    said = host_phases(priced, durations, 50.0)
    assert said["forward"] == pytest.approx(500.0)
    assert said["optimizer"] == pytest.approx(501.0)


def test_an_op_whose_value_is_needed_makes_the_host_wait() -> None:
    first, durations = step(("forward", 10, 100.0))
    loss, more = step(("loss", 1, 1.0), name="aten::_local_scalar_dense")
    said = host_phases(first + loss, durations + more, 5.0)
    assert said["loss"] == pytest.approx(5.0 + 1001.0 - 50.0)


NAMES = st.sampled_from(["forward", "backward", "optimizer"])


@given(
    st.lists(st.tuples(NAMES, st.floats(0.1, 500.0)), min_size=1, max_size=40), st.floats(0.5, 50.0), st.integers(1, 50)
)
def test_phases_add_up_to_the_step(kernels: list, host_us: float, queue: int) -> None:
    priced, durations = step(*((phase, 1, us) for phase, us in kernels))
    total = sum(host_phases(priced, durations, host_us, queue).values())
    assert total >= max(sum(durations), host_us * len(kernels)) * (1 - 1e-9)
    assert total <= (sum(durations) + host_us * len(kernels)) * (1 + 1e-9)


def test_a_jetsons_host_takes_longer() -> None:
    assert host_us_of(load_device("orin")) > host_us_of(load_device("a100"))
