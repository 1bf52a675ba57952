"""From a trace to the kernel table: op, phase, step, module, autograd side and cost of every kernel.

A kernel belongs to its *dispatched op*: walking down from the top of the thread's call tree to the launch, the first op
that the caller calls dispatched (for imported traces: one with a cost rule) and that can be priced. Without one, it
belongs to the first dispatched op, else to the innermost op, and its cost is unknown.

An op is priced once. Its cost is shared, in proportion to duration, by the launches of its main kernel, the one that
takes the most of its time: the chunks of a fused optimizer share it, while the reduction after a split-K product, casts
and fills beside the main kernel get zero, with the same provenance. So sums over a table are right.

On a trace without device activities (a CPU), kernels are the dispatched ops themselves, and ops of unknown cost that
contain none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .. import costs
from ..ops import OpRecord, TensorMeta
from .context import AUTOGRAD_NAMES, PHASE_NAMES, Context, context, step_at
from .inference import input_shapes
from .linking import CallTree, Links, call_tree, link
from .pricing import Price, Pricer
from .tables import CPU_KIND, Rows, build_tables, distinct_columns
from .trace import ANNOTATION, DEVICE_KINDS, OP, Trace

if TYPE_CHECKING:
    import pandas as pd

_MEMSET = DEVICE_KINDS.index("memset")
#: Namespaces of what torch itself runs around ops; a leaf there is framework time, not a kernel.
_FRAMEWORK = ("autograd::", "torch::autograd::AccumulateGrad", "prim::", "profiler::", "torch.distributed")


@dataclass(frozen=True, slots=True)
class OpEvent:
    """One dispatched op in a trace. ``index`` is its row in ``trace.host`` and stays valid for that trace."""

    index: int
    name: str
    thread: int
    step: int
    start_us: float
    dur_us: float
    phase: str
    autograd: str
    module: str
    shapes: tuple[tuple[int, ...] | None, ...]  # of the inputs as recorded; None for what is not a tensor


@dataclass(frozen=True, slots=True)
class Attribution:
    """What :func:`attribute` finds."""

    kernels: pd.DataFrame  # schema.KERNEL_COLUMNS
    ops: pd.DataFrame  # schema.OP_COLUMNS
    steps: int  # profiled steps that were recognised, 1 when none were
    start_ns: int  # what start_us of the kernels is since, in the time of the trace file
    warnings: tuple[str, ...]  # what the reader must know, those of the trace included


def dispatched_ops(trace: Trace, is_dispatched: Callable[[str], bool]) -> list[OpEvent]:
    """Dispatched ops in order of start, to be matched with the records of another pass.

    Args:
        trace: the trace of the profiled pass.
        is_dispatched: whether an op of this name counts; the outermost that does is taken, what runs inside it is not.
    """
    tree = call_tree(trace)
    labels = context(trace, tree)
    host = trace.host
    mask = _flagged(trace, is_dispatched)
    rows = np.flatnonzero(mask & (tree.outermost(mask) == np.arange(len(host))))
    rows = rows[np.argsort(host.start_ns[rows], kind="stable")]
    return [
        OpEvent(
            index=row,
            name=trace.names[host.name[row]],
            thread=int(host.thread[row]),
            step=int(labels.step[row]),
            start_us=host.start_ns[row] / 1000,
            dur_us=host.dur_ns[row] / 1000,
            phase=PHASE_NAMES[labels.phase[row]],
            autograd=AUTOGRAD_NAMES[labels.autograd[row]],
            module=labels.modules[labels.module[row]],
            shapes=input_shapes(trace.signatures[host.signature[row]]),
        )
        for row in rows.tolist()
    ]


def attribute(
    trace: Trace,
    *,
    is_dispatched: Callable[[str], bool] = costs.is_priced,
    records: Sequence[OpRecord] = (),
    matches: Mapping[int, int] | None = None,
    manifest: Sequence[TensorMeta] = (),
) -> Attribution:
    """Attribute and price every kernel of a trace.

    For a capture with op records, call :func:`dispatched_ops` with the same ``is_dispatched``, align the events with
    the records, and pass the result as ``matches``: matched ops take cost, module and autograd side from their record,
    the others are inferred from the trace.

    Args:
        trace: from :func:`~edgeroof.profiler.traces.trace.read_trace`.
        is_dispatched: whether an op of this name counts as dispatched.
        records: op records of another pass; they become the first rows of the ops table, in this order.
        matches: ``OpEvent.index`` to position in ``records``. Several events may share a record (one per step).
        manifest: the trainable parameters, in case a fused optimizer's lists were too long for the trace.

    Returns:
        The tables; ``kernels`` has one row per device activity (on a CPU: per op), in order of start.
    """
    tree = call_tree(trace)
    labels = context(trace, tree)
    dispatched = _flagged(trace, lambda name: is_dispatched(name) or name.startswith("c10d::"))
    if matches:
        dispatched[list(matches)] = True
    pricer = Pricer(trace, records, matches or {}, manifest)
    warnings: tuple[str, ...] = ()
    if len(trace.device):
        links = link(trace)
        rows = _device_rows(trace, tree, dispatched, links, labels, pricer)
        warnings = links.warnings
    else:
        rows = _cpu_rows(trace, tree, dispatched, labels, pricer)
    kernels, ops = build_tables(trace, rows, labels, pricer.prices, records)
    return Attribution(
        kernels=kernels,
        ops=ops,
        steps=labels.steps,
        start_ns=trace.start_ns,
        warnings=(
            *trace.warnings,
            *warnings,
            *_what_is_missing(trace, [pricer.prices[i] for i in np.unique(rows.price) if i >= 0]),
        ),
    )


def _flagged(trace: Trace, is_dispatched: Callable[[str], bool]) -> np.ndarray:
    """Which host events are ops whose name is dispatched."""
    by_name = np.array([is_dispatched(name) for name in trace.names], bool)
    return by_name[trace.host.name] & (trace.host.kind == OP)


def _device_rows(
    trace: Trace, tree: CallTree, dispatched: np.ndarray, links: Links, labels: Context, pricer: Pricer
) -> Rows:
    device = trace.device
    origin = np.where(links.in_graph, -1, links.launch)
    event, price = _ops_of_launches(trace, tree, dispatched, origin, pricer)
    launched_ns = device.start_ns.copy()
    launched_ns[origin >= 0] = trace.host.start_ns[origin[origin >= 0]]
    return Rows(
        kind=device.kind,
        name=device.name,
        device=device.device,
        stream=device.stream,
        start_ns=device.start_ns,
        dur_ns=device.dur_ns,
        origin=origin,
        linked=origin >= 0,
        step=step_at(launched_ns, labels.step_starts_ns),
        price=price,
        share=_shares(trace, event),
        own_bytes=_own_bytes(trace, price, pricer),
        communication=_names_with(trace, "nccl")[device.name] & (device.kind == 0),
    )


def _ops_of_launches(
    trace: Trace, tree: CallTree, dispatched: np.ndarray, origin: np.ndarray, pricer: Pricer
) -> tuple[np.ndarray, np.ndarray]:
    """Op event and price of each device activity; see the module for which op that is.

    An op that cannot be priced gives way to the next dispatched op inside of it, so this goes down level by level.
    """
    event = np.full(len(origin), -1)
    price = np.full(len(origin), -1)
    mask = dispatched.copy()
    pending = np.flatnonzero(origin >= 0)
    while len(pending):
        found = tree.outermost_from(origin[pending], mask)
        pending, found = pending[found >= 0], found[found >= 0]
        prices = _price_events(trace, pending, found, pricer)
        settled = pricer.is_final(prices)
        better = settled | (event[pending] < 0)
        event[pending[better]], price[pending[better]] = found[better], prices[better]
        mask[found[~settled]] = False
        pending = pending[~settled]
    left = np.flatnonzero((origin >= 0) & (event < 0))
    event[left] = _innermost(trace, tree)[origin[left]]
    left = left[event[left] >= 0]
    price[left] = _price_events(trace, left, event[left], pricer)
    return event, price


def _price_events(trace: Trace, rows: np.ndarray, events: np.ndarray, pricer: Pricer) -> np.ndarray:
    """Price of the op event of each device activity, by what the op's main kernel is."""
    if not len(rows):
        return np.empty(0, np.int64)
    distinct, inverse = np.unique(events, return_inverse=True)
    main = trace.device.name[rows[_main_rows(trace, rows, inverse, len(distinct))]]
    host = trace.host
    matched = np.array([pricer.matches.get(event, -1) for event in distinct.tolist()])
    keys = np.stack([host.name[distinct], host.signature[distinct], main, matched + 1]).astype(np.int64)
    first, same = distinct_columns(keys)
    prices = np.array([pricer.price(int(distinct[i]), int(main[i])) for i in first.tolist()], np.int64)
    return prices[same][inverse]


