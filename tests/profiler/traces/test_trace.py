"""Reading traces: precision, layouts, and everything that can be wrong with a file."""

import gzip
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeroof.errors import TraceError
from edgeroof.profiler.traces import pieces
from edgeroof.profiler.traces.attribution import attribute
from edgeroof.profiler.traces.trace import LAUNCH, OP, read_trace

from .trace_builder import TraceBuilder, training_step

SMALL = TraceBuilder().op("aten::mm", 0, 9, ("float", [2, 3]), ("float", [3, 4])).launch(1, 2).kernel(1, "k", 20, 3)


def write(folder: Path, content: Any, name: str = "trace.json") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz"])
def test_reads_plain_and_packed(tmp_path: Path, name: str) -> None:
    trace = read_trace(SMALL.write(tmp_path, name))
    assert [trace.names[i] for i in trace.host.name] == ["aten::mm", "cudaLaunchKernel"]
    assert trace.host.kind.tolist() == [OP, LAUNCH]
    assert [trace.names[i] for i in trace.device.name] == ["k"]
    assert trace.device_properties == [{"id": 0, "name": "test"}]
    assert trace.has_shapes
    assert not trace.warnings


def test_the_content_decides_not_the_name(tmp_path: Path) -> None:
    packed = SMALL.write(tmp_path, "a.json.gz").rename(tmp_path / "packed.json")
    plain = SMALL.write(tmp_path, "b.json").rename(tmp_path / "plain.json.gz")
    assert len(read_trace(packed).host) == len(read_trace(plain).host) == 2


@pytest.mark.parametrize(
    ("start", "expected_ns"),
    [
        ("4458676522690.655", 655),  # since Kineto's base, as torch >= 2.2 writes
        ("1661203462598738.123", 123),  # since the epoch: float64 would be off by 123 ns
        ("1661203462598738", 0),
        ("0.001", 1),
    ],
)
def test_nanoseconds_survive(tmp_path: Path, start: str, expected_ns: int) -> None:
    whole = start.split(".")[0] + (".000" if "." in start else "")
    events = f"""[{{"ph":"X","cat":"cpu_op","name":"first","pid":1,"tid":1,"ts":{whole},"dur":0.001}},
      {{"ph":"X","cat":"cpu_op","name":"second","pid":1,"tid":1,"ts":{start},"dur":0.123}}]"""
    trace = read_trace(write(tmp_path, f'{{"traceEvents": {events}}}'.encode()))
    by_name = {trace.names[name]: row for row, name in enumerate(trace.host.name)}
    assert trace.host.start_ns[by_name["second"]] - trace.host.start_ns[by_name["first"]] == expected_ns
    assert trace.host.dur_ns[by_name["second"]] == 123


@pytest.mark.parametrize("layout", [None, 2, 0])
def test_every_layout_of_the_json_gives_the_same(tmp_path: Path, layout: int | None, monkeypatch: Any) -> None:
    monkeypatch.setattr(pieces, "_BLOCK", 512)  # so that the small trace has many blocks
    builder = training_step()
    path = write(tmp_path, json.dumps(builder.document(), indent=layout).encode())
    trace = read_trace(path)
    array = read_trace(write(tmp_path, builder.events, "array.json"))
    for column in ("start_ns", "dur_ns", "correlation", "sequence"):
        assert np.array_equal(getattr(trace.host, column), getattr(array.host, column)), column
    assert [trace.names[i] for i in trace.host.name] == [array.names[i] for i in array.host.name]
    assert [trace.signatures[i] != array.signatures[0] for i in trace.host.signature].count(True) == 10
    assert len(trace.device) == 6


def test_a_cut_inside_an_event_or_a_string_is_noticed(tmp_path: Path, monkeypatch: Any) -> None:
    builder = TraceBuilder()
    for i in range(50):
        builder.op('odd "}, {" name', 10 * i, 5)
        builder.events[-1]["args"]["nested"] = [{"a": 1}, {"b": [{}, {}]}] * 10
    expected = read_trace(builder.write(tmp_path))
    for block in (64, 100, 257, 1000):
        monkeypatch.setattr(pieces, "_BLOCK", block)
        trace = read_trace(builder.write(tmp_path))
        assert trace.host.start_ns.tolist() == expected.host.start_ns.tolist()
        assert len(trace.host) == 50


def test_python_frames_and_arrows_are_dropped(tmp_path: Path) -> None:
    builder = TraceBuilder().op("aten::mm", 0, 9)
    builder.add("python_function", "torch/nn/modules/module.py(1): forward", 0, 5)
    builder.add("python_function", "nn.Module: Linear_0", 0, 5)
    builder.add("ac2g", "ac2g", 0, 5)
    builder.launch(5, 3)  # nothing on the device has this correlation
    trace = read_trace(builder.write(tmp_path))
    assert {trace.names[i] for i in trace.host.name} == {"aten::mm", "nn.Module: Linear_0"}


