"""Ledger, headroom, optimizer drill-down and answer over hand-built tables."""

import math

import pytest

from edgeroof.profiler.findings.advice import advise
from edgeroof.profiler.findings.answer import answer, timing_verdict
from edgeroof.profiler.findings.headroom import bound_shares, rank_headroom
from edgeroof.profiler.findings.ledger import coverage_ledger
from edgeroof.profiler.findings.optimizer_step import drill_down
from edgeroof.profiler.findings.phase_table import phase_table
from edgeroof.profiler.findings.words import NBSP
from edgeroof.profiler.roofline import classify
from edgeroof.profiler.timing import StepTiming

from ..kernel_tables import ROOF, table

UNKNOWN = {"flops": math.nan, "bytes_read": math.nan, "bytes_written": math.nan, "provenance": "unknown"}


def test_ledger_shares_add_up() -> None:
    kernels = table(
        {"dur_us": 60},
        {"dur_us": 20, "provenance": "inferred"},
        {"dur_us": 10, "op": "custom::op", **UNKNOWN},
        {"dur_us": 5, "op": "", "linked": False, **UNKNOWN},
        {"dur_us": 5, "op": "c10d::allreduce_", "phase": "communication", **UNKNOWN},
    )
    ledger = coverage_ledger(kernels)
    assert ledger["priced_share"] == {"exact": 0.6, "inferred": 0.2, "counter": 0.0, "estimated": 0.0, "unknown": 0.2}
    assert ledger["linked_share"] == 0.95
    assert ledger["unlinked_us"] == 5
    assert ledger["communication_share"] == 0.05
    assert [entry["op"] for entry in ledger["unknown_ops"]] == ["custom::op"]


def test_ledger_of_nothing() -> None:
    ledger = coverage_ledger(table())
    assert ledger["kernels"] == 0
    assert ledger["linked_share"] == 0.0


def test_headroom_ranks_groups_by_time_above_the_roof() -> None:
    kernels = classify(
        table(
            {"op": "aten::mul", "bytes_read": 9e6},  # 10 µs above its roof
            {"op": "aten::mm", "flops": 3e7, "phase": "backward"},  # 70
            {"op": "aten::mm", "flops": 3e7, "phase": "backward"},  # 70
            {"op": "aten::mm", "flops": 3e7, "phase": "forward"},  # 70
            {"op": "nccl", "phase": "communication", **UNKNOWN},
        ),
        ROOF,
    )
    ranked = rank_headroom(kernels)
    assert [(row["op"], row["phase"], row["rank"]) for row in ranked] == [
        ("aten::mm", "backward", 1),
        ("aten::mm", "forward", 2),
        ("aten::mul", "forward", 3),
    ]
    assert ranked[0]["headroom_us"] == pytest.approx(140)
    assert ranked[0]["kernels"] == 2
    assert all(row["advice"] for row in ranked)


def test_bound_shares_are_per_step_and_add_up() -> None:
    kernels = classify(table({"bytes_read": 9e6}, {"flops": 9e7, "step": 1}, {**UNKNOWN}), ROOF)
    shares = bound_shares(kernels, steps=2)
    assert sum(entry["share"] for entry in shares) == pytest.approx(1)
    assert sum(entry["dur_us"] for entry in shares) == pytest.approx(150)
    assert [entry["bound"] for entry in shares] == ["memory", "compute", "unknown"]


def test_optimizer_drill_down_counts_passes_and_bytes_per_parameter() -> None:
    kernels = classify(
        table(
            {"phase": "optimizer", "op": "aten::_foreach_mul_", "bytes_read": 4e6, "bytes_written": 4e6, "op_index": 0},
            {
                "phase": "optimizer",
                "op": "aten::_foreach_lerp_",
                "bytes_read": 8e6,
                "bytes_written": 4e6,
                "op_index": 1,
            },
            {"phase": "forward", "op": "aten::mm", "flops": 1e6, "op_index": 2},
        ),
        ROOF,
    )
    found = drill_down(kernels, ROOF.bandwidth, parameters=1_000_000, elements_of_op={0: 10**6, 1: 10**6, 2: 5})
    assert found["passes"] == 2
    twice = table(*[{"phase": "optimizer", "bytes_read": 4e6, "op_index": 0}] * 2)  # one op in two launches
    assert drill_down(classify(twice, ROOF), 1e9, parameters=10, elements_of_op={0: 10})["passes"] == 1
    assert found["bytes_per_parameter"] == 20
    assert found["floor_bytes_per_parameter"] == 28
    assert found["time_at_roof_us"] == pytest.approx(200)
    assert found["time_at_floor_us"] == pytest.approx(280)
    assert found["share"] == pytest.approx(2 / 3)
    assert {entry["op"]: entry["bytes_per_parameter"] for entry in found["ops"]} == {
        "aten::_foreach_mul_": 8,
        "aten::_foreach_lerp_": 12,
    }


