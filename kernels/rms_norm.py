"""T5's layer norm, alone or fused with the residual sum and the dropout before it.

PyTorch's own path is five operators, each of which reads and writes all elements, three more for the sum, and twice
that in the backward pass. Here bytes per element are

=======================  =============================================  =====  =====
pass                     moves                                          bf16   fp32
=======================  =============================================  =====  =====
norm                     ``x``, the result                              4      8
its gradient             ``x``, two gradients                           6      12
sum and norm             ``residual``, ``x``, the sum, the result       8      16
its gradient             the sum, three gradients                       8      16
the same, with dropout   the sum, four gradients                        10     20
=======================  =============================================  =====  =====

For the backward pass one fp32 number a row is kept besides what is there anyway; the normed row and what dropout kept
are computed again. The weight's gradient has two stages, without atomics: parts of it, each from rows of one program,
and their sum in a fixed order, so that it is the same every time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from ..profiler.costs import Cost, register
from ..profiler.costs.cost import bytes_read, bytes_written, scalar, tensor
from ..profiler.ops import OpRecord
from . import rms_norm_torch
from .dropout import drop, seed_for
from .operator import define, differentiate, refuse_second_derivative
from .rms_norm_forms import variants
from .rms_norm_launch import launch_backward, launch_forward, takes_triton

__all__ = ["add_rms_norm", "register_costs", "rms_norm", "variants"]

#: Per element: square, sum, two products; backward: products 4, sum, difference and sum; the weight's gradient 2.
FORWARD_FLOPS, BACKWARD_FLOPS, WEIGHT_FLOPS, DROPOUT_FLOPS = 4, 7, 2, 2


def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-6) -> Tensor:
    """``weight * x / sqrt(mean(x²) + eps)`` over the last dimension, as T5 computes it.

    The mean and the quotient are fp32 (fp64 if a tensor is fp64), whether autocast is on or not. A half-precision
    weight makes the quotient, and so the result, of its own type; with an fp32 weight the result is fp32, even for
    half-precision ``x``. (B. Zhang and R. Sennrich, "Root Mean Square Layer Normalization", arXiv 1910.07467.)

    The Triton kernels take rows up to 8192 columns, in fp32, bf16 and fp16; anything else takes torch's path.

    Args:
        x: [..., D], any strides; it is copied if it is not contiguous.
        weight: [D].
        eps: added to the mean of squares.

    Returns:
        [..., D], contiguous.

    Raises:
        UsageError: the tensors do not fit.
    """
    _check(x, weight)
    return rms_norm_op(x, weight, float(eps))[0]


def add_rms_norm(
    residual: Tensor, x: Tensor, weight: Tensor, eps: float = 1e-6, *, dropout: float = 0.0, seed: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """``total = residual + dropout(x)`` and its :func:`rms_norm`, in one pass.

    The sum is rounded once, to the wider type of both, and normed as rounded. The Triton kernels round the probability
    of dropout to a multiple of 2⁻¹⁶. They and torch's path drop different elements for a seed.

    Args:
        residual: [..., D], any strides.
        x: of the same shape.
        weight: [D].
        eps: added to the mean of squares.
        dropout: probability with which an element of ``x`` is dropped, 0 to 1; the others are divided by its
            complement.
        seed: int64 of one element, on the device of ``x``; drawn from torch's generator when ``None``.

    Returns:
        The sum and its norm, both [..., D] and contiguous.

    Raises:
        UsageError: an argument makes no sense.
    """
    _check(x, weight)
    if residual.shape != x.shape or not residual.is_floating_point() or residual.device != x.device:
        raise UsageError(
            f"a residual {residual.dtype} {tuple(residual.shape)} on {residual.device} does not fit x {tuple(x.shape)} "
            f"on {x.device}"
        )
    seed = seed_for(dropout, seed, x.device)
    total, normed, _ = add_rms_norm_op(residual, x, weight, seed, float(eps), float(dropout))
    return total, normed


def _check(x: Tensor, weight: Tensor) -> None:
    if x.dim() == 0 or not x.is_floating_point():
        raise UsageError(f"rows are floating numbers [..., D], not {x.dtype} {tuple(x.shape)}")
    if weight.shape != x.shape[-1:] or not weight.is_floating_point() or weight.device != x.device:
        raise UsageError(
            f"a weight {weight.dtype} {tuple(weight.shape)} on {weight.device} does not fit rows of {x.shape[-1]} "
            f"on {x.device}"
        )


# -------------------------------------------------------------------- the operators


def _normed_dtype(total: torch.dtype, weight: torch.dtype) -> torch.dtype:
    if weight.itemsize == 2:
        return weight
    return torch.promote_types(_wide(total), weight)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _results(total: Tensor, total_dtype: torch.dtype, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Unfilled norm and factors of rows."""
    normed = total.new_empty(total.shape, dtype=_normed_dtype(total_dtype, weight.dtype))
    return normed, total.new_empty(total.shape[:-1], dtype=_wide(torch.promote_types(total_dtype, weight.dtype)))


