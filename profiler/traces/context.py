"""Where each host event stands in a training step: which step, phase, side of autograd and module.

Our own captures mark phases and steps with ranges of known names. Other traces are read by what torch itself leaves in
them: ``Optimizer.step#``, ``autograd::engine::evaluate_function``, ``ProfilerStep#``. Every label is found the same
way: some events carry a mark, and what happens inside them inherits it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from ..phases import PHASE_PREFIX, STEP_RANGE
from ..schema import PHASES
from .linking import CallTree
from .trace import ANNOTATION, LAUNCH, MODULE, MODULE_PREFIX, OP, Trace

PHASE_NAMES = ("", *PHASES)
AUTOGRAD_NAMES = ("none", "forward", "backward", "accumulate", "recompute")
_NONE, _FORWARD, _BACKWARD, _ACCUMULATE, _RECOMPUTE = range(5)

_EVALUATE = "autograd::engine::evaluate_function"
_STEP = re.compile(r"ProfilerStep#?\d+")
_LOSS = re.compile(r"aten::(cross_entropy_loss|nll_loss\w*|\w*_loss|binary_cross_entropy(_with_logits)?)")
#: Names that say in which phase everything inside runs, by the kind of event; the first that matches counts.
_MARKS = (
    (ANNOTATION, re.compile(r"Optimizer\.step#"), "optimizer"),
    (ANNOTATION, re.compile(r"Optimizer\.zero_grad#"), "zero_grad"),
    (ANNOTATION, re.compile(r"enumerate\(DataLoader\)#"), "data"),
    (ANNOTATION, re.compile(r"(nccl|gloo|ucc|mpi):"), "communication"),
    (ANNOTATION, re.compile(r"\W*(forward|backward|loss|optimizer|zero_grad)\W*\Z", re.IGNORECASE), None),
    (OP, re.compile(_EVALUATE), "backward"),
    (OP, re.compile(r"c10d::|record_param_comms"), "communication"),
)


@dataclass(frozen=True, slots=True)
class Context:
    """Labels of host events; the arrays are indexed like ``trace.host``."""

    step: np.ndarray  # int32, from 0
    phase: np.ndarray  # int8, index into PHASE_NAMES
    autograd: np.ndarray  # int8, index into AUTOGRAD_NAMES
    module: np.ndarray  # int32, index into modules
    modules: list[str]
    steps: int  # how many were found; 1 when none are marked
    step_starts_ns: np.ndarray  # int64, empty when none are marked


def context(trace: Trace, tree: CallTree) -> Context:
    """Label every host event of a trace."""
    starts = _step_starts(trace)
    own = _own_phases(trace)
    phase = _foreign_phases(trace, tree, starts) if own is None else own
    autograd = _autograd(trace, tree, phase)
    module, modules = _modules(trace, tree)
    return Context(
        step=step_at(trace.host.start_ns, starts),
        phase=phase,
        autograd=autograd,
        module=module,
        modules=modules,
        steps=max(len(starts), 1),
        step_starts_ns=starts,
    )


def step_at(times_ns: np.ndarray, starts_ns: np.ndarray) -> np.ndarray:
    """Step that was running, or the last one that ran, at each time; 0 before the first."""
    return np.maximum(np.searchsorted(starts_ns, times_ns, side="right") - 1, 0).astype(np.int32)


def _step_starts(trace: Trace) -> np.ndarray:
    """Starts of our own step ranges, or else of torch's numbered ones; a trace can have both."""
    host = trace.host
    annotations = host.kind == ANNOTATION
    own = [i for i, name in enumerate(trace.names) if name == STEP_RANGE]
    starts = host.start_ns[annotations & np.isin(host.name, own)]
    if not len(starts):
        numbered = np.flatnonzero(annotations & np.isin(host.name, _matching(trace, _STEP)))
        # Several threads or processes can mark the same step: the first mark counts.
        starts = np.array([host.start_ns[numbered][host.name[numbered] == name].min() for name in
                           np.unique(host.name[numbered])], np.int64)  # fmt: skip
    return np.sort(starts)


def _matching(trace: Trace, pattern: re.Pattern[str]) -> list[int]:
    return [i for i, name in enumerate(trace.names) if pattern.match(name)]


def _own_marks(trace: Trace) -> dict[int, int]:
    """Names of our own phase ranges to their phase."""
    return {
        i: PHASE_NAMES.index(name.removeprefix(PHASE_PREFIX))
        for i, name in enumerate(trace.names)
        if name.startswith(PHASE_PREFIX) and name.removeprefix(PHASE_PREFIX) in PHASES
    }


def _own_phases(trace: Trace) -> np.ndarray | None:
    """Phase by time: backward threads work inside the range that the main thread opened."""
    host = trace.host
    marks = _own_marks(trace)
    rows = np.flatnonzero((host.kind == ANNOTATION) & np.isin(host.name, list(marks)))
    if not len(rows):
        return None
    rows = rows[np.argsort(host.start_ns[rows], kind="stable")]
    phase = np.zeros(len(host), np.int8)
    by_time = np.argsort(host.start_ns, kind="stable")
    times = host.start_ns[by_time]
    for row in rows:  # later starts are inner ranges, so they overwrite
        first, last = np.searchsorted(times, [host.start_ns[row], host.start_ns[row] + host.dur_ns[row]])
        phase[by_time[first:last]] = marks[int(host.name[row])]
    return phase


