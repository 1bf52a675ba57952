"""Losses and gradients of rows of logits, written where the caller says: what both cross-entropies are made of."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import UsageError
from . import operator
from .support import launch_options, on_device

#: Elements of a row that one program handles at once.
TILE = 8192

#: Bytes of the widest access of a thread.
ACCESS_BYTES = 16

_TRITON_DTYPES = frozenset({torch.float32, torch.bfloat16, torch.float16})

#: Elements that torch's path takes at once: few enough for a CPU's cache, or enough to fill a GPU.
_CPU_ELEMENTS, _GPU_ELEMENTS = 1 << 18, 1 << 26


class Terms(NamedTuple):
    """What the loss of a row is made of.

    Attributes:
        ignore_index: label of rows that have neither loss nor gradient.
        label_smoothing: share of the target spread evenly over all classes.
        z_loss: weight of the squared logarithm of the partition function.
    """

    ignore_index: int = -100
    label_smoothing: float = 0.0
    z_loss: float = 0.0


def check_terms(terms: Terms, reduction: str) -> None:
    """Refuse a reduction or terms that make no sense.

    Raises:
        UsageError: one of them does.
    """
    if reduction not in ("mean", "sum", "none"):
        raise UsageError(f"unknown reduction {reduction!r}; use 'mean', 'sum' or 'none'")
    if not 0.0 <= terms.label_smoothing <= 1.0:
        raise UsageError(f"label_smoothing is a share between 0 and 1, not {terms.label_smoothing}")


def check_labels(labels: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse labels that are no class indices, one a row.

    Raises:
        UsageError: their type or their shape is another.
    """
    if labels.dtype not in (torch.int64, torch.int32):
        raise UsageError(f"labels are class indices of type int64 or int32, not {labels.dtype}")
    if tuple(labels.shape) != tuple(shape):
        raise UsageError(f"labels of shape {tuple(labels.shape)} do not fit {tuple(shape)} rows: one label a row")