def test_capitalised_categories_of_old_torch(tmp_path: Path) -> None:
    builder = TraceBuilder().op("aten::mm", 0, 9).launch(1, 2).kernel(1, "k", 20, 3)
    for event, category in zip(builder.events, ("Operator", "Runtime", "Kernel")):
        event["cat"] = category
    trace = read_trace(builder.write(tmp_path))
    assert len(trace.host) == 2
    assert len(trace.device) == 1


BAD_EVENTS: list[tuple[Any, str]] = [
    ({"dur": -1}, "negative duration"),
    ({"ts": None}, "no time"),
    ({"dur": None}, "no time"),
    ({"name": None}, "no name"),
    ({"ts": 1e300}, "out of range"),
    ({"ts": "soon"}, "wrong type"),
    ({"args": [1, 2]}, "wrong type"),
    ({"name": {"nested": []}}, "wrong type"),
    ({"args": {"correlation": "x"}}, "wrong type"),
]


@pytest.mark.parametrize(("change", "reason"), BAD_EVENTS)
def test_bad_events_are_left_out_and_counted(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    builder = TraceBuilder().op("aten::mm", 0, 9).op("aten::relu", 10, 5)
    builder.events[1] |= change
    trace = read_trace(builder.write(tmp_path))
    assert [trace.names[i] for i in trace.host.name] == ["aten::mm"]
    assert len(trace.warnings) == 1
    assert trace.warnings[0].startswith("1 event")
    assert reason in trace.warnings[0]


def test_entries_that_are_no_objects_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, {"traceEvents": [*SMALL.events, 3, "x", None, []]})
    trace = read_trace(path)
    assert len(trace.host) == 2
    assert "4 events" in trace.warnings[0]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "nan", "-nan", "inf"])
def test_numbers_that_json_forbids(tmp_path: Path, value: str) -> None:
    text = json.dumps(SMALL.document()).replace('"device": 0', f'"memory bandwidth (GB/s)": {value}, "device": 0')
    assert value in text
    assert len(read_trace(write(tmp_path, text.encode())).device) == 1


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    text = json.dumps(SMALL.document()).encode().replace(b'"k"', b'"k\xff\xfe"')
    assert len(read_trace(write(tmp_path, text)).device) == 1


def test_huge_strings(tmp_path: Path) -> None:
    builder = TraceBuilder().op("a" * 3_000_000, 0, 9).op("aten::mm", 10, 5)
    assert len(read_trace(builder.write(tmp_path)).host) == 2


GOOD = json.dumps(training_step().document(), indent=1).encode()

BROKEN_FILES: list[tuple[str, bytes, str]] = [
    ("empty.json", b"", "is empty"),
    ("empty.json.gz", gzip.compress(b""), "is empty"),
    ("blank.json", b"  \n ", "not JSON"),
    ("cut.json", GOOD[:700], "truncated"),
    ("text.json", b"hello", "not JSON"),
    ("notgzip.json.gz", b"hello", "neither gzip, as its name says, nor JSON"),
    ("half.json.gz", gzip.compress(GOOD)[:200], "truncated gzip"),
    ("damaged.json.gz", gzip.compress(GOOD)[:99] + b"\xff" * 99 + gzip.compress(GOOD)[198:], "damaged gzip"),
    ("object.json", b"{}", "no traceEvents"),
    ("schema.json", b'{"traceEvents": {"a": 1}}', "not a Kineto trace"),
    ("null.json", b'{"traceEvents": null}', "no traceEvents"),
    ("number.json", b"42", "not JSON"),
    ("none.json", b'{"traceEvents": []}', "no profile"),
    ("foreign.json", b'{"traceEvents": [{"ph": "X", "cat": "v8", "name": "x", "ts": 1, "dur": 2}]}', "no profile"),
    ("deep.json", b'{"traceEvents":' + b"[" * 100_000, "nested too deeply"),
    ("later.json", GOOD + b"}", "not valid JSON"),
]


@pytest.mark.parametrize(("name", "content", "message"), BROKEN_FILES, ids=[name for name, *_ in BROKEN_FILES])
def test_broken_files_say_what_is_wrong(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(TraceError) as caught:
        read_trace(write(tmp_path, content, name))
    text = str(caught.value)
    assert message in text
    assert name in text
    assert "\n" not in text


def test_a_directory_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="is a directory"):
        read_trace(tmp_path)
    with pytest.raises(TraceError, match="does not exist"):
        read_trace(tmp_path / "nothing.json")


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    path = write(tmp_path, gzip.compress(b'{"traceEvents": [' + b" " * 5_000_000), "bomb.json.gz")
    with pytest.raises(TraceError, match="EDGEROOF_MAX_TRACE_BYTES"):
        read_trace(path, max_bytes=1_000_000)
    monkeypatch.setenv("EDGEROOF_MAX_TRACE_BYTES", "1000000")
    with pytest.raises(TraceError, match="unpacks to more"):
        read_trace(path)
    monkeypatch.setenv("EDGEROOF_MAX_TRACE_BYTES", "lots")
    with pytest.raises(TraceError, match="not a number"):
        read_trace(path)