def _foreign_phases(trace: Trace, tree: CallTree, starts: np.ndarray) -> np.ndarray:
    """Phase by the innermost mark around each event; what is left is forward."""
    host = trace.host
    of_name = np.zeros((LAUNCH + 1, len(trace.names)), np.int8)
    for i, name in enumerate(trace.names):
        for kind, pattern, marked in _MARKS:
            found = pattern.match(name)
            if found and not of_name[kind, i]:
                of_name[kind, i] = PHASE_NAMES.index(marked or found[1].lower())
    mark = of_name[host.kind, host.name]
    in_backward = tree.nearest(_names_like(trace, _EVALUATE) & (host.kind == OP)) >= 0
    loss = np.array([bool(_LOSS.match(name)) for name in trace.names], bool)[host.name] & (host.kind == OP)
    mark[loss & ~in_backward] = PHASE_NAMES.index("loss")
    # An optimizer runs without autograd: what records a node inside of it is the forward pass of its closure.
    optimizer = PHASE_NAMES.index("optimizer")
    around = _inherit(tree, mark)
    closure = (host.sequence >= 0) & (host.kind == OP) & (around == optimizer) & (mark == 0)
    mark[closure] = PHASE_NAMES.index("forward")
    phase = _inherit(tree, mark)
    backward_threads = np.unique(host.thread[in_backward])
    forward_threads = np.unique(host.thread[host.kind == ANNOTATION])
    worker = np.isin(host.thread, np.setdiff1d(backward_threads, forward_threads))
    phase[(phase == 0) & worker] = PHASE_NAMES.index("backward")
    inside = np.ones(len(host), bool) if not len(starts) else host.start_ns >= starts[0]
    phase[(phase == 0) & inside] = PHASE_NAMES.index("forward")
    return phase


def _names_like(trace: Trace, prefix: str) -> np.ndarray:
    return np.array([name.startswith(prefix) for name in trace.names], bool)[trace.host.name]


def _inherit(tree: CallTree, mark: np.ndarray) -> np.ndarray:
    """The mark of the innermost marked event around each, 0 without one."""
    source = tree.nearest(mark != 0)
    return np.where(source >= 0, mark[source], 0).astype(mark.dtype)


def _autograd(trace: Trace, tree: CallTree, phase: np.ndarray) -> np.ndarray:
    """Side of autograd: backward nodes, gradient accumulation, recomputation inside of backward, forward."""
    host = trace.host
    is_op = host.kind == OP
    evaluates = _names_like(trace, _EVALUATE) & is_op
    accumulates = np.array(["AccumulateGrad" in name for name in trace.names], bool)[host.name] & is_op
    checkpoint = np.array(["CheckpointFunctionBackward" in name for name in trace.names], bool)[host.name] & is_op
    in_backward = tree.nearest(evaluates) >= 0
    # Backward ops carry the thread of their forward op; an op without one that has a number made a node itself.
    records = in_backward & is_op & (host.sequence >= 0) & (host.forward_thread <= 0)
    sums = _names_like(trace, "aten::add") & is_op & evaluates[np.maximum(tree.parent, 0)] & (tree.parent >= 0)
    mark = np.zeros(len(host), np.int8)
    mark[evaluates] = _BACKWARD
    mark[accumulates | sums] = _ACCUMULATE
    mark[records | checkpoint] = _RECOMPUTE
    autograd = _inherit(tree, mark)
    in_forward = np.isin(phase, [PHASE_NAMES.index("forward"), PHASE_NAMES.index("loss")])
    autograd[(autograd == _NONE) & in_forward] = _FORWARD
    autograd[(autograd == _NONE) & (phase == PHASE_NAMES.index("backward"))] = _BACKWARD
    autograd[phase == PHASE_NAMES.index("communication")] = _NONE
    return autograd


def _modules(trace: Trace, tree: CallTree) -> tuple[np.ndarray, list[str]]:
    """Module path of each event, from ``nn.Module`` frames; of backward ops, that of the forward op they belong to."""
    host = trace.host
    frames = np.flatnonzero(host.kind == MODULE)
    paths: dict[str, int] = {"": 0}
    if not len(frames):
        return np.zeros(len(host), np.int32), list(paths)
    inner = tree.nearest(host.kind == MODULE)
    path_of: dict[int, str] = {-1: ""}
    own = np.zeros(len(host), np.int32)
    for frame in frames.tolist():  # parents come first
        parent = int(tree.parent[frame])
        outer = path_of[int(inner[parent]) if parent >= 0 else -1]
        name = trace.names[host.name[frame]].removeprefix(MODULE_PREFIX)
        path_of[frame] = f"{outer}.{name}" if outer else name
        own[frame] = paths.setdefault(path_of[frame], len(paths))
    module = np.where(inner >= 0, own[inner], 0).astype(np.int32)
    return _with_backward(trace, tree, module), list(paths)


def _with_backward(trace: Trace, tree: CallTree, module: np.ndarray) -> np.ndarray:
    """Give backward ops the module of the last forward op with their sequence number."""
    host = trace.host
    made_node = (host.kind == OP) & (host.sequence >= 0) & (host.forward_thread <= 0)
    order = np.flatnonzero(made_node)
    order = order[np.lexsort((host.start_ns[order], host.sequence[order]))]
    numbers = host.sequence[order]
    node = tree.nearest((host.kind == OP) & (host.sequence >= 0) & (host.forward_thread > 0))
    rows = np.flatnonzero((module == 0) & (node >= 0))
    if not len(order) or not len(rows):
        return module
    wanted = host.sequence[node[rows]]
    last = np.searchsorted(numbers, wanted, side="right") - 1
    matched = (last >= 0) & (numbers[last] == wanted)
    module[rows[matched]] = module[order[last[matched]]]
    return module
