"""Who called what: the call tree of the host threads, and the launch that started each device activity.

Events of one thread nest, so their intervals give the tree. A device activity belongs to the launch with the same
correlation id; the op that launched it is the launch's place in the tree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .trace import LAUNCH, DeviceEvents, HostEvents, Trace

#: Launches of a whole graph: all its kernels carry the launch's correlation, so none has an op of its own.
_GRAPH_LAUNCH = "GraphLaunch"


@dataclass(frozen=True, slots=True)
class CallTree:
    """Parents of the host events of a trace; the arrays are indexed like ``trace.host``."""

    parent: np.ndarray  # int64, -1 for events at the top of their thread

    def nearest(self, mask: np.ndarray) -> np.ndarray:
        """For each event, the innermost of itself and its ancestors where ``mask`` is true; -1 where there is none."""
        found = np.where(mask, np.arange(len(mask)), self.parent)
        return _follow(found, mask)

    def outermost(self, mask: np.ndarray) -> np.ndarray:
        """For each event, the outermost of itself and its ancestors where ``mask`` is true; -1 where there is none."""
        nearest = self.nearest(mask)
        enclosing = _at(nearest, self.parent)
        top = mask & (enclosing < 0)
        return _at(_follow(np.where(top, np.arange(len(mask)), enclosing), top), nearest)

    def outermost_from(self, rows: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """:meth:`outermost` of a few events only, walking up from each."""
        found = np.full(len(rows), -1)
        walking, at = np.arange(len(rows)), rows
        while len(at):
            hit = mask[at]
            found[walking[hit]] = at[hit]
            at = self.parent[at]
            walking, at = walking[at >= 0], at[at >= 0]
        return found


def _follow(step: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Follow ``step`` from every event until it reaches ``stop`` or -1, doubling the stride each round."""
    while True:
        onward = (step >= 0) & ~_at(stop, step, missing=True)
        if not onward.any():
            return step
        step = np.where(onward, _at(step, step), step)


def _at(values: np.ndarray, index: np.ndarray, missing: int | bool = -1) -> np.ndarray:
    """``values[index]``, with ``missing`` where the index is -1."""
    if not len(values):
        return np.full(len(index), missing)
    return np.where(index >= 0, values[index], missing)


def call_tree(trace: Trace) -> CallTree:
    """Nest the host events of each thread by their intervals.

    An event that starts inside another but ends after it is not its child: the other is taken to have ended. Launches
    only need to start inside: their clock may differ a little. A profiler that wrote whole microseconds cut up to one
    off each end, which is allowed for.
    """
    host = trace.host
    slack = trace.resolution_ns if trace.resolution_ns > 1 else 0
    start = host.start_ns
    needed = np.where(host.kind == LAUNCH, start, start + host.dur_ns - slack)
    needed = np.maximum(needed, start + 1)  # what ended when this began does not enclose it
    columns = (host.thread, needed, start + host.dur_ns + slack)
    parents: list[int] = []
    open_rows, open_ends = [-1], [np.iinfo(np.int64).max]
    current = -1
    for row, (thread, needed_end, end) in enumerate(zip(*(column.tolist() for column in columns))):
        if thread != current:
            current = thread
            del open_rows[1:], open_ends[1:]
        while open_ends[-1] < needed_end:
            open_rows.pop()
            open_ends.pop()
        parents.append(open_rows[-1])
        open_rows.append(row)
        open_ends.append(end)
    return CallTree(np.array(parents, np.int64))


@dataclass(frozen=True, slots=True)
class Links:
    """The launch of each device activity; the arrays are indexed like ``trace.device``."""

    launch: np.ndarray  # int64, index into trace.host; -1 without a launch event
    in_graph: np.ndarray  # bool, replayed by a graph launch
    warnings: tuple[str, ...]


def link(trace: Trace) -> Links:
    """Find the launch of every device activity by correlation id, and by nothing else.

    Where several launches share an id, as after merging the traces of several processes, the last one before the
    activity is taken.
    """
    host, device = trace.host, trace.device
    launches = np.flatnonzero(host.kind == LAUNCH)
    order = launches[np.lexsort((host.start_ns[launches], host.correlation[launches]))]
    launch = _match(host, order, device)
    graph_names = np.array([_GRAPH_LAUNCH in name for name in trace.names], bool)
    in_graph = _at(graph_names[host.name] if len(host) else graph_names, launch, missing=False)
    return Links(launch, in_graph, tuple(_warnings(host.correlation[order], launch, in_graph)))


def _match(host: HostEvents, order: np.ndarray, device: DeviceEvents) -> np.ndarray:
    """``order`` lists the launches by correlation, then start."""
    if not len(order):
        return np.full(len(device), -1)
    correlation = host.correlation[order]
    first = np.searchsorted(correlation, device.correlation, side="left")
    last = np.searchsorted(correlation, device.correlation, side="right") - 1
    found = (last >= first) & (device.correlation > 0)
    chosen = np.minimum(last, len(order) - 1)
    for row in np.flatnonzero(last > first):
        candidates = host.start_ns[order[first[row] : last[row] + 1]]
        before = int(np.searchsorted(candidates, device.start_ns[row], side="right")) - 1
        chosen[row] = first[row] + max(before, 0)
    return np.where(found, order[chosen], -1)


def _warnings(correlation: np.ndarray, launch: np.ndarray, in_graph: np.ndarray) -> list[str]:
    warnings = []
    repeated = len(correlation) - len(np.unique(correlation))
    if repeated:
        warnings.append(f"{repeated} launches repeat a correlation id; the last one before a kernel was taken")
    if in_graph.any():
        warnings.append(
            f"{int(in_graph.sum())} device activities were replayed from CUDA graphs and share their graph's launch: "
            "the ops behind them are unattributable; profile without graphs to see them"
        )
    missing = int((launch < 0).sum())
    if missing:
        warnings.append(
            f"device activities without a launch event: {missing}, because the profile began after they were launched; "
            "synchronise the device before profiling starts"
        )
    return warnings
