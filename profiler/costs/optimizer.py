"""Fused optimizer steps and GradScaler: what they read and write, parameter by parameter.

Per-tensor step counters (one fp32 scalar a tensor) are left out of the bytes, so that a cost divides by the number of
parameters exactly: fp32 AdamW reads p, g, m, v and writes p, m, v, which is 28 bytes per parameter.
"""

from __future__ import annotations

from collections.abc import Callable

from ..ops import OpRecord, TensorMeta
from .cost import Cost, UnpriceableError, flatten, touched_bytes


def _tensor_list(record: OpRecord, position: int) -> list[TensorMeta]:
    return list(flatten(record.args[position : position + 1]))


def _fused_step(states: tuple[int, ...], grad_scale: int, flops_per_parameter: int) -> Callable[[OpRecord], Cost]:
    """Rule of ``_fused_*_(params, grads, *states, ...)``.

    Args:
        states: positions of the state lists that are read and written.
        grad_scale: position of GradScaler's scale; when it is given, the unscaled gradients are written back.
        flops_per_parameter: textbook count of the update.
    """

    def price(record: OpRecord) -> Cost:
        params, grads = _tensor_list(record, 0), _tensor_list(record, 1)
        if not params or not grads:
            raise UnpriceableError(f"{record.name}: tensor lists have no recorded shapes")
        updated = params + [meta for position in states for meta in _tensor_list(record, position)]
        written = touched_bytes(updated)
        if isinstance(record.args[grad_scale] if grad_scale < len(record.args) else None, TensorMeta):
            written += touched_bytes(grads)
        flops = float(flops_per_parameter * sum(meta.numel for meta in params))
        return Cost(flops, touched_bytes(updated + grads), written, "vector", params[0].dtype)

    return price


def _unscale(record: OpRecord) -> Cost:
    """Non-finite check and unscale of the gradients: one read, one write, one multiply."""
    grads = _tensor_list(record, 0)
    if not grads:
        raise UnpriceableError(f"{record.name}: tensor lists have no recorded shapes")
    moved = touched_bytes(grads)
    return Cost(float(sum(meta.numel for meta in grads)), moved, moved, "vector", grads[0].dtype)


def _update_scale(record: OpRecord) -> Cost:
    moved = touched_bytes(flatten(record.args))
    return Cost(0.0, moved, moved, "none", "fp32")


_ADAM = _fused_step(states=(2, 3, 4), grad_scale=13, flops_per_parameter=14)
_SGD = _fused_step(states=(2,), grad_scale=9, flops_per_parameter=4)
_ADAGRAD = _fused_step(states=(2,), grad_scale=9, flops_per_parameter=6)

RULES: dict[str, Callable[[OpRecord], Cost]] = {
    "aten::_fused_adamw_": _ADAM,
    "aten::_fused_adam_": _ADAM,
    "aten::_fused_sgd_": _SGD,
    "aten::_fused_adagrad_": _ADAGRAD,
    "aten::_amp_foreach_non_finite_check_and_unscale_": _unscale,
    "aten::_amp_update_scale_": _update_scale,
}