def _main_rows(trace: Trace, rows: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """Position in ``rows`` of the main activity of each group: the longest, helpers only if there is nothing else."""
    device = trace.device
    helps = (device.kind[rows] == _MEMSET) | _names_with(trace, "splitkreduce")[device.name[rows]]
    order = np.lexsort((-device.dur_ns[rows], helps, group))
    return order[np.searchsorted(group[order], np.arange(groups))]


def _shares(trace: Trace, event: np.ndarray) -> np.ndarray:
    """Part of its op's cost that each activity carries: by duration among those named like the op's main one."""
    share = np.ones(len(event))
    rows = np.flatnonzero(event >= 0)
    if not len(rows):
        return share
    distinct, group = np.unique(event[rows], return_inverse=True)
    names = trace.device.name[rows]
    carries = names == names[_main_rows(trace, rows, group, len(distinct))][group]
    weight = np.where(carries, np.maximum(trace.device.dur_ns[rows], 1), 0).astype(float)
    share[rows] = weight / np.bincount(group, weight)[group]
    return share


def _own_bytes(trace: Trace, price: np.ndarray, pricer: Pricer) -> np.ndarray:
    """Bytes that copies and fills recorded themselves, where they say more than the op's cost.

    That is where the op has no price, and in copies to or from the host, of which only one side is device memory.
    """
    device = trace.device
    unpriced = np.array([known.cost is None for known in pricer.prices] + [True], bool)[price]
    crosses = (_names_with(trace, "HtoD") | _names_with(trace, "DtoH"))[device.name]
    return np.where((device.kind > 0) & (unpriced | crosses), device.nbytes, np.nan)


def _innermost(trace: Trace, tree: CallTree) -> np.ndarray:
    """What to call the work around each host event that is under no dispatched op.

    The innermost op with a namespace of its own, else the innermost op of any kind, else an optimizer's step: some
    (such as apex) launch kernels without an op.
    """
    host = trace.host
    is_op = host.kind == OP
    named = np.array(["::" in name and not name.startswith(_FRAMEWORK) for name in trace.names], bool)
    steps = np.array([name.startswith("Optimizer.step#") for name in trace.names], bool)
    choices = [is_op & named[host.name], is_op, (host.kind == ANNOTATION) & steps[host.name]]
    found = np.full(len(host), -1)
    for mask in choices:
        found = np.where(found >= 0, found, tree.nearest(mask))
    return found


def _cpu_rows(trace: Trace, tree: CallTree, dispatched: np.ndarray, labels: Context, pricer: Pricer) -> Rows:
    host = trace.host
    events, prices = _priced_roots(trace, tree, dispatched, pricer)
    leaves = _unknown_leaves(trace, tree, dispatched)
    unknown = [pricer.price(event) for event in leaves.tolist()]
    events = np.concatenate([events, leaves])
    order = np.argsort(host.start_ns[events], kind="stable")
    events, price = events[order], np.concatenate([prices, np.array(unknown, np.int64)])[order]
    numbered = [isinstance(thread, int) and abs(thread) < 2**63 for _, thread in trace.threads]
    threads = [thread if fits else i for i, ((_, thread), fits) in enumerate(zip(trace.threads, numbered))]
    return Rows(
        kind=np.full(len(events), CPU_KIND, np.int8),
        name=host.name[events],
        device=np.full(len(events), -1, np.int32),
        stream=np.array(threads, np.int64)[host.thread[events]],
        start_ns=host.start_ns[events],
        dur_ns=host.dur_ns[events],
        origin=events,
        linked=np.ones(len(events), bool),
        step=labels.step[events],
        price=price,
        share=np.ones(len(events)),
        own_bytes=np.full(len(events), np.nan),
        communication=np.zeros(len(events), bool),
    )


def _priced_roots(
    trace: Trace, tree: CallTree, dispatched: np.ndarray, pricer: Pricer
) -> tuple[np.ndarray, np.ndarray]:
    """The outermost dispatched ops; those without a price give way to dispatched ops inside of them, if any."""
    mask = dispatched.copy()
    while True:
        roots = np.flatnonzero(mask & (tree.outermost(mask) == np.arange(len(mask))))
        prices = np.array([pricer.price(event) for event in roots.tolist()], np.int64)
        above = tree.nearest(mask)[np.maximum(tree.parent, 0)]
        has_inner = np.zeros(len(mask), bool)
        has_inner[above[mask & (tree.parent >= 0) & (above >= 0)]] = True
        give_way = roots[~pricer.is_final(prices) & has_inner[roots]]
        if not len(give_way):
            return roots, prices
        mask[give_way] = False


def _unknown_leaves(trace: Trace, tree: CallTree, dispatched: np.ndarray) -> np.ndarray:
    """Ops of unknown cost that do work of their own: in no dispatched op, and around no op but metadata ones."""
    host = trace.host
    works = np.array(
        ["::" in name and not name.startswith(_FRAMEWORK) and not costs.is_metadata(name) for name in trace.names], bool
    )
    works = works[host.name] & (host.kind == OP)
    above = tree.nearest(works | dispatched)[np.maximum(tree.parent, 0)]
    around = np.zeros(len(host), bool)
    around[above[(works | dispatched) & (tree.parent >= 0) & (above >= 0)]] = True
    return np.flatnonzero(works & ~dispatched & ~around & (tree.nearest(dispatched) < 0))


def _names_with(trace: Trace, part: str) -> np.ndarray:
    return np.array([part.lower() in name.lower() for name in trace.names], bool)


def _what_is_missing(trace: Trace, prices: Sequence[Price]) -> list[str]:
    """What the recording's options keep from being known."""
    if not trace.has_shapes:
        return [
            "no input shapes were recorded, so FLOPs and bytes of the ops cannot be known; only copies and fills have "
            "bytes: record with torch.profiler.profile(record_shapes=True)"
        ]
    missing = []
    if not any(signature.concrete for signature in trace.signatures):
        missing.append(
            "plain arguments of ops (dims, sizes, dtypes) were not recorded, as in torch before 2.1: ops whose output "
            "depends on them are unpriced"
        )
    lists = sorted({price.op for price in prices if price.lost_list})
    if lists:
        missing.append(
            f"{', '.join(lists)} take tensor lists whose shapes or types the trace lacks (torch drops the shapes of "
            "more than 30 tensors, and before 2.1 of all lists), so they are unpriced"
        )
    return missing