def test_no_optimizer_is_said() -> None:
    assert drill_down(classify(table({}), ROOF), 1e9)["found"] is False


def test_answer_names_the_bound_and_the_biggest_headroom() -> None:
    kernels = classify(table({"bytes_read": 9e6}, {"op": "aten::mm", "flops": 4e7}, {"bytes_read": 8e6}), ROOF)
    said = answer(bound_shares(kernels), rank_headroom(kernels), phase_table(kernels, 1))
    assert said["headline"].startswith(
        f"67{NBSP}% of kernel time is held by memory bandwidth, 33{NBSP}% is held by arithmetic"
    )
    assert "aten::mm in forward" in said["details"][0]


def test_claims_are_parts_of_the_sentences_and_choose_their_kernels() -> None:
    kernels = classify(
        table(
            {"start_us": 0, "bytes_read": 9e6}, {"start_us": 900, "phase": "optimizer", "op": "aten::mm", "flops": 4e7}
        ),
        ROOF,
    )
    said = answer(bound_shares(kernels), rank_headroom(kernels), phase_table(kernels, 1))
    sentences = "\n".join([said["headline"], *said["details"]])
    assert len(said["claims"]) == 4
    for claim in said["claims"]:
        assert claim["text"] in sentences
        chosen = kernels
        for column, value in claim["kernels"].items():
            chosen = chosen[chosen[column].astype(str) == value]
        assert len(chosen) > 0


def test_gaps_are_mentioned_when_they_matter() -> None:
    kernels = classify(table({"start_us": 0}, {"start_us": 900, "phase": "optimizer"}), ROOF)
    said = answer(bound_shares(kernels), rank_headroom(kernels), phase_table(kernels, 1))
    assert f"80{NBSP}% of the step no kernel runs at all; the longest gaps are in optimizer." in said["details"]


@pytest.mark.parametrize(("optimizer_ms", "expected"), [(10.0, "artefact of the timer"), (95.0, "is real")])
def test_timing_verdict(optimizer_ms: float, expected: str) -> None:
    times = {"data": 0.0, "backward": 100 - optimizer_ms, "optimizer": optimizer_ms}
    timing = StepTiming(100, times, times, closure_ms=100)
    kernels = classify(table({"phase": "backward"}, {"phase": "optimizer"}), ROOF)
    verdict = timing_verdict(phase_table(kernels, 1, [timing]), on_gpu=True)["verdict"]
    assert f"truly takes {optimizer_ms:.0f}{NBSP}%" in verdict
    assert f"opt.step(closure) 100{NBSP}%" in verdict
    assert expected in verdict


@pytest.mark.parametrize(
    ("group", "words"),
    [
        (("aten::_foreach_mul_", "optimizer", "memory", 0.9), "adamw-fused"),
        (("aten::_fused_adamw_", "optimizer", "memory", 0.9), "8-bit"),
        (("edgeroof::fused_adamw_", "optimizer", "memory", 0.9), "8-bit"),
        (("edgeroof::fused_adafactor_", "optimizer", "memory", 0.4), "a kernel matter"),
        (("aten::mm", "forward", "compute", 0.8), "higher peak on this device"),
        (("aten::bmm", "backward", "inefficient", 0.1), "far below both roofs"),
        (("aten::_softmax", "forward", "memory", 0.5), "fused kernel"),
        (("aten::copy_", "forward", "memory", 0.5), "Copies do no arithmetic"),
        (("aten::add", "forward", "latency", 0.01), "CUDA graph"),
        (("aten::add", "forward", "memory", 0.6), "fusing the chain"),
    ],
)
def test_advice_fits_the_group(group: tuple, words: str) -> None:
    assert words in advise(*group)
