from edgeroof.profiler.phases import listening, phase
from edgeroof.profiler.timing import HostClock, StepTimer


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_asynchronous_device_and_host_disagree_as_they_do_on_a_gpu() -> None:
    device, host = ManualClock(), ManualClock()
    timer = StepTimer(HostClock(device), HostClock(host))
    with listening(timer), timer.step():
        for name, device_s, host_s in [("forward", 0.3, 0.01), ("backward", 0.6, 0.02), ("optimizer", 0.1, 0.97)]:
            with phase(name):
                device.now += device_s
                host.now += host_s
    (timing,) = timer.results()
    assert round(timing.wall_ms) == 1000
    assert {name: round(ms) for name, ms in timing.device_ms.items()} == {
        "forward": 300,
        "backward": 600,
        "optimizer": 100,
    }
    assert round(timing.host_ms["optimizer"]) == 970
    assert round(timing.closure_ms) == 1000


def test_repeated_phases_are_summed_and_data_stays_outside_the_closure() -> None:
    clock = ManualClock()
    timer = StepTimer(HostClock(clock), HostClock(clock))
    with listening(timer), timer.step():
        for name in ("data", "forward", "forward", "optimizer"):
            with phase(name):
                clock.now += 0.1
    (timing,) = timer.results()
    assert round(timing.device_ms["forward"]) == 200
    assert round(timing.closure_ms) == 300


def test_a_step_without_optimizer_has_no_closure_time() -> None:
    timer = StepTimer(HostClock())
    with listening(timer), timer.step(), phase("forward"):
        pass
    assert timer.results()[0].closure_ms == 0


def test_listeners_are_removed() -> None:
    timer = StepTimer(HostClock())
    with listening(timer):
        pass
    with timer.step(), phase("forward"):
        pass
    assert timer.results()[0].device_ms == {}