def attempt(path: Path) -> None:
    """Read and attribute; only a TraceError may come out."""
    try:
        trace = read_trace(path)
    except TraceError:
        return
    kernels = attribute(trace).kernels
    assert len(kernels) == len(trace.device) or not len(trace.device)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner)
)
wild_events = st.fixed_dictionaries(
    {},
    optional={
        "ph": st.sampled_from(["X", "M", "s"]) | anything,
        "cat": st.sampled_from(["cpu_op", "kernel", "gpu_memcpy", "cuda_runtime", "user_annotation"]) | anything,
        "name": st.sampled_from(["aten::mm", "aten::add_", "aten::cat", "nccl:x", "ProfilerStep#1"]) | anything,
        "ts": st.integers(-10, 1000) | st.floats(0, 1e16) | anything,
        "dur": st.integers(-3, 100) | st.floats(0, 100) | anything,
        "pid": st.integers(0, 2) | anything,
        "tid": st.integers(0, 2) | anything,
        "args": st.fixed_dictionaries(
            {},
            optional={
                "correlation": st.integers(-1, 5) | anything,
                "External id": anything,
                "Input Dims": st.lists(st.lists(st.integers(-2, 9), max_size=4), max_size=4) | anything,
                "Input type": st.lists(st.sampled_from(["float", "TensorList", "Scalar", ""]), max_size=4) | anything,
                "Input Strides": st.lists(st.lists(st.integers(-2, 9), max_size=4), max_size=4) | anything,
                "Concrete Inputs": st.lists(st.sampled_from(["", "[0]", "True", "1.5"]), max_size=4) | anything,
                "Sequence number": st.integers() | anything,
                "Fwd thread id": st.integers() | anything,
                "stream": st.integers() | anything,
                "device": st.integers() | anything,
                "bytes": st.integers() | anything,
            },
        )
        | anything,
    },
)


@settings(max_examples=150)
@given(events=st.lists(wild_events, max_size=12))
def test_random_events_give_a_trace_or_a_trace_error(
    events: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    attempt(write(tmp_path_factory.getbasetemp(), {"traceEvents": events}, "random.json"))


@settings(max_examples=150)
@given(seed=st.integers(0, 10**9), edits=st.integers(1, 6))
def test_mutated_traces_give_a_trace_or_a_trace_error(
    seed: int, edits: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    source, text = random.Random(seed), bytearray(GOOD)
    for _ in range(edits):
        if not text:
            break
        at = source.randrange(len(text))
        action = source.randrange(4)
        if action == 0:
            del text[at : at + source.randrange(1, 40)]
        elif action == 1:
            text[at : at + 1] = source.choice([b"}", b"{", b'"', b"]", b"-", b"9", b"NaN", b"\x00", b"\xff", b","])
        elif action == 2:
            other = source.randrange(len(text))
            text[at:at] = text[other : other + source.randrange(60)]
        else:
            text = text[: max(at, 1)]
    attempt(write(tmp_path_factory.getbasetemp(), bytes(text), "mutated.json"))


@given(content=st.binary(max_size=200))
def test_random_bytes_give_a_trace_error(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name, data in (("bytes.json", content), ("bytes.json.gz", b"\x1f\x8b" + content)):
        with pytest.raises(TraceError):
            read_trace(write(tmp_path_factory.getbasetemp(), data, name))


@pytest.mark.parametrize("name", [rb"\ud800gemm", rb"gemm\udfff", rb"\udc00\ud800", rb"\ud83d\ude00gemm"])
def test_lone_surrogates_do_not_cost_the_trace(tmp_path: Path, name: bytes) -> None:
    text = (
        b'{"traceEvents": [{"ph": "X", "cat": "cpu_op", "name": "%s", "ts": 1, "dur": 2, "pid": 1, "tid": 1}]}' % name
    )
    (tmp_path / "trace.json").write_bytes(text)
    (read,) = read_trace(tmp_path / "trace.json").names
    read.encode()
    assert ("gemm" in read) or name == rb"\udc00\ud800"


def test_byte_order_marks(tmp_path: Path) -> None:
    text = '{"traceEvents": [{"ph": "X", "cat": "cpu_op", "name": "aten::mm", "ts": 1, "dur": 2, "pid": 1, "tid": 1}]}'
    (tmp_path / "trace.json").write_text(text, encoding="utf-8-sig")
    assert list(read_trace(tmp_path / "trace.json").names) == ["aten::mm"]
    (tmp_path / "trace.json").write_text(text, encoding="utf-16")
    with pytest.raises(TraceError, match="UTF-16"):
        read_trace(tmp_path / "trace.json")


def test_endless_names_are_cut(tmp_path: Path) -> None:
    event = {"ph": "X", "cat": "cpu_op", "name": "x" * 1_000_000, "ts": 1, "dur": 2, "pid": 1, "tid": 1}
    (tmp_path / "trace.json").write_text(json.dumps({"traceEvents": [event]}))
    (name,) = read_trace(tmp_path / "trace.json").names
    assert len(name) == 10_000
