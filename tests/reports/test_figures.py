from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from edgeroof.profiler.run import Run
from edgeroof.reports import figures
from edgeroof.reports.grouping import TABLE_KEYS, VARIOUS, group_kernels, module_group, table_rows

from .sample_run import imported_run, large_run, sample_run


def tiny_run(rows: list[dict], steps: int = 1, **summary) -> Run:
    """A run of hand-written kernels; everything not given has a harmless default."""
    default = {
        "op": "aten::mm", "name": "k", "phase": "forward", "bound": "compute", "dtype": "fp32", "unit": "vector",
        "shapes": "", "module": "", "autograd": "forward", "provenance": "exact", "dur_us": 1.0, "flops": 10.0,
        "bytes_read": 4.0, "bytes_written": 1.0, "t_roof_us": 0.5, "headroom_us": 0.5,
    }  # fmt: skip
    frame = pd.DataFrame([default | row for row in rows])
    return Run({"profiled_steps": steps, **summary}, frame, pd.DataFrame(), pd.DataFrame({"phase": []}))


def test_groups_are_per_step_and_rates_are_ratios_of_sums():
    run = tiny_run([{"dur_us": 1.0}, {"dur_us": 3.0}], steps=2)
    (group,) = figures.records(group_kernels(run, ("op",)))
    assert group["kernels"] == 1.0
    assert group["time_us"] == 2.0
    assert group["flops"] == 10.0
    assert group["intensity"] == pytest.approx(2.0)
    assert group["gflops"] == pytest.approx(10.0 / 2e-6 / 1e9)
    assert group["bandwidth_gbs"] == pytest.approx(5.0 / 2e-6 / 1e9)
    assert group["roof_fraction"] == pytest.approx(0.25)


def test_a_group_with_nothing_known_stays_unknown():
    nothing = dict.fromkeys(("flops", "bytes_read", "bytes_written", "t_roof_us", "headroom_us"), math.nan)
    (group,) = figures.records(group_kernels(tiny_run([nothing, nothing]), ("op",)))
    assert [group[key] for key in ("flops", "bytes", "intensity", "gflops", "roof_fraction", "headroom_us")] == [
        None
    ] * 6


def test_roof_fraction_counts_only_time_whose_roof_is_known():
    run = tiny_run([{}, {"t_roof_us": math.nan, "dur_us": 100.0}])
    assert group_kernels(run, ("op",))["roof_fraction"].item() == pytest.approx(0.5)


def test_layers_of_a_model_are_one_group():
    assert module_group("encoder.block.3.layer.0.SelfAttention") == "encoder.block.*.layer.*.SelfAttention"
    assert module_group("h.12") == "h.*"
    assert module_group("conv2d.wi_0") == "conv2d.wi_0"
    run = tiny_run([{"module": f"encoder.block.{index}.q"} for index in range(12)])
    (row,) = figures.records(table_rows(run))
    assert row["module_group"] == "encoder.block.*.q"
    assert row["kernels"] == 12


def test_every_kernel_is_in_exactly_one_row():
    for run in (sample_run(), imported_run()):
        rows = table_rows(run)
        steps = run.summary["profiled_steps"]
        assert rows["kernels"].sum() * steps == pytest.approx(len(run.kernels))
        assert rows["time_us"].sum() * steps == pytest.approx(run.kernels["dur_us"].sum())
        assert not rows.duplicated(list(TABLE_KEYS)).any()
        assert rows["time_us"].is_monotonic_decreasing


def test_small_groups_are_merged_and_none_is_lost():
    run = large_run(5_000)
    rows = table_rows(run, limit=100)
    assert len(rows) < 400
    assert (rows["shapes"] == VARIOUS).any()
    assert rows["kernels"].sum() == pytest.approx(5_000)
    assert rows["time_us"].sum() == pytest.approx(run.kernels["dur_us"].sum())


def test_table_limit_holds_when_every_name_differs():
    run = tiny_run([{"name": f"kernel_{index}", "dur_us": 1.0 + index} for index in range(1_000)])
    rows = table_rows(run, limit=50)
    assert len(rows) <= 150
    assert rows["kernels"].sum() == 1_000


def test_roofline_places_each_group_once():
    run = sample_run()
    figure = figures.roofline_points(run)
    groups = group_kernels(run, figures.POINT_KEYS)
    assert sum(len(figure[kind]) for kind in ("points", "movement", "unpriced")) == len(groups)
    assert all(point["intensity"] > 0 and point["gflops"] > 0 for point in figure["points"])
    assert all(group["flops"] == 0 and group["bandwidth_gbs"] > 0 for group in figure["movement"])
    assert {group["op"] for group in figure["movement"]} >= {"aten::copy_", "aten::zero_"}
    assert {group["op"] for group in figure["unpriced"]} >= {"", "custom::rope", "c10d::allreduce_"}
    assert sum(
        group["time_us"] for kind in ("points", "movement", "unpriced") for group in figure[kind]
    ) == pytest.approx(run.kernels["dur_us"].sum() / 2)


