"""Cross-entropy over rows of logits: the loss and its gradient in one pass over the row.

What memory must move is one read and one write of the logits. The kernel loads a row twice, first for its maximum and
sum, then for the gradient; :func:`.cross_entropy_rows.launch_form` keeps so few rows in flight that they fit in the L2
cache, from which the second load should come. PyTorch's own path moves the logits six times: ``log_softmax`` reads and
writes them, its backward reads two tensors of that size, one of which ``nll_loss`` has filled, and writes a third.

The gradient is kept for the backward pass, which only scales it; see :mod:`.cross_entropy_scale`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from ..profiler.costs import Cost, register
from ..profiler.costs.cost import bytes_written, scalar, tensor, touched_bytes
from ..profiler.ops import OpRecord
from . import cross_entropy_scale
from .cross_entropy_rows import (
    Terms,
    check_labels,
    check_terms,
    launch_form,
    loss_dtype,
    mean_weight,
    row_losses,
    takes_triton,
)
from .cross_entropy_scale import scale_kept
from .operator import define, differentiate
from .variants import KernelVariant

#: Per logit: compare, subtract, exponentiate, add; with the gradient also multiply and subtract.
LOSS_FLOPS, GRADIENT_FLOPS = 4, 2


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy of class indices, as :func:`torch.nn.functional.cross_entropy` has it.

    The loss of a row is ``(1 - s) nll + s mean(-log p) + z logsumexp²`` with smoothing ``s`` and z-loss ``z`` (A.
    Chowdhery et al., "PaLM", arXiv 2204.02311, section 5). Arithmetic is fp32 for half precision, whether autocast is
    on or not. The gradient is computed with the loss, if one is wanted, in the type of the logits, and takes as much
    memory until the backward pass. Ignored rows are not read, and their gradient is zero even where they hold NaN.

    Args:
        logits: [..., V], any strides.
        labels: [...], int64 or int32 class indices.
        ignore_index: label of rows that have neither loss nor gradient.
        label_smoothing: share of the target spread evenly over all classes, 0 to 1.
        z_loss: weight of the squared logarithm of the partition function.
        reduction: ``"mean"`` over rows that are not ignored (NaN when all are), ``"sum"`` or ``"none"``.

    Returns:
        fp32 loss (fp64 for fp64 logits), of the shape of the labels for ``"none"``, else a scalar.

    Raises:
        UsageError: an argument makes no sense, or, in torch's path on a CPU, a label is not a class. In the Triton
        kernel
            such a row's loss and gradient are NaN.
    """
    check_terms(Terms(ignore_index, label_smoothing, z_loss), reduction)
    if logits.dim() == 0 or not logits.shape[-1] or not logits.is_floating_point():
        raise UsageError(f"logits are floating numbers [..., classes], not {logits.dtype} {tuple(logits.shape)}")
    check_labels(labels, tuple(logits.shape[:-1]))
    wanted = torch.is_grad_enabled() and logits.requires_grad
    rows = logits.reshape(-1, logits.shape[-1])
    loss = cross_entropy_op(
        rows, labels.reshape(-1), ignore_index, label_smoothing, z_loss, reduction, wanted, True
    )[0]  # fmt: skip
    return loss.reshape(labels.shape) if reduction == "none" else loss


