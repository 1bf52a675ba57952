import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from edgeroof.errors import TraceError
from edgeroof.profiler.device import load_device
from edgeroof.profiler.roofline import classify
from edgeroof.profiler.traces import pieces
from edgeroof.profiler.traces.annotate import annotate_trace
from edgeroof.profiler.traces.attribution import Attribution, attribute
from edgeroof.profiler.traces.trace import read_trace

from .trace_builder import FLOAT, TraceBuilder, training_step
from .trace_format import check_trace_events, strict_json

ROOF = load_device("a100").roof


def analyze(path: Path) -> tuple[pd.DataFrame, Attribution]:
    found = attribute(read_trace(path))
    return classify(found.kernels, ROOF), found


def annotate(source: Path, target: Path) -> tuple[pd.DataFrame, int]:
    kernels, found = analyze(source)
    return kernels, annotate_trace(source, target, kernels, start_ns=found.start_ns, about={"title": "A100"})


def cpu_step() -> TraceBuilder:
    """Ops without any device activity: they are the kernels themselves, on two threads."""
    builder = TraceBuilder()
    builder.annotation("ProfilerStep#1", 0, 500)
    builder.op("aten::linear", 10, 60, (FLOAT, [8, 4]), (FLOAT, [16, 4]))
    builder.op("aten::mm", 20, 30, (FLOAT, [8, 4]), (FLOAT, [4, 16]))
    builder.op("aten::mm", 30, 30, (FLOAT, [4, 8]), (FLOAT, [8, 16]), tid=2)
    builder.op("custom::thing", 100, 20, (FLOAT, [8]))
    return builder


def same_tables(first: tuple[pd.DataFrame, Attribution], second: tuple[pd.DataFrame, Attribution]) -> None:
    """Equal but for the order in which names were met."""
    for a, b in ((first[0], second[0]), (first[1].ops, second[1].ops)):
        pd.testing.assert_frame_equal(a, b, check_categorical=False)
    assert first[1].steps == second[1].steps
    assert first[1].warnings == second[1].warnings


def ours(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["ph"] == "C" and event.get("cat") == "edgeroof"]


def findings(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if "edgeroof" in event.get("args", {})]


