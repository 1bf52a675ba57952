"""Breakdowns add up to the step, and shares to the whole difference, whatever the parts."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeroof.profiler.comparison.breakdown import KEYS, NO_KERNEL, OUTSIDE, breakdown, phase_times
from edgeroof.profiler.comparison.differences import match, matched_share

from ...reports.sample_run import imported_run, projected_run, sample_run

_names = st.sampled_from(["forward", "optimizer", "aten::mm", "aten::add", ""])
_parts = st.lists(st.tuples(_names, _names, _names, _names, st.floats(-5.0, 1e4), st.integers(0, 9)), max_size=12)


def frame(rows: list) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=[*KEYS, "ms", "kernels"])


@settings(max_examples=80)
@given(_parts, _parts, st.integers(1, 4))
def test_shares_add_up_to_the_whole_difference(first: list, other: list, depth: int) -> None:
    a, b = frame(first), frame(other)
    matched = match(a, b, KEYS[:depth])
    assert matched["delta_ms"].sum() == pytest.approx(b["ms"].sum() - a["ms"].sum(), abs=1e-5)
    assert not matched.duplicated(list(KEYS[:depth])).any()
    if len(matched) and matched["share"].notna().all():
        assert matched["share"].sum() == pytest.approx(1.0, abs=1e-4)
    assert set(matched["change"]) <= {"new", "gone", "faster", "slower", "same"}


def test_parts_that_cancel_explain_nothing() -> None:
    """A step of nothing but rounding has no shares, however large the parts are that cancel in it."""
    first = frame([("forward", "aten::mm", "m", "[2]", 4e-72, 1)])
    other = frame([(phase, "aten::mm", "m", "[2]", ms, 1) for phase, ms in (("forward", -1e-7), ("optimizer", 1e-7))])
    assert match(first, other, KEYS[:1])["share"].isna().all()


@pytest.mark.parametrize(
    ("first", "other", "change"),
    [(1.0, 2.0, "slower"), (2.0, 1.0, "faster"), (1.0, 1.01, "same"), (None, 1.0, "new"), (1.0, None, "gone")],
)
def test_changes_have_names(first: float | None, other: float | None, change: str) -> None:
    sides = [
        frame([] if ms is None else [("forward", "aten::mm", "m", "[2]", ms, 1)]).astype({"ms": float})
        for ms in (first, other)
    ]
    (row,) = match(*sides, KEYS).to_dict("records")
    assert row["change"] == change
    assert row["delta_ms"] == (other or 0.0) - (first or 0.0)


def test_runs_that_are_the_same_have_no_shares() -> None:
    parts = frame([("forward", "aten::mm", "m", "[2]", 3.0, 1)])
    assert match(parts, parts, KEYS)["share"].isna().all()
    assert matched_share(match(parts, parts, KEYS)) == 1.0


def test_time_without_a_kernel_is_no_match() -> None:
    rest = ("forward", NO_KERNEL, "", "", 5.0, 0)
    first = frame([("forward", "aten::mm", "m", "[2]", 3.0, 1), ("forward", "aten::add", "m", "[2]", 1.0, 1), rest])
    other = frame([("forward", "aten::mm", "m", "[2]", 3.0, 1), ("forward", "aten::mul", "m", "[2]", 1.0, 1), rest])
    assert matched_share(match(first, other, KEYS)) == 6.0 / 8.0
    assert matched_share(match(frame([rest]), frame([rest]), KEYS)) == 1.0


def test_what_rounding_leaves_is_nothing() -> None:
    """Kernels that fill their phase leave no rest, whatever the last digits of their sum; nor do equal sums differ."""
    run = sample_run(1, hostile=False)
    run.kernels["dur_us"] = 0.1 + run.kernels["dur_us"]
    busy = run.kernels.groupby(run.kernels["phase"].astype(str))["dur_us"].sum() / 1e3
    run.phases["device_ms"] = [busy[phase] * (1 + 3e-16) for phase in run.phases["phase"].astype(str)]
    run.summary["metrics"]["step_time_ms"]["median"] = float(run.phases["device_ms"].sum()) * (1 + 3e-16)
    parts = breakdown([run], bare=True)
    rests = parts[(parts["op"] == NO_KERNEL) & (parts["phase"] != OUTSIDE)]
    assert (rests["ms"] == 0.0).all()
    assert phase_times(run, bare=True)[OUTSIDE] == 0.0
    scaled = parts.assign(ms=parts["ms"] * (1 + 3e-16))
    assert (match(parts, scaled, KEYS)["delta_ms"] == 0.0).all()


@pytest.mark.parametrize(
    "run", [sample_run(2), projected_run(), imported_run()], ids=["measured", "projected", "trace"]
)
def test_parts_add_up_to_phases_and_the_step(run) -> None:
    bare = run.summary["metrics"] is not None
    parts = breakdown([run], bare=bare)
    phases = phase_times(run, bare=bare)
    step = run.summary["metrics"]["step_time_ms"]["median"] if bare else run.kernels["dur_us"].sum() / 1e3
    assert parts["ms"].sum() == pytest.approx(step)
    assert sum(phases.values()) == pytest.approx(step)
    for phase, ms in phases.items():
        assert parts.loc[parts["phase"] == phase, "ms"].sum() == pytest.approx(ms, abs=1e-9)


def test_repeated_runs_are_their_mean() -> None:
    runs = [sample_run(1, hostile=False), sample_run(2, hostile=False)]
    runs[1].kernels["dur_us"] *= 1.5
    both = breakdown(runs, bare=False)
    single = [breakdown([run], bare=False) for run in runs]
    assert both["ms"].sum() == pytest.approx((single[0]["ms"].sum() + single[1]["ms"].sum()) / 2)
    assert len(both) == len(single[0])


def test_layers_are_taken_together_and_gaps_have_a_name() -> None:
    parts = breakdown([sample_run(1, hostile=False)], bare=True)
    assert "encoder.block.*.layer.*.SelfAttention.q" in set(parts["module"])
    assert {"forward", "backward", "optimizer", OUTSIDE} <= set(parts.loc[parts["op"] == NO_KERNEL, "phase"])