def _forward(
    logits: Tensor, labels: Tensor, ignore_index: int, label_smoothing: float, z_loss: float, reduction: str,
    gradient: bool, owned: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Loss, gradient, and what the gradient is yet to be multiplied by; both empty when not needed.

    ``owned`` says that the caller lets go of the gradient, so that the backward pass may overwrite it.
    """
    if logits.stride(-1) != 1:
        logits = logits.contiguous()
    labels = labels.contiguous()
    terms = Terms(ignore_index, label_smoothing, z_loss)
    losses = logits.new_empty(logits.shape[0], dtype=loss_dtype(logits.dtype))
    out = torch.empty_like(logits, memory_format=torch.contiguous_format) if gradient else None
    weight = row_weight(logits, labels, terms, reduction)
    early, late = split_weight(logits, weight)
    row_losses(logits, labels, early, losses, out, terms)
    gradient_or_none = logits.new_empty(0) if out is None else out
    return reduce_losses(losses, reduction, late), gradient_or_none, finite_weight(late)


def row_weight(logits: Tensor, labels: Tensor, terms: Terms, reduction: str) -> Tensor | None:
    """Weight of each row in the reduced loss, shape [1]; ``None`` for one."""
    if reduction != "mean":
        return None
    return mean_weight(labels, terms.ignore_index, loss_dtype(logits.dtype), triton=takes_triton(logits))


def split_weight(logits: Tensor, weight: Tensor | None) -> tuple[Tensor | None, Tensor]:
    """The weight for the rows, and the weight for the kept gradient in the backward pass, empty when there is none.

    Gradients of a mean are too small for fp16: they are kept unweighted, and weighted with the loss scale.
    """
    if weight is None or logits.dtype != torch.float16:
        return weight, logits.new_empty(0, dtype=loss_dtype(logits.dtype))
    return None, weight


def finite_weight(late: Tensor) -> Tensor:
    """The weight of a kept gradient: zero where all rows are ignored: gradients are zero while the mean is NaN."""
    return late.nan_to_num(posinf=0.0) if late.numel() else late


def reduce_losses(losses: Tensor, reduction: str, late: Tensor) -> Tensor:
    """The loss of weighted rows; ``late`` is the weight that they have yet to get, if any."""
    if reduction == "none":
        return losses
    if reduction == "mean" and not losses.numel():
        return losses.new_full((), torch.nan)
    total = losses.sum()
    return total * late.reshape(()) if late.numel() else total


def _fake(
    logits: Tensor, labels: Tensor, ignore_index: int, label_smoothing: float, z_loss: float, reduction: str,
    gradient: bool, owned: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    dtype = loss_dtype(logits.dtype)
    loss = logits.new_empty((logits.shape[0],) if reduction == "none" else (), dtype=dtype)
    kept = logits.new_empty(logits.shape if gradient else (0,))
    return loss, kept, logits.new_empty(late_size(logits, reduction), dtype=dtype)


def late_size(logits: Tensor, reduction: str) -> int:
    """Elements of the weight that :func:`split_weight` leaves for the backward pass."""
    return int(reduction == "mean" and logits.dtype == torch.float16)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, gradient, late = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(gradient, late)
    ctx.kept, ctx.owned = inputs[-2:]
    ctx.save_for_backward(gradient, late)


def _backward(ctx: Any, grad_loss: Tensor | None, *of_kept: None) -> tuple[Tensor | None, ...]:
    if grad_loss is None:
        return (None,) * 8
    if not ctx.kept:
        raise UsageError("the operator was called without gradient=True, so that it has kept no gradient")
    gradient, late = ctx.saved_tensors
    factors = grad_loss * late if late.numel() else grad_loss
    return scale_kept(gradient, factors, owned=ctx.owned, weighted=late.numel() > 0), *[None] * 7


cross_entropy_op = define(
    "cross_entropy(Tensor logits, Tensor labels, int ignore_index, float label_smoothing, float z_loss, str reduction, "
    "bool gradient, bool owned) -> (Tensor, Tensor, Tensor)",
    _forward,
    _fake,
)
differentiate("cross_entropy", _backward, _setup)


def cross_entropy_cost(record: OpRecord) -> Cost:
    """Logits and labels are read once, losses and the gradient written.

    The second load of a row comes from the L2 cache and is not counted. Neither is it known here which rows are
    ignored: they are not read, so a padded batch runs above this count.
    """
    logits, labels = tensor(record, 0), tensor(record, 1)
    per_logit = LOSS_FLOPS + (GRADIENT_FLOPS if scalar(record, 6) is True else 0)
    read = touched_bytes([logits, labels])
    dtype = "fp64" if logits.dtype == "fp64" else "fp32"
    return Cost(float(per_logit * logits.numel), read, bytes_written(record), "vector", dtype)


def register_costs() -> None:
    """Teach the profiler to price cross-entropy and the scaling of its gradient."""
    register("edgeroof::cross_entropy", cross_entropy_cost)
    cross_entropy_scale.register_costs()


# -------------------------------------------------------------------- forms for ahead-of-time compilation

_ITEMSIZE = {"fp32": 4, "bf16": 2, "fp16": 2}


def rows_variant(dtype: str, *, columns: int = 32128, gradient: bool = True, smoothing: bool = False) -> KernelVariant:
    """The kernel of rows. Its bytes are those it loads and stores: two loads of a logit and one store of its slope."""
    item = _ITEMSIZE[dtype]
    width, vectors, warps = launch_form(columns, item)
    constants: dict[str, Any] = {"SMOOTHING": smoothing, "WIDTH": width, "VECTORS": vectors}
    signature = {
        "logits": f"*{dtype}", "labels": "*i64", "weights": "*fp32", "losses": "*fp32", "gradient": f"*{dtype}",
        "columns": "i32", "logits_stride": "i32", "gradient_stride": "i32", "weights_stride": "i32",
        "ignore_index": "i32", "smoothing": "fp32", "z_loss": "fp32",
    } | dict.fromkeys(constants, "constexpr")  # fmt: skip
    if not gradient:
        constants["gradient"] = None
        signature["gradient"] = "constexpr"
    extras = [text for text, wanted in (("loss only", not gradient), ("label smoothing", smoothing)) if wanted]
    return KernelVariant(
        "cross_entropy_kernel", ", ".join([dtype, *extras]), "cross_entropy_kernels", signature, constants,
        width * vectors, float(item * (3 if gradient else 1)), masked=True, warps=warps,
        aligned=("columns", "logits_stride", "gradient_stride"),
    )  # fmt: skip


def scale_variant(dtype: str, *, in_place: bool) -> KernelVariant:
    """The scaling of a kept gradient."""
    constants: dict[str, Any] = {"SKIP_ONES": in_place, "BLOCK": cross_entropy_scale.BLOCK}
    signature = {
        "source": f"*{dtype}", "factors": "*fp32", "result": f"*{dtype}", "columns": "i32", "tiles": "i32",
        "factors_stride": "i32",
    } | dict.fromkeys(constants, "constexpr")  # fmt: skip
    return KernelVariant(
        "scale_kernel", f"{dtype}, in place" if in_place else dtype, "cross_entropy_kernels", signature, constants,
        cross_entropy_scale.BLOCK, 2.0 * _ITEMSIZE[dtype], masked=True, aligned=("columns",), warps=8,
    )  # fmt: skip


def variants() -> Iterator[KernelVariant]:
    """All forms."""
    yield rows_variant("bf16")
    yield rows_variant("fp32")
    yield rows_variant("bf16", gradient=False)
    yield rows_variant("fp32", smoothing=True)
    signature = {"labels": "*i64", "weight": "*fp32", "rows": "i32", "ignore_index": "i32", "BLOCK": "constexpr"}
    yield KernelVariant("mean_weight_kernel", "int64", "cross_entropy_kernels", signature, {"BLOCK": 1024})
    yield scale_variant("bf16", in_place=True)
    yield scale_variant("fp32", in_place=False)
