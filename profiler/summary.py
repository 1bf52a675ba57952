"""The summary of a run, put together from the kernel table and what is known about the step."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from .environment import describe_environment
from .findings.answer import answer, timing_verdict
from .findings.headroom import bound_shares, rank_headroom
from .findings.ledger import coverage_ledger
from .findings.optimizer_step import drill_down
from .findings.phase_table import phase_table
from .findings.words import percent
from .run import Run
from .schema import SCHEMA_VERSION

if TYPE_CHECKING:
    from .device import Device
    from .timing import StepTiming


@dataclass
class Context:
    """What a run knows beside its kernels; everything a trace cannot tell stays at its default."""

    kind: str
    title: str
    command: str
    device: Device
    steps: int = 1
    trace_start_ns: int | None = None
    workload: dict[str, Any] | None = None
    metrics: dict[str, Any] | None = None
    alignment: dict[str, Any] | None = None
    timings: Sequence[StepTiming] = ()
    environment: dict[str, Any] = field(default_factory=describe_environment)
    parameters: int | None = None
    optimizer_floor: str = "AdamW"
    parameter_dtype: str = "fp32"
    elements_of_op: Mapping[int, int] | None = None
    warnings: list[str] = field(default_factory=list)


def summarize(kernels: pd.DataFrame, ops: pd.DataFrame, context: Context) -> Run:
    """Turn a classified kernel table into a run.

    Args:
        kernels: the classified kernel table of ``context.steps`` steps.
        ops: the ops table.
        context: everything else that is known.

    Returns:
        A run without a folder; :func:`~edgeroof.profiler.run.save` gives it one.
    """
    phases = phase_table(kernels, context.steps, context.timings)
    bounds = bound_shares(kernels, context.steps)
    headroom = rank_headroom(kernels, context.steps)
    summary = {
        "schema_version": SCHEMA_VERSION,
        "kind": context.kind,
        "title": context.title,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": context.command,
        "profiled_steps": context.steps,
        "device": context.device.describe(),
        "environment": context.environment,
        "workload": context.workload,
        "answer": answer(bounds, headroom, phases),
        "metrics": context.metrics,
        "ledger": coverage_ledger(kernels, context.steps),
        "bounds": bounds,
        "headroom": headroom,
        "optimizer": drill_down(
            kernels,
            context.device.roof.bandwidth,
            steps=context.steps,
            parameters=context.parameters,
            floor_name=context.optimizer_floor,
            dtype=context.parameter_dtype,
            elements_of_op=context.elements_of_op,
        ),
        "timing": timing_verdict(phases, context.device.kind == "cuda") if context.timings else None,
        "alignment": context.alignment,
        "trace": None if context.trace_start_ns is None else {"start_ns": context.trace_start_ns},
        "warnings": [*context.warnings, *_evidence(kernels)],
    }
    return Run(summary, kernels, ops, phases)


#: A roof fraction above this is worth a warning; timers and calibration are good for a few percent.
_ABOVE_ROOF = 1.1

#: … when such kernels take at least this share of the time.
_EVIDENT_SHARE = 0.001


def _evidence(kernels: pd.DataFrame) -> list[str]:
    """Kernels faster than their roof: operands that stayed in a cache, or a count that is wrong."""
    above = kernels[kernels["roof_fraction"] > _ABOVE_ROOF]
    if above.empty:
        return []
    total = float(kernels["dur_us"].sum())
    share = float(above["dur_us"].sum()) / total if total else 0.0
    if share < _EVIDENT_SHARE:
        return []
    names = above.groupby(above["op"].astype(str))["dur_us"].sum().sort_values(ascending=False).index[:3]
    return [
        f"{percent(share, 1)} of kernel time runs above its roof (mostly {', '.join(names)}): operands that were still "
        "in a cache, or a byte count that is too high. These roof fractions are shown as they are."
    ]