def without_ours(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kept = [event for event in events if event["ph"] != "C" or event.get("cat") != "edgeroof"]
    return [
        event | {"args": {name: value for name, value in event["args"].items() if name != "edgeroof"}}
        if "args" in event
        else event
        for event in kept
    ]


@pytest.mark.parametrize("build", [training_step, cpu_step])
def test_every_kernel_carries_what_was_found(build: Callable[[], TraceBuilder], tmp_path: Path) -> None:
    source = build().write(tmp_path)
    kernels, count = annotate(source, tmp_path / "out.json.gz")
    events = check_trace_events(strict_json(tmp_path / "out.json.gz"))
    annotated = findings(events)
    assert count == len(annotated) == len(kernels)
    by_start = kernels.sort_values("start_us", kind="stable").reset_index(drop=True)
    for event, (_, row) in zip(sorted(annotated, key=lambda event: event["ts"]), by_start.iterrows()):
        found = event["args"]["edgeroof"]
        assert event["name"] == row["name"]
        assert {name: found.get(name, "") for name in ("bound", "phase", "module", "op")} == {
            name: row[name] for name in ("bound", "phase", "module", "op")
        }
        for name in ("flops", "roof_fraction", "bandwidth_gbs"):
            assert (name in found) == math.isfinite(row[name])
            assert found.get(name, row[name]) == pytest.approx(row[name], rel=1e-5, nan_ok=True)
        if "bytes" in found:
            assert found["bytes"] == row["bytes_read"] + row["bytes_written"]


@pytest.mark.parametrize("build", [training_step, cpu_step])
@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz"])
def test_nothing_of_the_original_changes(build: Callable[[], TraceBuilder], name: str, tmp_path: Path) -> None:
    builder = build()
    builder.events.append({"ph": "M", "name": "process_name", "pid": 7, "args": {"name": "python"}})
    builder.events.append({"ph": "C", "cat": "memory", "name": "others' counter", "pid": 7, "ts": 3, "args": {"MB": 1}})
    source = builder.write(tmp_path, name)
    annotate(source, tmp_path / "out.json.gz")
    document = strict_json(tmp_path / "out.json.gz")
    assert without_ours(document["traceEvents"]) == builder.events
    assert {key: value for key, value in document.items() if key not in ("edgeroof", "traceEvents")} == {
        key: value for key, value in builder.document().items() if key != "traceEvents"
    }
    assert document["edgeroof"] == {"title": "A100"}


def test_numbers_keep_their_digits(tmp_path: Path) -> None:
    text = """{"traceEvents": [
      {"ph": "X", "cat": "kernel", "name": "k\\u00e4rn", "pid": 0, "tid": 7, "ts": 1661203463029.5660, "dur": 7.00,
       "args": {"stream": 7, "device": 0, "correlation": 1, "odd": 1.50e+01, "big": 123456789012345678901}}]}"""
    source = tmp_path / "trace.json"
    source.write_text(text)
    annotate(source, tmp_path / "out.json.gz")
    written = gzip.decompress((tmp_path / "out.json.gz").read_bytes()).decode()
    for digits in ("1661203463029.5660", "7.00", "1.50e+01", "123456789012345678901", r"k\u00e4rn"):
        assert digits in written


@pytest.mark.parametrize("build", [training_step, cpu_step])
def test_reading_the_annotated_trace_gives_the_same_tables(build: Callable[[], TraceBuilder], tmp_path: Path) -> None:
    source = build().write(tmp_path)
    annotate(source, tmp_path / "out.json.gz")
    same_tables(analyze(source), analyze(tmp_path / "out.json.gz"))


@pytest.mark.parametrize("base_us", [0.0, 4458676522690.125, 1661203463029566])
def test_annotating_again_replaces(base_us: float, tmp_path: Path) -> None:
    source = training_step(builder=TraceBuilder(base_us)).write(tmp_path)
    annotate(source, tmp_path / "once.json.gz")
    annotate(tmp_path / "once.json.gz", tmp_path / "twice.json.gz")
    once, twice = (strict_json(tmp_path / f"{name}.json.gz") for name in ("once", "twice"))
    assert once == twice
    same_tables(analyze(source), analyze(tmp_path / "twice.json.gz"))


def test_findings_that_no_longer_hold_are_removed(tmp_path: Path) -> None:
    source = training_step().write(tmp_path)
    kernels, _ = annotate(source, tmp_path / "once.json.gz")
    start_ns = read_trace(source).start_ns
    annotate_trace(tmp_path / "once.json.gz", tmp_path / "twice.json.gz", kernels.iloc[:1], start_ns=start_ns)
    assert len(findings(strict_json(tmp_path / "twice.json.gz")["traceEvents"])) == 1


@pytest.mark.parametrize("layout", ["indented", "one line", "sorted", "array"])
def test_every_layout(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "_BLOCK", 512)  # so that the small trace has many blocks
    builder = training_step()
    annotate(builder.write(tmp_path), tmp_path / "expected.json.gz")
    document = strict_json(tmp_path / "expected.json.gz")
    text = {
        "indented": json.dumps(document, indent=1),
        "one line": json.dumps(document),
        "sorted": json.dumps(dict(sorted(document.items()))),  # ours then stands before the events
        "array": json.dumps(document["traceEvents"]),
    }[layout]
    (tmp_path / "other.json").write_text(text)
    annotate(tmp_path / "other.json", tmp_path / "out.json.gz")
    found = strict_json(tmp_path / "out.json.gz")
    assert found == (document["traceEvents"] if layout == "array" else document)
    assert isinstance(found, list) or list(found).count("edgeroof") == 1


def test_what_json_forbids_is_cleaned_up(tmp_path: Path) -> None:
    builder = training_step()
    text = json.dumps(builder.document()).replace('"stream": 7}', '"stream": 7, "occupancy": NaN, "x": [-Infinity]}')
    (tmp_path / "trace.json").write_text(text)
    annotate(tmp_path / "trace.json", tmp_path / "out.json.gz")
    kernels = [event for event in strict_json(tmp_path / "out.json.gz")["traceEvents"] if event.get("cat") == "kernel"]
    assert all(event["args"]["occupancy"] is None and event["args"]["x"] == [None] for event in kernels)
    assert all("edgeroof" in event["args"] for event in kernels)


@pytest.mark.parametrize(
    "flaw", ['"ts": 1e300', '"ts": 12345678901234567890123.5', '"dur": -1', '"dur": null', '"ts": "x"']
)
def test_events_that_make_no_sense_stay_as_they_are(flaw: str, tmp_path: Path) -> None:
    builder = training_step()
    odd = (
        '{"ph": "X", "cat": "kernel", "name": "odd", "pid": 7, "ts": 5, "dur": 5, "args": {"stream": 7}, ' + flaw + "}"
    )
    text = json.dumps(builder.document())
    (tmp_path / "trace.json").write_text(text.replace('"traceEvents": [', f'"traceEvents": [{odd}, '))
    kernels, count = annotate(tmp_path / "trace.json", tmp_path / "out.json.gz")
    assert count == len(kernels)
    assert "odd" not in set(kernels["name"])
    assert strict_json(tmp_path / "out.json.gz")["traceEvents"][0] == json.loads(odd)


def test_counters_are_rates_summed_over_streams_and_zero_in_gaps(tmp_path: Path) -> None:
    builder = TraceBuilder(base_us=0)
    for correlation, (start, dur, stream) in enumerate([(100, 40, 7), (120, 40, 13), (200, 10, 7)], start=1):
        shapes = (FLOAT, [1000, 500]), (FLOAT, [1000, 500])
        builder.op("aten::mul", start - 50, 10, *shapes).launch(correlation, start - 45)
        builder.kernel(correlation, "mul", start, dur, stream=stream)
    annotate(builder.write(tmp_path), tmp_path / "out.json.gz")
    events = ours(check_trace_events(strict_json(tmp_path / "out.json.gz")))
    moved, arithmetic = 3 * 4 * 500_000, 500_000
    for name, unit, amount in (("achieved bandwidth", "GB/s", moved), ("achieved compute", "GFLOP/s", arithmetic)):
        track = {event["ts"]: event["args"][unit] for event in events if event["name"] == name}
        rate = amount / 40 / 1e3
        expected = {100: rate, 120: 2 * rate, 140: rate, 160: 0, 200: 4 * rate, 210: 0}
        assert track == pytest.approx(expected, rel=1e-5)
    assert {event["pid"] for event in events} == {7}
    assert {event["name"] for event in events} == {"achieved bandwidth", "achieved compute", "share of the roof"}


def test_devices_have_tracks_of_their_own(tmp_path: Path) -> None:
    builder = TraceBuilder()
    for device in (0, 1):
        builder.copy(device + 1, "Memcpy DtoD (Device -> Device)", 10, 5, 1000 * (device + 1))
        builder.events[-1]["pid"] = builder.events[-1]["args"]["device"] = device
    annotate(builder.write(tmp_path), tmp_path / "out.json.gz")
    tracks = [event for event in ours(strict_json(tmp_path / "out.json.gz")["traceEvents"]) if "GB/s" in event["args"]]
    peaks = {pid: max(event["args"]["GB/s"] for event in tracks if event["pid"] == pid) for pid in (0, 1)}
    assert peaks[1] == pytest.approx(2 * peaks[0], rel=1e-5)


def test_a_file_that_is_no_trace_says_so(tmp_path: Path) -> None:
    kernels, _ = analyze(training_step().write(tmp_path))
    for text, message in (("{}", "traceEvents"), ("nothing", "not JSON"), ('{"traceEvents": [', "not a Kineto trace")):
        (tmp_path / "other.json").write_text(text)
        with pytest.raises(TraceError, match=message):
            annotate_trace(tmp_path / "other.json", tmp_path / "out.json.gz", kernels, start_ns=0)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("a100_training_fusedadam", marks=pytest.mark.slow), "a100_training_sgd_noshapes",
        "a100_triton_kernel", "h100_bert_small_inference", "h100_qwen1.5_0.5b_inference",
    ],
)  # fmt: skip
def test_real_traces(shared_traces: Path, name: str, tmp_path: Path) -> None:
    source = shared_traces / f"{name}.json.gz"
    kernels, count = annotate(source, tmp_path / "out.json.gz")
    assert count == len(kernels)
    events = check_trace_events(strict_json(tmp_path / "out.json.gz"))
    original = json.loads(gzip.decompress(source.read_bytes()))["traceEvents"]
    assert without_ours(events) == original
    same_tables(analyze(source), analyze(tmp_path / "out.json.gz"))
