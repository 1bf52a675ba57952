"""From a capture to a run: the profiled steps' kernels, each with the cost of its own op record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import metrics
from .alignment import Alignment, align, first_shape, op_key
from .capture import Capture
from .costs import price
from .costs.cost import flatten
from .environment import describe_environment, describe_torch
from .findings.phase_table import busy_and_idle
from .findings.words import percent
from .ops import OpRecord
from .roofline import classify
from .run import Run
from .summary import Context, summarize
from .traces.attribution import Attribution, OpEvent, attribute, dispatched_ops
from .traces.trace import read_trace

if TYPE_CHECKING:
    from .device import Device

#: Below this share of aligned ops a step's costs are not trusted without saying so.
TRUSTED_ALIGNMENT = 0.97

#: Profiled steps this much longer, or shorter by as much, than bare ones are warned about.
ACCEPTABLE_SLOWDOWN = 1.25

#: Leanest fp32 step to compare an optimizer with, by the beginning of its name; AdamW for all others.
_FLOORS = {"sgd-momentum": "SGD with momentum", "sgd": "SGD"}


def summarize_capture(capture: Capture, device: Device, workload: dict[str, Any], *, command: str = "") -> Run:
    """Attribute, price and classify what a capture saw.

    Args:
        capture: the three passes.
        device: the device they ran on, with its roofs.
        workload: the ``workload`` entry of ``run.json``; ``optimizer`` and ``trainable_parameters`` are used.
        command: how to make the run again.
    """
    attribution, alignments = attribute_capture(capture)
    kernels = classify(attribution.kernels, device.roof)
    measured = _metrics(capture, device)
    slowdown = _slowdown(attribution, measured["step_time_ms"]["median"])
    aligned = _describe(alignments)
    parameters = workload.get("trainable_parameters")
    context = Context(
        kind="measured",
        title=f"{workload.get('model', 'model')} client step on {device.title}",
        command=command,
        device=device,
        steps=attribution.steps,
        trace_start_ns=attribution.start_ns,
        workload=workload,
        metrics=measured | {"profiler_slowdown": slowdown},
        alignment=aligned,
        timings=capture.timings,
        environment=describe_environment() | describe_torch(),
        parameters=parameters,
        optimizer_floor=_floor(str(workload.get("optimizer", ""))),
        parameter_dtype="bf16" if workload.get("precision") == "bf16-pure" else "fp32",
        elements_of_op=dict(enumerate(map(_elements, capture.records))),
        warnings=[*attribution.warnings, *_alignment_warnings(aligned), *_slowdown_warnings(slowdown)],
    )
    return summarize(kernels, attribution.ops, context)


def attribute_capture(capture: Capture) -> tuple[Attribution, list[Alignment]]:
    """The kernel table of the profiled steps, and how well each step's ops matched the records."""
    trace = read_trace(capture.trace_path)
    recorded = {_plain_name(record.name) for record in capture.records}

    def is_dispatched(name: str) -> bool:
        return _plain_name(name) in recorded

    events = dispatched_ops(trace, is_dispatched)
    matches: dict[int, int] = {}
    alignments = []
    for step in sorted({event.step for event in events if event.step >= 0}):
        of_step = [event for event in events if event.step == step]
        alignment = align_step(capture.records, of_step)
        matches |= {of_step[j].index: i for i, j in alignment.pairs}
        alignments.append(alignment)
    attribution = attribute(trace, is_dispatched=is_dispatched, records=capture.records, matches=matches)
    return attribution, alignments


def align_step(records: Sequence[OpRecord], events: Sequence[OpEvent]) -> Alignment:
    """Match the op events of one profiled step with the op records."""
    pairs = align(
        [op_key(record.name, first_shape(record)) for record in records],
        [op_key(event.name, event.shapes[0] if event.shapes else None) for event in events],
    )
    left, right = {i for i, _ in pairs}, {j for _, j in pairs}
    return Alignment(
        recorded=len(records),
        profiled=len(events),
        pairs=tuple(pairs),
        only_recorded=tuple(record.name for i, record in enumerate(records) if i not in left),
        only_profiled=tuple(event.name for j, event in enumerate(events) if j not in right),
    )


def _plain_name(name: str) -> str:
    return name.rstrip("_")


def _elements(record: OpRecord) -> int:
    """Elements an op goes over: those of its first tensor or tensor list."""
    return sum(meta.numel for meta in flatten(record.args[:1]))


def _floor(optimizer: str) -> str:
    return next((floor for prefix, floor in _FLOORS.items() if optimizer.startswith(prefix)), "AdamW")


def _metrics(capture: Capture, device: Device) -> dict[str, Any]:
    time = metrics.step_time(capture.timings)
    flops = metrics.model_flops(capture.records, [price(record) for record in capture.records])
    return {
        "step_time_ms": time,
        "phase_samples_ms": metrics.phase_samples(capture.timings),
        **metrics.utilisation(*flops, time["median"], device),
        "tokens_per_s": metrics.throughput(capture.tokens, capture.timings),
        "peak_memory": metrics.memory(capture.peak_memory),
        "power": metrics.power(capture.meter, len(capture.timings), capture.tokens),
    }


def _slowdown(attribution: Attribution, bare_ms: float) -> float:
    """Span of a profiled step over the median bare step."""
    added = busy_and_idle(attribution.kernels)
    profiled_ms = float((added["busy_us"] + added["idle_us"]).sum()) / attribution.steps / 1e3
    return profiled_ms / bare_ms


def _slowdown_warnings(slowdown: float) -> list[str]:
    if 1 / ACCEPTABLE_SLOWDOWN <= slowdown <= ACCEPTABLE_SLOWDOWN:
        return []
    return [
        f"the profiled steps took {slowdown:.2f} times as long as the bare ones, through the profiler or through other "
        "work on this machine: shares hold better than absolute times"
    ]


def _describe(alignments: Sequence[Alignment]) -> dict[str, Any]:
    """The ``alignment`` entry of ``run.json``."""
    worst = min((alignment.matched_share for alignment in alignments), default=0.0)
    leftovers = Counter(
        name for alignment in alignments for name in (*alignment.only_recorded, *alignment.only_profiled)
    )
    message = f"{percent(worst, 1)} of the profiled ops found their record"
    if leftovers:
        message += "; left over: " + ", ".join(f"{name} ×{count}" for name, count in leftovers.most_common(5))
    return {
        "ok": worst >= TRUSTED_ALIGNMENT,
        "message": message,
        "steps": [
            {
                "step": step,
                "recorded": alignment.recorded,
                "profiled": alignment.profiled,
                "matched": len(alignment.pairs),
            }
            for step, alignment in enumerate(alignments)
        ],
    }


def _alignment_warnings(described: dict[str, Any]) -> list[str]:
    if described["ok"]:
        return []
    return [
        f"the recorded and the profiled step differ ({described['message']}): costs of the ops left over are inferred "
        "from the trace, and their modules are unknown"
    ]