def loss_dtype(dtype: torch.dtype) -> torch.dtype:
    """Type in which losses of logits are computed and returned: fp32, or fp64 for fp64."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def takes_triton(logits: Tensor) -> bool:
    """Whether the Triton kernels run for these logits."""
    return logits.dtype in _TRITON_DTYPES and operator.use_triton(logits)


def launch_form(columns: int, itemsize: int) -> tuple[int, int, int]:
    """Elements of a vector, vectors of a tile, and warps, for rows of so many columns.

    A thread has two 16-byte accesses in flight. A tile of 8192 is 512 threads in bf16 and 1024 in fp32, so an H100
    works on at most 4 rows of 64 KB an SM, or 2 of 128 KB: 34 MB at 32,128 columns, less than its L2 of 50 MB; an
    Orin on 3 MB or 2 MB, of 4 MB. More rows at once would be read twice from memory.
    """
    width = ACCESS_BYTES // itemsize
    tile = min(TILE, max(256, 1 << (columns - 1).bit_length()))
    vectors = tile // width
    return width, vectors, max(1, vectors // 64)


def mean_weight(labels: Tensor, ignore_index: int, dtype: torch.dtype, *, triton: bool) -> Tensor:
    """Weight of a row in the mean over rows that are not ignored, shape [1]; infinite when there is none."""
    if not triton:
        return (labels != ignore_index).sum().to(dtype).reciprocal().reshape(1)
    from .cross_entropy_kernels import mean_weight_kernel

    weight = torch.empty(1, dtype=torch.float32, device=labels.device)
    with on_device(labels.device):
        mean_weight_kernel[(1,)](labels, weight, labels.numel(), ignore_index, BLOCK=1024, **launch_options())
    return weight


def row_losses(
    logits: Tensor, labels: Tensor, weights: Tensor | None, losses: Tensor, gradient: Tensor | None, terms: Terms
) -> None:
    """Losses of rows, and their gradients, both times the weights.

    Args:
        logits: [N, V], elements of a row side by side.
        labels: [N], contiguous.
        weights: [1] or [N] of the losses' type; ``None`` for ones.
        losses: [N], written.
        gradient: [N, V] in the type of the logits, written; it may be ``logits`` itself. ``None`` to do without.
        terms: what the loss is made of.

    Raises:
        UsageError: in torch's path on a CPU, a label is not a class. Elsewhere such a row becomes NaN.
    """
    if not logits.numel():
        return
    if takes_triton(logits):
        _launch(logits, labels, weights, losses, gradient, terms)
        return
    step = max(1, (_CPU_ELEMENTS if logits.device.type == "cpu" else _GPU_ELEMENTS) // logits.shape[1])
    for first in range(0, logits.shape[0], step):
        part = slice(first, first + step)
        weight = weights[part] if weights is not None and weights.numel() > 1 else weights
        out = None if gradient is None else gradient[part]
        losses[part] = _torch_rows(logits[part], labels[part].long(), weight, out, terms)


def _launch(
    logits: Tensor, labels: Tensor, weights: Tensor | None, losses: Tensor, gradient: Tensor | None, terms: Terms
) -> None:
    from .cross_entropy_kernels import cross_entropy_kernel

    rows, columns = logits.shape
    width, vectors, warps = launch_form(columns, logits.element_size())
    with on_device(logits.device):
        cross_entropy_kernel[(rows,)](
            logits, labels, weights, losses, gradient, columns, logits.stride(0),
            0 if gradient is None else gradient.stride(0), 0 if weights is None or weights.numel() == 1 else 1,
            terms.ignore_index, float(terms.label_smoothing), float(terms.z_loss),
            SMOOTHING=terms.label_smoothing != 0, WIDTH=width, VECTORS=vectors,
            **launch_options() | {"num_warps": warps},
        )  # fmt: skip


def _torch_rows(
    logits: Tensor, labels: Tensor, weights: Tensor | None, gradient: Tensor | None, terms: Terms
) -> Tensor:
    """Losses of a few rows; their gradient is written."""
    columns = logits.shape[1]
    kept = labels != terms.ignore_index
    known = (labels >= 0) & (labels < columns)
    if labels.device.type == "cpu":
        _refuse_unknown(labels, kept & ~known, columns)
    scores = logits.to(loss_dtype(logits.dtype))
    weight = scores.new_ones(1) if weights is None else weights
    weight = torch.where(known, weight, torch.nan)
    target = torch.where(known, labels, 0)[:, None]
    slope = None if gradient is None else torch.softmax(scores, -1)
    log_partition = _log_partition(scores, slope)
    loss = log_partition.of(scores.gather(1, target)[:, 0])
    if terms.label_smoothing:
        loss = (1 - terms.label_smoothing) * loss + terms.label_smoothing * log_partition.of(scores.mean(-1))
    if terms.z_loss:
        loss = loss + terms.z_loss * log_partition.whole.square()
    if slope is not None and gradient is not None:
        if terms.z_loss:
            slope *= 1 + 2 * terms.z_loss * log_partition.whole[:, None]
        if terms.label_smoothing:
            slope -= terms.label_smoothing / columns
        slope.scatter_add_(1, target, slope.new_full((), terms.label_smoothing - 1).expand_as(target))
        torch.mul(slope, weight[:, None], out=gradient)
        _clear(gradient, ~kept)
    ignored = 0.0 if weights is None else weights * 0.0  # NaN when the weight is infinite: all are ignored
    return torch.where(kept, loss * weight, ignored)


class _LogPartition(NamedTuple):
    """Logarithm of a row's sum of exponentials, in two parts, of which the smaller would be rounded away in their sum.

    Attributes:
        highest: score.
        log_sum: logarithm of the sum of exponentials of scores less the highest.
    """

    highest: Tensor
    log_sum: Tensor

    @property
    def whole(self) -> Tensor:
        """Both parts."""
        return self.highest + self.log_sum

    def of(self, score: Tensor) -> Tensor:
        """What a score is below it."""
        return (self.highest - score) + self.log_sum


def _log_partition(scores: Tensor, probabilities: Tensor | None) -> _LogPartition:
    """Of each row; on a CPU the sum is found fastest in the largest probability, whose exponential is one."""
    highest = scores.amax(-1)
    if probabilities is not None:
        return _LogPartition(highest, -probabilities.amax(-1).log())
    return _LogPartition(highest, -torch.log_softmax(scores, -1).amax(-1))


def _clear(gradient: Tensor, rows: Tensor) -> None:
    """Zero the rows of a mask: on a CPU only they are touched, on a GPU nobody waits for their number."""
    if gradient.device.type == "cpu":
        gradient.index_fill_(0, rows.nonzero()[:, 0], 0)
    else:
        gradient.masked_fill_(rows[:, None], 0)


def _refuse_unknown(labels: Tensor, unknown: Tensor, columns: int) -> None:
    if bool(unknown.any()):
        worst = int(labels[unknown][0])
        raise UsageError(
            f"label {worst} is none of the {columns} classes 0 to {columns - 1}; rows to leave out carry ignore_index"
        )