def test_points_beyond_the_limit_are_counted_not_dropped():
    run = sample_run()
    every, few = figures.roofline_points(run), figures.roofline_points(run, limit=10)
    assert len(few["points"]) + len(few["movement"]) == 10
    assert few["hidden"]["groups"] == len(every["points"]) + len(every["movement"]) - 10
    assert few["hidden"]["time_us"] > 0


def test_a_roof_fraction_above_one_is_not_clipped():
    figure = figures.roofline_points(sample_run())
    assert max(point["roof_fraction"] for point in figure["points"]) > 1.5


def test_roofs_show_used_peaks_with_the_profilers_fallbacks():
    device = {
        "roofs": [
            {
                "source": "spec",
                "bandwidth_gbs": 100.0,
                "peaks_gflops": {"tensor": {"bf16": 40.0, "fp16": 40.0}, "vector": {"fp32": 5.0}},
            }
        ]
    }
    (roof,) = figures.roof_lines(
        device, [("tensor", "bf16"), ("tensor", "fp16"), ("vector", "bf16"), ("tensor", "fp64")]
    )
    assert [(ceiling["label"], ceiling["gflops"]) for ceiling in roof["ceilings"]] == [
        ("bf16, fp16 tensor", 40.0),
        ("fp32 vector", 5.0),
    ]
    assert len(figures.roof_lines(device)[0]["ceilings"]) == 2
    assert figures.roof_lines({}) == []


def test_phases_keep_their_order_and_their_time():
    run = sample_run()
    entries = figures.phase_bounds(run)
    assert [entry["phase"] for entry in entries] == [
        "data", "zero_grad", "forward", "loss", "backward", "communication", "optimizer", "",
    ]  # fmt: skip
    assert sum(entry["kernel_ms"] for entry in entries) == pytest.approx(run.kernels["dur_us"].sum() / 2e3)
    for entry in entries:
        assert math.fsum(entry["bounds"].values()) == pytest.approx(entry["kernel_ms"])
    assert entries[-1]["idle_ms"] is None


def test_modules_have_all_of_the_time():
    run = sample_run()
    modules = figures.module_bounds(run, limit=3)
    times = [entry["kernel_ms"] for entry in modules["largest"]]
    assert len(times) == 3
    assert times == sorted(times, reverse=True)
    assert sum(times) + modules["others"]["kernel_ms"] == pytest.approx(run.kernels["dur_us"].sum() / 2e3)
    for entry in modules["largest"]:
        assert math.fsum(entry["bounds"].values()) == pytest.approx(entry["kernel_ms"])
    assert figures.module_bounds(run, limit=10_000)["others"] == {"count": 0, "kernel_ms": 0.0}


def test_timers_share_the_step():
    device, host, closure = figures.timing_bars(sample_run())
    for bar in (device, host):
        assert sum(part["share"] for part in bar["parts"]) == pytest.approx(1.0)
    share = {
        bar["name"]: {part["phase"]: part["share"] for part in bar["parts"]}["optimizer"]
        for bar in (device, host, closure)
    }
    assert share["device-true"] < 0.1 < 0.8 < share["unsynchronised host timer"] < share["closure-style timer"] <= 1


def test_a_closure_timer_that_misses_phases_is_still_a_share_of_the_step():
    run = sample_run()
    run.phases["closure_ms"] = np.where(run.phases["phase"] == "optimizer", 100.0, 0.0)
    closure = figures.timing_bars(run)[2]
    optimizer = next(part for part in closure["parts"] if part["phase"] == "optimizer")
    assert optimizer["share"] == pytest.approx(100.0 / run.phases["device_ms"].sum())


def test_imported_runs_have_no_timers():
    assert figures.timing_bars(imported_run()) == []


def test_bounds_without_a_roof_promise_nothing():
    shares = {entry["bound"]: entry for entry in figures.bound_shares(sample_run())}
    assert list(shares) == ["memory", "compute", "latency", "inefficient", "communication", "unknown"]
    assert shares["unknown"]["headroom_us"] is None
    assert shares["communication"]["headroom_us"] is None
    assert sum(entry["share"] for entry in shares.values()) == pytest.approx(1.0)


def test_bounds_are_counted_when_the_summary_has_none():
    shares = {
        entry["bound"]: entry["share"]
        for entry in figures.bound_shares(tiny_run([{}, {"bound": "memory", "dur_us": 3.0}]))
    }
    assert shares == {"memory": 0.75, "compute": 0.25}
    assert figures.totals(tiny_run([{}]))["headroom_us"] == pytest.approx(0.5)
