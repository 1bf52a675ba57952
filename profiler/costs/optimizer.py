"""Fused optimizer steps and GradScaler: what they read and write, parameter by parameter.

Per-tensor step counters (one fp32 scalar a tensor) are left out of the bytes, so that a cost divides by the number of
parameters exactly: fp32 AdamW reads p, g, m, v and writes p, m, v, which is 28 bytes per parameter.
"""

from __future__ import annotations

from collections.abc import Callable

from ..ops import OpRecord, TensorMeta
from .cost import Cost, UnpriceableError, flatten, scalar, tensor, touched_bytes


def _tensor_list(record: OpRecord, position: int) -> list[TensorMeta]:
    return list(flatten(record.args[position : position + 1]))


def _fused_step(
    states: tuple[int, ...], grad_scale: int, flops_per_parameter: int, is_first_step: int | None = None
) -> Callable[[OpRecord], Cost]:
    """Rule of ``_fused_*_(params, grads, *states, ...)``.

    Args:
        states: positions of the state lists that are read and written.
        grad_scale: position of GradScaler's scale; when it is given, the unscaled gradients are written back.
        flops_per_parameter: textbook count of the update.
        is_first_step: position of the flag that says that the states are only written, if there is one.
    """

    def price(record: OpRecord) -> Cost:
        params, grads = _tensor_list(record, 0), _tensor_list(record, 1)
        if not params or not grads:
            raise UnpriceableError(f"{record.name}: tensor lists have no recorded shapes")
        updated = params + [meta for position in states for meta in _tensor_list(record, position)]
        written = touched_bytes(updated)
        if isinstance(scalar(record, grad_scale), TensorMeta):
            written += touched_bytes(grads)
        fresh = is_first_step is not None and scalar(record, is_first_step) in (True, "True")
        read = touched_bytes((params if fresh else updated) + grads)
        flops = float(flops_per_parameter * sum(meta.numel for meta in params))
        return Cost(flops, read, written, "vector", params[0].dtype)

    return price


def _unscale(record: OpRecord) -> Cost:
    """Non-finite check and unscale of the gradients: one read, one write, one multiply."""
    grads = _tensor_list(record, 0)
    if not grads:
        raise UnpriceableError(f"{record.name}: tensor lists have no recorded shapes")
    moved = touched_bytes(grads)
    return Cost(float(sum(meta.numel for meta in grads)), moved, moved, "vector", grads[0].dtype)


def _update_scale(record: OpRecord) -> Cost:
    tensor(record, 0)
    moved = touched_bytes(flatten(record.args))
    return Cost(0.0, moved, moved, "none", "fp32")


_ADAM = _fused_step(states=(2, 3, 4), grad_scale=13, flops_per_parameter=14)
_SGD = _fused_step(states=(2,), grad_scale=10, flops_per_parameter=4, is_first_step=9)
_ADAGRAD = _fused_step(states=(2,), grad_scale=9, flops_per_parameter=6)

RULES: dict[str, Callable[[OpRecord], Cost]] = {
    "aten::_fused_adamw_": _ADAM,
    "aten::_fused_adam_": _ADAM,
    "aten::_fused_sgd_": _SGD,
    "aten::_fused_adagrad_": _ADAGRAD,
    "aten::_amp_foreach_non_finite_check_and_unscale_": _unscale,
    "aten::_amp_update_scale_": _update_scale,
}
