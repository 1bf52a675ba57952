import pytest
from torch.profiler import ProfilerActivity, profile

from edgeroof.profiler.phases import current_phase, phase


def test_phase_is_a_profiler_range_of_the_same_name() -> None:
    with profile(activities=[ProfilerActivity.CPU]) as profiler, phase("backward"):
        assert current_phase() == "backward"
    assert "edgeroof.phase.backward" in {event.name for event in profiler.events()}
    assert current_phase() == ""


def test_phase_is_an_nvtx_range_of_the_same_name(monkeypatch: pytest.MonkeyPatch) -> None:
    import nvtx

    seen = []
    annotate = nvtx.annotate
    monkeypatch.setattr(nvtx, "annotate", lambda label, **rest: seen.append(label) or annotate(label, **rest))
    with phase("optimizer"):
        pass
    assert seen == ["edgeroof.phase.optimizer"]


def test_unknown_phase_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown phase 'warmup'"), phase("warmup"):
        pass


def test_phase_closes_when_the_work_fails() -> None:
    with pytest.raises(RuntimeError), phase("forward"):
        raise RuntimeError
    assert current_phase() == ""
