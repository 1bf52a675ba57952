"""From op records to a projected run: the same tables as a measured one, with times from the efficiency model.

Every op that works is one row, as if it were one kernel. Its start follows from the kernels before it, the gap between
two kernels, and the host, which can only launch so many ops in a given time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from . import metrics
from .costs import is_metadata, price
from .costs.cost import Cost, flatten
from .ops import OpRecord
from .roofline import classify
from .run import Run
from .schema import KERNEL_COLUMNS, OP_COLUMNS
from .summary import Context, summarize
from .traces.inference import describe

if TYPE_CHECKING:
    from .device import Device

_FLOORS = {"sgd-momentum": "SGD with momentum", "sgd": "SGD"}


@dataclass(frozen=True)
class StepTimes:
    """Where the kernels of a step lie in time.

    Attributes:
        places: of the ops that run a kernel, among the records.
        starts_us: of each kernel, since the step began.
        durations_us: of each kernel.
        total_us: of the step, gaps included.
    """

    places: Sequence[int]
    starts_us: Sequence[float]
    durations_us: Sequence[float]
    total_us: float


@dataclass(frozen=True)
class Projected:
    """What is projected besides the kernels' times.

    Attributes:
        entry: the ``projection`` entry of ``run.json``.
        warnings: what the reader must know.
    """

    entry: dict[str, Any]
    warnings: list[str] = field(default_factory=list)


def is_kernel(record: OpRecord) -> bool:
    """Whether the op does work on the device: not on metadata, nor on an optimizer's counters, which the host keeps."""
    if is_metadata(record.name):
        return False
    return not (record.phase == "optimizer" and all(meta.numel <= 1 for meta in flatten(record.args)))


def project_run(
    records: Sequence[OpRecord],
    costs: Sequence[Cost | None],
    times: StepTimes,
    device: Device,
    *,
    workload: dict[str, Any],
    tokens: tuple[int, int],
    peak_bytes: int | None,
    projected: Projected,
    command: str = "",
) -> Run:
    """Put a projected run together.

    Args:
        records: of one step, from a dry run or a recorder.
        costs: one per record.
        times: of its kernels on the device.
        device: the device that is projected.
        workload: the ``workload`` entry of ``run.json``.
        tokens: of a step, without and with padding.
        peak_bytes: memory of the step at its peak, ``None`` when unknown.
        projected: intervals, memory and power modes.
        command: how to make the run again.
    """
    kernels = classify(kernel_table(records, costs, times), device.roof)
    optimizer = str(workload.get("optimizer", ""))
    context = Context(
        kind="projected",
        title=f"{workload.get('model', 'model')} on {device.title} (projected)",
        command=command,
        device=device,
        steps=1,
        workload=workload,
        metrics=_metrics(records, costs, times, device, tokens, peak_bytes),
        parameters=workload.get("trainable_parameters"),
        optimizer_floor=next((floor for prefix, floor in _FLOORS.items() if optimizer.startswith(prefix)), "AdamW"),
        parameter_dtype="bf16" if workload.get("precision") == "bf16-pure" else "fp32",
        elements_of_op={
            index: sum(meta.numel for meta in flatten(record.args[:1])) for index, record in enumerate(records)
        },
        warnings=projected.warnings,
    )
    run = summarize(kernels, op_table(records, costs), context)
    run.summary["projection"] = projected.entry
    run.phases["device_ms"] = run.phases["busy_ms"] + run.phases["idle_ms"]
    return run


def kernel_table(records: Sequence[OpRecord], costs: Sequence[Cost | None], times: StepTimes) -> pd.DataFrame:
    """The kernel table of a projected step, with the columns of :data:`~.schema.KERNEL_COLUMNS`."""
    chosen = [records[index] for index in times.places]
    known = [costs[index] for index in times.places]
    columns: dict[str, Any] = {
        "step": 0,
        "name": [record.name for record in chosen],
        "kind": "kernel",
        "device_index": 0,
        "stream": 0,
        "start_us": times.starts_us,
        "dur_us": times.durations_us,
        "phase": [record.phase for record in chosen],
        "module": [record.module for record in chosen],
        "op": [record.name for record in chosen],
        "op_index": times.places,
        "autograd": [record.autograd or "none" for record in chosen],
        "shapes": [describe(record.args, types=False) for record in chosen],
        **_costs(known),
        "provenance": [_provenance(record, cost) for record, cost in zip(chosen, known)],
        "linked": True,
    }
    frame = pd.DataFrame({name: columns[name] for name in KERNEL_COLUMNS}, index=range(len(chosen)))
    return frame.astype(KERNEL_COLUMNS)