def _norm(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    if not takes_triton(x, weight.dtype):
        return rms_norm_torch.forward(None, x, weight, None, eps, 0.0, x.dtype)[1:]
    normed, rstd = _results(x, x.dtype, weight)
    launch_forward(None, x, weight, None, eps, 0.0, None, normed, rstd)
    return normed, rstd


def _fake_norm(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    return _results(x, x.dtype, weight)


def _norm_backward(
    grad: Tensor, x: Tensor, weight: Tensor, rstd: Tensor, weight_gradient: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of ``x`` and of the weight, empty unless wanted."""
    slope, _, grad_weight = _add_norm_backward(
        grad, None, x, weight, rstd, None, 0.0, x.dtype, x.dtype, weight_gradient
    )
    return slope, grad_weight


def _fake_norm_backward(
    grad: Tensor, x: Tensor, weight: Tensor, rstd: Tensor, weight_gradient: bool
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), weight.new_empty(weight.shape if weight_gradient else 0)


def _add_norm(
    residual: Tensor, x: Tensor, weight: Tensor, seed: Tensor | None, eps: float, dropout: float
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = torch.promote_types(residual.dtype, x.dtype)
    if not takes_triton(x, residual.dtype, weight.dtype):
        return rms_norm_torch.forward(residual, x, weight, seed, eps, dropout, dtype)
    total = x.new_empty(x.shape, dtype=dtype)
    normed, rstd = _results(x, dtype, weight)
    launch_forward(residual, x, weight, seed, eps, dropout, total, normed, rstd)
    return total, normed, rstd


def _fake_add_norm(
    residual: Tensor, x: Tensor, weight: Tensor, seed: Tensor | None, eps: float, dropout: float
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = torch.promote_types(residual.dtype, x.dtype)
    return x.new_empty(x.shape, dtype=dtype), *_results(x, dtype, weight)


def _add_norm_backward(
    grad: Tensor, grad_total: Tensor | None, total: Tensor, weight: Tensor, rstd: Tensor, seed: Tensor | None,
    dropout: float, residual_dtype: torch.dtype, x_dtype: torch.dtype, weight_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of the residual, of ``x``, empty if that is the same, and of the weight, empty unless wanted."""
    of_x = _of_x(seed, residual_dtype, x_dtype)
    grad_residual, grad_x, grad_weight = _fake_add_norm_backward(
        grad, grad_total, total, weight, rstd, seed, dropout, residual_dtype, x_dtype, weight_gradient
    )
    if takes_triton(total, weight.dtype, grad.dtype, residual_dtype, x_dtype):
        launch_backward(
            grad, grad_total, total, weight, rstd, seed, dropout, grad_residual, grad_x if of_x else None,
            grad_weight if weight_gradient else None,
        )  # fmt: skip
        return grad_residual, grad_x, grad_weight
    slope, summed = rms_norm_torch.backward(grad, grad_total, total, weight, rstd, weight_gradient=weight_gradient)
    if of_x:
        grad_x = drop(slope, seed, dropout).to(x_dtype)
    return slope.to(residual_dtype), grad_x, grad_weight if summed is None else summed.to(weight.dtype)


def _fake_add_norm_backward(
    grad: Tensor, grad_total: Tensor | None, total: Tensor, weight: Tensor, rstd: Tensor, seed: Tensor | None,
    dropout: float, residual_dtype: torch.dtype, x_dtype: torch.dtype, weight_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return (
        total.new_empty(total.shape, dtype=residual_dtype),
        total.new_empty(total.shape if _of_x(seed, residual_dtype, x_dtype) else 0, dtype=x_dtype),
        weight.new_empty(weight.shape if weight_gradient else 0),
    )


def _of_x(seed: Tensor | None, residual_dtype: torch.dtype, x_dtype: torch.dtype) -> bool:
    """Whether the gradient of ``x`` is another than that of the residual."""
    return seed is not None or residual_dtype != x_dtype


def _setup_norm(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, _ = inputs
    rstd = output[1]
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(rstd)
    ctx.save_for_backward(x, weight, rstd)


def _differentiate_norm(ctx: Any, grad: Tensor | None, of_rstd: None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return None, None, None
    refuse_second_derivative("rms_norm", "torch.nn.functional.rms_norm")
    wanted = ctx.needs_input_grad[1]
    grad_x, grad_weight = rms_norm_backward_op(grad, *ctx.saved_tensors, wanted)
    return grad_x, grad_weight if wanted else None, None


def _setup_add_norm(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    residual, x, weight, seed, _, ctx.dropout = inputs
    total, normed, rstd = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(rstd)
    ctx.save_for_backward(total, weight, rstd, seed)
    ctx.residual_dtype, ctx.x_dtype, ctx.normed_dtype = residual.dtype, x.dtype, normed.dtype


def _differentiate_add_norm(
    ctx: Any, grad_total: Tensor | None, grad: Tensor | None, of_rstd: None
) -> tuple[Tensor | None, ...]:
    if grad is None and grad_total is None:
        return (None,) * 6
    refuse_second_derivative("add_rms_norm", "torch.nn.functional.rms_norm")
    total, weight, rstd, seed = ctx.saved_tensors
    if grad is None:
        grad = torch.zeros_like(total, dtype=ctx.normed_dtype)
    wanted = ctx.needs_input_grad[2]
    grad_residual, grad_x, grad_weight = add_rms_norm_backward_op(
        grad, grad_total, total, weight, rstd, seed, ctx.dropout, ctx.residual_dtype, ctx.x_dtype, wanted
    )
    if not _of_x(seed, ctx.residual_dtype, ctx.x_dtype):
        grad_x = grad_residual
    return grad_residual, grad_x, grad_weight if wanted else None, None, None, None


rms_norm_op = define("rms_norm(Tensor x, Tensor weight, float eps) -> (Tensor, Tensor)", _norm, _fake_norm)
rms_norm_backward_op = define(
    "rms_norm_backward(Tensor grad, Tensor x, Tensor weight, Tensor rstd, bool weight_gradient) -> (Tensor, Tensor)",
    _norm_backward,
    _fake_norm_backward,
)
differentiate("rms_norm", _differentiate_norm, _setup_norm)
add_rms_norm_op = define(
    "add_rms_norm(Tensor residual, Tensor x, Tensor weight, Tensor? seed, float eps, float dropout) "
    "-> (Tensor, Tensor, Tensor)",
    _add_norm,
    _fake_add_norm,
)
add_rms_norm_backward_op = define(
    "add_rms_norm_backward(Tensor grad, Tensor? grad_total, Tensor total, Tensor weight, Tensor rstd, Tensor? seed, "
    "float dropout, ScalarType residual_dtype, ScalarType x_dtype, bool weight_gradient) -> (Tensor, Tensor, Tensor)",
    _add_norm_backward,
    _fake_add_norm_backward,
)
differentiate("add_rms_norm", _differentiate_add_norm, _setup_add_norm)


# -------------------------------------------------------------------- costs


def rms_norm_cost(record: OpRecord) -> Cost:
    """Rows and weight are read once, the norm and a number a row written."""
    return _cost(record, FORWARD_FLOPS, rows=0)


def rms_norm_backward_cost(record: OpRecord) -> Cost:
    """Rows and gradient are read once, one gradient written; parts of the weight's gradient are not counted."""
    return _cost(record, BACKWARD_FLOPS + _of_weight(record, 4), rows=1)


def add_rms_norm_cost(record: OpRecord) -> Cost:
    """Two tensors are read and two written."""
    return _cost(record, FORWARD_FLOPS + 1 + _of_dropout(record, 3), rows=1)


def add_rms_norm_backward_cost(record: OpRecord) -> Cost:
    """The sum and one or two gradients are read, one or two written."""
    sums = 0 if scalar(record, 1) is None else 1
    return _cost(record, BACKWARD_FLOPS + sums + _of_dropout(record, 5) + _of_weight(record, 9), rows=2)


def _of_weight(record: OpRecord, position: int) -> int:
    return WEIGHT_FLOPS if scalar(record, position) is True else 0


def _of_dropout(record: OpRecord, position: int) -> int:
    return 0 if scalar(record, position) is None else DROPOUT_FLOPS


def _cost(record: OpRecord, per_element: int, rows: int) -> Cost:
    """Cost of an op whose argument number ``rows`` has as many elements as it works on."""
    meta = tensor(record, rows)
    dtype = "fp64" if meta.dtype == "fp64" else "fp32"
    return Cost(float(per_element * meta.numel), bytes_read(record), bytes_written(record), "vector", dtype)


def register_costs() -> None:
    """Teach the profiler to price the norms and their gradients."""
    register("edgeroof::rms_norm", rms_norm_cost)
    register("edgeroof::rms_norm_backward", rms_norm_backward_cost)
    register("edgeroof::add_rms_norm", add_rms_norm_cost)
    register("edgeroof::add_rms_norm_backward", add_rms_norm_backward_cost)
