"""Call trees and launches, on hand-built traces."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeroof.profiler.traces.linking import CallTree, call_tree, link
from edgeroof.profiler.traces.trace import OP, Trace, read_trace

from .trace_builder import TraceBuilder


def parents(trace: Trace) -> dict[str, str | None]:
    tree = call_tree(trace)
    names = [trace.names[i] for i in trace.host.name]
    return {name: names[p] if p >= 0 else None for name, p in zip(names, tree.parent.tolist())}


def test_events_nest_by_time_within_their_thread(tmp_path: Path) -> None:
    builder = TraceBuilder().op("b", 10, 20).op("a", 0, 100).op("c", 15, 5).op("d", 40, 5).op("other", 12, 3, tid=2)
    assert parents(read_trace(builder.write(tmp_path))) == {"a": None, "b": "a", "c": "b", "d": "a", "other": None}


def test_neighbours_that_touch_are_not_nested(tmp_path: Path) -> None:
    builder = TraceBuilder().op("a", 0, 10).op("b", 10, 10)
    assert parents(read_trace(builder.write(tmp_path))) == {"a": None, "b": None}


def test_an_event_that_outlives_another_is_not_its_child(tmp_path: Path) -> None:
    builder = TraceBuilder().annotation("async", 0, 10).op("a", 5, 20).op("b", 12, 3)
    assert parents(read_trace(builder.write(tmp_path))) == {"async": None, "a": None, "b": "a"}


def test_a_launch_may_end_after_its_op(tmp_path: Path) -> None:
    builder = TraceBuilder().op("a", 0, 10).launch(1, 8, 5).kernel(1, "k", 20, 1)
    assert parents(read_trace(builder.write(tmp_path)))["cudaLaunchKernel"] == "a"


def test_equal_intervals_nest_annotation_then_op(tmp_path: Path) -> None:
    builder = TraceBuilder().op("a", 0, 10).annotation("range", 0, 10)
    assert parents(read_trace(builder.write(tmp_path))) == {"range": None, "a": "range"}


def test_whole_microseconds_cut_ends_short(tmp_path: Path) -> None:
    builder = TraceBuilder(base_us=1661203462598738)
    builder.op("outer", 10, 4).op("inner", 14, 1)  # truly 10.9 to 15.2 around 14.5 to 15.1
    builder.op("next", 14, 50)  # truly from 14.9, and long: cannot be inside
    for event in builder.events:
        event["ts"] = int(event["ts"])
    found = parents(read_trace(builder.write(tmp_path)))
    assert found == {"outer": None, "inner": "next", "next": None} or found["inner"] == "outer"
    assert found["next"] is None


@given(st.lists(st.integers(-1, 30), min_size=1, max_size=30), st.data())
def test_nearest_and_outermost_agree_with_walking_up(choices: list[int], data: st.DataObject) -> None:
    parent = np.array([min(choice, row - 1) for row, choice in enumerate(choices)])
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(parent), max_size=len(parent))))
    tree = CallTree(parent)
    marked = []
    for row in range(len(parent)):
        chain = []
        while row >= 0:
            chain.append(row)
            row = int(parent[row])
        marked.append([row for row in chain if mask[row]])
    assert tree.nearest(mask).tolist() == [rows[0] if rows else -1 for rows in marked]
    outermost = [rows[-1] if rows else -1 for rows in marked]
    assert tree.outermost(mask).tolist() == outermost
    assert tree.outermost_from(np.arange(len(parent)), mask).tolist() == outermost


def launches(trace: Trace) -> list[str | None]:
    """Op or launch around the launch of each device activity."""
    tree, links = call_tree(trace), link(trace)
    around = tree.nearest(trace.host.kind == OP)
    return [trace.names[trace.host.name[around[row]]] if row >= 0 else None for row in links.launch.tolist()]


def test_kernels_find_their_launch_by_correlation_only(tmp_path: Path) -> None:
    builder = TraceBuilder().op("a", 0, 10).op("b", 20, 10)
    builder.launch(5, 2).launch(6, 22, name="cuLaunchKernelEx")
    builder.kernel(6, "second", 30, 1).kernel(5, "first", 40, 1).kernel(77, "stray", 50, 1)
    builder.events[-3]["args"]["External id"] = 5  # as in old traces, where it means nothing
    trace = read_trace(builder.write(tmp_path))
    assert launches(trace) == ["b", "a", None]
    assert any("without a launch event: 1," in warning for warning in link(trace).warnings)


def test_a_repeated_correlation_takes_the_last_launch_before_the_kernel(tmp_path: Path) -> None:
    builder = TraceBuilder().op("a", 0, 10).op("b", 20, 10).op("c", 100, 10)
    builder.launch(5, 2).launch(5, 22).launch(5, 102).kernel(5, "k", 50, 1)
    trace = read_trace(builder.write(tmp_path))
    assert launches(trace) == ["b"]
    assert any("repeat a correlation id" in warning for warning in link(trace).warnings)


def test_graph_replays_are_said_to_be_unattributable(tmp_path: Path) -> None:
    builder = TraceBuilder().launch(5, 2, name="cudaGraphLaunch").kernel(5, "k1", 30, 1).kernel(5, "k2", 40, 1)
    links = link(read_trace(builder.write(tmp_path)))
    assert links.in_graph.tolist() == [True, True]
    assert any("unattributable" in warning for warning in links.warnings)


def test_a_trace_of_device_activities_only(tmp_path: Path) -> None:
    links = link(read_trace(TraceBuilder().kernel(5, "k", 30, 1).write(tmp_path)))
    assert links.launch.tolist() == [-1]
