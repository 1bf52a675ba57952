"""Our annotated traces against the importer's rules, and the rules against traces that break them."""

from pathlib import Path
from typing import Any

import pytest

from .test_annotate import annotate, cpu_step, ours
from .trace_builder import TraceBuilder, training_step
from .trace_format import check_trace_events, strict_json
from .trace_importer import dropped


def with_everything(builder: TraceBuilder) -> TraceBuilder:
    """What torch writes besides slices: names of processes and threads, arrows, and counters of its own."""
    at = builder.base_us
    arrow = {"cat": "ac2g", "name": "ac2g", "id": 1}
    builder.events += [
        {"ph": "M", "name": "process_name", "pid": 7, "tid": 0, "ts": at, "args": {"name": "python"}},
        {"ph": "M", "name": "process_labels", "pid": 7, "tid": 0, "ts": at, "args": {"labels": "CPU"}},
        {"ph": "M", "name": "thread_sort_index", "pid": 7, "tid": 1, "ts": at, "args": {"sort_index": 3}},
        {"ph": "s", **arrow, "pid": 7, "tid": 1, "ts": at + 25},
        {"ph": "f", **arrow, "pid": 7, "tid": 7, "ts": at + 40, "bp": "e"},
        {"ph": "C", "cat": "memory", "name": "allocated", "pid": 7, "ts": at + 3, "args": {"MB": 1}},
    ]
    return builder


@pytest.mark.parametrize("build", [training_step, cpu_step])
def test_nothing_of_an_annotated_trace_is_dropped(build: Any, tmp_path: Path) -> None:
    annotate(with_everything(build()).write(tmp_path), tmp_path / "out.json.gz")
    events = check_trace_events(strict_json(tmp_path / "out.json.gz"))
    assert {event["ph"] for event in events} == set("XMsfC")
    assert ours(events)
    assert dropped(events) == []


@pytest.mark.parametrize("name", ["a100_triton_kernel", "h100_bert_small_inference"])
def test_annotating_a_real_trace_loses_nothing_more(shared_traces: Path, name: str, tmp_path: Path) -> None:
    annotate(shared_traces / f"{name}.json.gz", tmp_path / "out.json.gz")
    before = strict_json(shared_traces / f"{name}.json.gz")["traceEvents"]
    assert dropped(strict_json(tmp_path / "out.json.gz")["traceEvents"]) == dropped(before)


def test_counters_lie_within_the_time_of_the_kernels(tmp_path: Path) -> None:
    """A level before the first kernel, or one that never ends, would stretch the view and show rates of nothing."""
    annotate(training_step().write(tmp_path), tmp_path / "out.json.gz")
    events = strict_json(tmp_path / "out.json.gz")["traceEvents"]
    kernels = [event for event in events if "edgeroof" in event.get("args", {})]
    counters = ours(events)
    assert min(event["ts"] for event in counters) >= min(event["ts"] for event in kernels) - 1e-3
    assert max(event["ts"] for event in counters) <= max(event["ts"] + event["dur"] for event in kernels) + 1e-3
    last = {(event["pid"], event["name"]): event["args"] for event in sorted(counters, key=lambda event: event["ts"])}
    assert all(value == 0 for args in last.values() for value in args.values())


def slice_of(ts: float, dur: float, **changes: Any) -> dict[str, Any]:
    return {"ph": "X", "name": "op", "pid": 1, "tid": 1, "ts": ts, "dur": dur, "args": {}} | changes


ARROW = {"cat": "ac2g", "name": "ac2g", "pid": 1, "tid": 1}
COUNTER = {"ph": "C", "name": "rate", "pid": 1, "ts": 1, "args": {"GB/s": 1.0}}


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ([slice_of(0, 10), slice_of(2, 3), slice_of(5, 5), slice_of(10, 4)], ""),
        ([slice_of(0, 10), slice_of(5, 10)], "crosses"),
        ([slice_of(0, 10), slice_of(5, 10, tid=2)], ""),
        ([slice_of(0, 1, tid=None)], "no thread"),
        ([slice_of(0, 1, pid=None)], "no process"),
        ([slice_of(1e16, 1)], "no time"),
        ([slice_of(0, 1, args={"edgeroof": {"roof.fraction": 1}})], "taken for a path"),
        ([{**ARROW, "ph": "s", "id": 1, "ts": 1}, {**ARROW, "ph": "f", "id": 1, "ts": 2}], ""),
        ([{**ARROW, "ph": "s", "id": 1, "ts": 2}, {**ARROW, "ph": "f", "id": 1, "ts": 1}], "without a beginning"),
        ([{**ARROW, "ph": "s", "id": 1, "ts": 1}, {**ARROW, "ph": "f", "id": 2, "ts": 2}], "without a beginning"),
        ([{**ARROW, "ph": "s", "ts": 1}], "without an id"),
        ([{"ph": "M", "name": "thread_name", "pid": 1, "args": {"text": "main"}}], "without name"),
        ([COUNTER, {**COUNTER, "ts": 2}], ""),
        ([COUNTER, {**COUNTER, "cat": "other", "ts": 2}], "two sources"),
        ([{**COUNTER, "args": {"GB/s": "much"}}], "no number"),
    ],
)
def test_the_rules_find_what_would_be_lost(events: list[dict[str, Any]], told: str) -> None:
    found = dropped(events)
    assert (told in found[0]) if told else not found
