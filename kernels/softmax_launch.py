"""Launches of the softmax kernels: how rows are shared out among programs, and what the kernels are told of strides."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import operator
from .dropout import threshold_and_scale
from .support import launch_options, on_device

#: Longest row that the kernels take; it is whole in the registers of one program.
MAX_COLUMNS = 8192

#: Elements of a warp: sixteen a thread, two or four 16-byte accesses in flight for each tensor.
WARP_ELEMENTS = 512

#: Programs that keep every GPU busy: about two for each of an H100's places, or eight without a gradient of the bias.
PROGRAMS, BIAS_PROGRAMS = 8192, 1024

#: Most batches that a program takes where it need not take all.
BATCHES_OF_PROGRAM = 8

_TRITON_DTYPES = frozenset({torch.float32, torch.bfloat16, torch.float16})


class Form(NamedTuple):
    """How a program is laid out.

    Attributes:
        rows: queries of a program, a power of two.
        width: elements of a row with padding, a power of two, at least 8.
        warps: warps of a program.
    """

    rows: int
    width: int
    warps: int


def launch_form(queries: int, columns: int) -> Form:
    """Layout for so many queries of so many columns.

    A warp takes whole rows up to 512 columns, so that no reduction waits for other warps: one row of 512, four of 96.
    Longer rows take a warp for each 512 columns.
    """
    width = max(8, _power_of_two(columns))
    rows = min(max(1, WARP_ELEMENTS // width), _power_of_two(queries))
    return Form(rows, width, max(1, rows * width // WARP_ELEMENTS))


def batches_of_program(batches: int, programs: int, *, sums: bool) -> int:
    """Batches that one program takes, given the programs that one batch has.

    More batches read a bias less often; fewer make more programs. A program that sums the gradient of a bias takes all
    of them unless too few programs remain: each part of the batch has a partial sum to write and to read again.
    """
    if sums:
        return math.ceil(batches / min(batches, math.ceil(BIAS_PROGRAMS / programs)))
    return max(1, min(BATCHES_OF_PROGRAM, batches * programs // PROGRAMS))


def takes_triton(rows: Tensor, *dtypes: torch.dtype | None) -> bool:
    """Whether the kernels run for such rows, with other tensors of these types (booleans are masks)."""
    known = all(dtype is None or dtype in _TRITON_DTYPES or dtype == torch.bool for dtype in (rows.dtype, *dtypes))
    return known and rows.shape[-1] <= MAX_COLUMNS and operator.use_triton(rows)


def launch_forward(
    scores: Tensor, bias: Tensor | None, mask: Tensor | None, seed: Tensor | None, dropout: float, probs: Tensor
) -> None:
    """Fill ``probs``, which is contiguous; see :mod:`.softmax` for the others."""
    from .softmax_kernels import softmax_kernel

    if not probs.numel():
        return
    plan = _Plan(probs.shape, sums=False)
    scores, bias, mask = _rows(scores), _rows_of(bias, probs.shape), _rows_of(mask, probs.shape)
    strides, align = _strides([scores, bias, mask], plan.columns)
    with on_device(probs.device):
        softmax_kernel[plan.grid](
            scores, bias, mask, seed, probs, *plan.counts(align), *threshold_and_scale(dropout), *strides,
            **constants_of(plan.form, align=align, per_batch=_per_batch(bias)),
            **launch_options() | {"num_warps": plan.form.warps},
        )  # fmt: skip


def launch_backward(
    grad: Tensor, saved: Tensor, bias: Tensor | None, mask: Tensor | None, seed: Tensor | None, dropout: float,
    grad_scores: Tensor, bias_dtype: torch.dtype | None,
) -> Tensor | None:  # fmt: skip
    """Fill ``grad_scores``, which is contiguous, and return the gradient [1, H, Q, K] of a bias of ``bias_dtype``."""
    from .softmax_kernels import softmax_backward_kernel

    sums = bias_dtype is not None
    if not grad_scores.numel():
        return grad_scores.new_zeros((1, *grad_scores.shape[1:]), dtype=bias_dtype) if sums else None
    plan = _Plan(grad_scores.shape, sums=sums)
    grad_bias = None
    if sums:
        dtype = bias_dtype if plan.chunks == 1 else torch.float32
        grad_bias = grad_scores.new_empty((plan.chunks, *grad_scores.shape[1:]), dtype=dtype)
    saved, grad, bias, mask = _rows(saved), _rows(grad), _rows_of(bias, grad.shape), _rows_of(mask, grad.shape)
    strides, align = _strides([saved, grad, bias, mask], plan.columns)
    with on_device(grad.device):
        softmax_backward_kernel[plan.grid](
            saved, bias, mask, seed, grad, grad_scores, grad_bias, *plan.counts(align), *threshold_and_scale(dropout),
            *strides,
            **constants_of(plan.form, align=align, per_batch=_per_batch(bias)),
            **launch_options() | {"num_warps": plan.form.warps},
        )  # fmt: skip
    if grad_bias is not None and plan.chunks > 1:
        return grad_bias.sum(0, keepdim=True).to(bias_dtype)
    return grad_bias


class _Plan:
    """Programs for probabilities of a shape [B, H, Q, K]."""

    def __init__(self, shape: torch.Size, *, sums: bool) -> None:
        self.batches, self.heads, self.queries, self.columns = shape
        self.form = launch_form(self.queries, self.columns)
        programs = self.heads * math.ceil(self.queries / self.form.rows)
        self.chunk = batches_of_program(self.batches, programs, sums=sums)
        self.chunks = math.ceil(self.batches / self.chunk)
        self.grid = (self.chunks * programs,)

    def counts(self, align: int) -> tuple[int, ...]:
        """What the kernels are told of sizes."""
        return self.batches, self.heads, self.queries, self.columns // align, self.chunk, self.chunks


def _rows(tensor: Tensor) -> Tensor:
    """A tensor with contiguous rows."""
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] == 1 else tensor.contiguous()


def _rows_of(tensor: Tensor | None, shape: torch.Size) -> Tensor | None:
    """A bias or a mask as if it had ``shape``, but for its own batch; booleans as bytes."""
    if tensor is None:
        return None
    rows = _rows(tensor.expand(-1, -1, -1, shape[3])).expand(-1, *shape[1:])
    return rows.view(torch.uint8) if rows.dtype == torch.bool else rows


def _strides(tensors: list[Tensor | None], columns: int) -> tuple[list[int], int]:
    """Strides of batch, head and query of each tensor, over the largest power of two that divides all; at most 8."""
    strides = [
        0 if tensor is None or tensor.shape[dim] == 1 else tensor.stride(dim) for tensor in tensors for dim in range(3)
    ]
    align = math.gcd(8, columns, *strides)
    return [stride // align for stride in strides], align


def _per_batch(bias: Tensor | None) -> bool:
    return bias is not None and bias.shape[0] > 1


def _power_of_two(number: int) -> int:
    """The smallest power of two that is not below ``number``."""
    return 1 << max(0, number - 1).bit_length()


def constants_of(form: Form, *, align: int = 8, per_batch: bool = False) -> dict[str, Any]:
    """The constants of a launch."""
    return {"BIAS_PER_BATCH": per_batch, "ALIGN": align, "ROWS": form.rows, "WIDTH": form.width}
