"""What the fused steps cost, for the profiler's table of costs.

FLOPs follow the textbook update as for torch's fused AdamW; decoding and rounding of reduced states is not counted.
Arithmetic is fp32 whatever the storage.
"""

from __future__ import annotations

from ...profiler.costs import Cost, register
from ...profiler.costs.cost import UnpriceableError, flatten, touched_bytes
from ...profiler.ops import OpRecord, TensorMeta

ADAMW_FLOPS = 14
ADAFACTOR_FLOPS = 16


def _list(record: OpRecord, position: int) -> list[TensorMeta]:
    return list(flatten(record.args[position : position + 1]))


def _stepped(record: OpRecord) -> tuple[list[TensorMeta], list[TensorMeta], list[TensorMeta]]:
    params, grads = _list(record, 0), _list(record, 1)
    if not params or not grads:
        raise UnpriceableError(f"{record.name}: tensor lists have no recorded shapes")
    return params, grads, _list(record, 2)


def _whole(value: object, otherwise: int) -> int:
    return value if isinstance(value, int) else otherwise


def adamw_cost(record: OpRecord) -> Cost:
    """Parameters and states are read and written, gradients read once or twice, shadow copies written."""
    params, grads, states = _stepped(record)
    reads = record.args[4] if len(record.args) > 4 else 1
    updated = touched_bytes([*params, *states])
    read = updated + touched_bytes(grads) * _whole(reads, 1)
    written = updated + touched_bytes(_list(record, 3))
    return Cost(float(ADAMW_FLOPS * sum(meta.numel for meta in params)), read, written, "vector", "fp32")


def adafactor_cost(record: OpRecord) -> Cost:
    """Gradients are read three or four times, parameters once, or twice when the step is scaled by their size."""
    params, grads, states = _stepped(record)
    param_reads = 2 if len(record.args) > 3 and record.args[3] is True else 1
    grad_reads = record.args[4] if len(record.args) > 4 else 3
    kept = touched_bytes(states)
    read = param_reads * touched_bytes(params) + touched_bytes(grads) * _whole(grad_reads, 3) + kept
    flops = float(ADAFACTOR_FLOPS * sum(meta.numel for meta in params))
    return Cost(flops, read, touched_bytes(params) + kept, "vector", "fp32")


def norm_cost(record: OpRecord) -> Cost:
    """One read of the gradients, a multiply and an add for each element."""
    grads = _list(record, 0)
    if not grads:
        raise UnpriceableError(f"{record.name}: tensor lists have no recorded shapes")
    return Cost(2.0 * sum(meta.numel for meta in grads), touched_bytes(grads), 0.0, "vector", "fp32")


def register_costs() -> None:
    """Teach the profiler to price the fused steps."""
    register("edgeroof::fused_adamw_", adamw_cost)
    register("edgeroof::fused_adafactor_", adafactor_cost)
    register("edgeroof::gradient_norm", norm_cost)