def op_table(records: Sequence[OpRecord], costs: Sequence[Cost | None]) -> pd.DataFrame:
    """The ops table, with the columns of :data:`~.schema.OP_COLUMNS`."""
    columns: dict[str, Any] = {
        "op_index": range(len(records)),
        "op": [record.name for record in records],
        "phase": [record.phase for record in records],
        "module": [record.module for record in records],
        "autograd": [record.autograd or "none" for record in records],
        "inputs": [describe(record.args) for record in records],
        "outputs": [describe(record.outputs) for record in records],
        **_costs(costs),
        "provenance": [_provenance(record, cost) for record, cost in zip(records, costs)],
    }
    return pd.DataFrame({name: columns[name] for name in OP_COLUMNS}).astype(OP_COLUMNS)


def _costs(costs: Sequence[Cost | None]) -> dict[str, Any]:
    def number(name: str) -> list[float]:
        return [np.nan if cost is None else getattr(cost, name) for cost in costs]

    return {
        "dtype": ["" if cost is None else cost.dtype for cost in costs],
        "unit": ["none" if cost is None else cost.unit for cost in costs],
        "flops": number("flops"),
        "bytes_read": number("bytes_read"),
        "bytes_written": number("bytes_written"),
    }


def _provenance(record: OpRecord, cost: Cost | None) -> str:
    return "unknown" if cost is None else "estimated" if cost.estimated else record.provenance


def price_all(records: Sequence[OpRecord], *, tf32: bool = False) -> list[Cost | None]:
    """The cost of every record.

    Args:
        records: of one step.
        tf32: fp32 products run on matrix units, which records cannot show.
    """
    costs = [price(record) for record in records]
    return [_in_tf32(record, cost) if tf32 and cost else cost for record, cost in zip(records, costs)]


def _in_tf32(record: OpRecord, cost: Cost) -> Cost:
    from .costs.matmul import RULES

    if record.name in RULES and cost.dtype == "fp32" and cost.flops:
        return cost._replace(dtype="tf32", unit="tensor")
    return cost


def _metrics(
    records: Sequence[OpRecord],
    costs: Sequence[Cost | None],
    times: StepTimes,
    device: Device,
    tokens: tuple[int, int],
    peak_bytes: int | None,
) -> dict[str, Any]:
    step_ms = times.total_us * 1e-3
    time = {"median": step_ms, "p25": step_ms, "p75": step_ms, "min": step_ms, "max": step_ms, "samples": []}
    seconds = times.total_us * 1e-6
    return {
        "step_time_ms": time,
        **metrics.utilisation(*metrics.model_flops(records, costs), step_ms, device),
        "tokens_per_s": {"non_padding": tokens[0] / seconds, "padded": tokens[1] / seconds},
        "peak_memory": None if peak_bytes is None else {"bytes": peak_bytes, "what": "of the step, by a dry run"},
        "power": {"available": False, "reason": "a projection draws no power; see the range of each power mode"},
    }


def bound_times(
    priced: Sequence[tuple[OpRecord, Cost | None]], durations_us: Sequence[float], device: Device
) -> dict[str, float]:
    """Kernel time in µs by what holds it, without building a whole run.

    Args:
        priced: records that run a kernel, with their costs.
        durations_us: one per record.
        device: with the roofs to compare with.
    """
    records, costs = [record for record, _ in priced], [cost for _, cost in priced]
    starts = [0.0] * len(records)
    times = StepTimes(range(len(records)), starts, durations_us, float(np.sum(durations_us)))
    table = classify(kernel_table(records, costs, times), device.roof)
    held = table.groupby(table["bound"].astype(str))["dur_us"].sum()
    return {str(bound): float(us) for bound, us in held.items() if us}
