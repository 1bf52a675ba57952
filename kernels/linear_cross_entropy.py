"""Cross-entropy of a linear layer's output, which is never stored as a whole.

Rows are taken in chunks: the product with the weight goes into one buffer, the kernel of :mod:`.cross_entropy` replaces
these logits by their gradient, and two more products make the gradients of the hidden states and of the weight from
it. So the gradients exist after the forward pass, and the backward pass only scales them; where it brings one number
for each row (``reduction="none"``), it computes the logits again.

The idea of gradients in the forward pass is that of P.-L. Hsu et al., "Liger Kernel" (arXiv 2410.10989).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import UsageError
from ..profiler.costs import Cost, matmul, register
from ..profiler.costs.cost import flatten, matrix_unit, scalar, tensor, touched_bytes
from ..profiler.ops import OpRecord
from . import cross_entropy_scale
from .cross_entropy import finite_weight, late_size, reduce_losses, row_weight, split_weight
from .cross_entropy_rows import Terms, check_labels, check_terms, loss_dtype, row_losses
from .cross_entropy_scale import SECOND_DERIVATIVE, scale_kept
from .operator import define, differentiate, refuse_second_derivative

#: Fewest rows of a chunk: fewer would leave matrix units idle.
FEWEST_ROWS = 256

#: What sums of products may reach in fp16: half of its largest number.
FP16_ROOM = 32752.0


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    bias: Tensor | None = None,
    chunk_rows: int | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """``cross_entropy(linear(hidden, weight, bias), labels)`` without the full logits.

    Products are done in the type of ``hidden``, under autocast in autocast's, and the loss in fp32. Gradients are
    computed with the loss, only those that are wanted; that of the weight is summed over the chunks in fp32, and, for
    fp16 products, kept in fp32 until the backward pass.

    Args:
        hidden: [..., D], any strides.
        weight: [V, D]; an embedding tied to it needs nothing special.
        labels: [...], int64 or int32 class indices.
        bias: [V].
        chunk_rows: rows whose logits exist at once; :func:`default_chunk_rows` when None.
        ignore_index: label of rows that have neither loss nor gradient.
        label_smoothing: see :func:`.cross_entropy.cross_entropy`.
        z_loss: likewise.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Returns:
        fp32 loss (fp64 for fp64 products), of the shape of the labels for ``"none"``, else a scalar.

    Raises:
        UsageError: shapes or types do not fit, or, in torch's path on a CPU, a label is not a class.
    """
    check_terms(Terms(ignore_index, label_smoothing, z_loss), reduction)
    hidden = _in_autocast_dtype(hidden)
    _check(hidden, weight, bias)
    check_labels(labels, tuple(hidden.shape[:-1]))
    rows = hidden.reshape(-1, hidden.shape[-1])
    if chunk_rows is None:
        chunk_rows = default_chunk_rows(rows.shape[1], hidden.element_size())
    if chunk_rows < 1:
        raise UsageError(f"chunk_rows is a number of rows, not {chunk_rows}")
    learning = torch.is_grad_enabled()
    wanted = [learning and one is not None and one.requires_grad for one in (hidden, weight, bias)]
    loss = linear_cross_entropy_op(
        rows, weight, bias, labels.reshape(-1), chunk_rows, ignore_index, label_smoothing, z_loss, reduction, wanted,
        True
    )[0]  # fmt: skip
    return loss.reshape(labels.shape) if reduction == "none" else loss


def default_chunk_rows(features: int, itemsize: int) -> int:
    """Rows of a chunk by the memory rule: logits take no more than the weight's gradient in fp32; 256 rows at least.

    That gradient, [V, D], has to be there anyway. V cancels out: the rule is 4 D / ``itemsize`` rows. Chunks of less
    than about half of that would move more bytes to add up the weight's gradient, once a chunk, than for their logits.

    Args:
        features: D.
        itemsize: bytes of a logit.
    """
    return max(FEWEST_ROWS, 4 * features // itemsize)


def _in_autocast_dtype(hidden: Tensor) -> Tensor:
    kind = hidden.device.type
    if torch.is_autocast_enabled(kind) and hidden.dtype != torch.float64:
        return hidden.to(torch.get_autocast_dtype(kind))
    return hidden


def _check(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    if weight.dim() != 2 or hidden.dim() == 0 or hidden.shape[-1] != weight.shape[1] or not weight.shape[0]:
        raise UsageError(f"hidden {tuple(hidden.shape)} and weight {tuple(weight.shape)} should be [..., D] and [V, D]")
    if bias is not None and tuple(bias.shape) != (weight.shape[0],):
        raise UsageError(f"bias {tuple(bias.shape)} should have one number for each of {weight.shape[0]} classes")
    autocast = torch.is_autocast_enabled(hidden.device.type)
    for name, one in (("weight", weight), ("bias", bias)):
        if one is not None and one.dtype != hidden.dtype and not autocast:
            raise UsageError(f"hidden is {hidden.dtype} and {name} {one.dtype}: cast one of them, or use autocast")


# -------------------------------------------------------------------- the chunks


class _Gradients(NamedTuple):
    """Gradients that are wanted, being filled; the others are ``None``."""

    hidden: Tensor | None
    weight: Tensor | None
    bias: Tensor | None

    @classmethod
    def like(cls, hidden: Tensor, weight: Tensor, wanted: Sequence[bool]) -> _Gradients:
        """Gradients before the first chunk. Those that add up over chunks are fp32 at least."""
        wide = loss_dtype(hidden.dtype)
        make = hidden.new_empty if len(hidden) else hidden.new_zeros  # the first chunk overwrites
        return cls(
            hidden.new_empty(hidden.shape) if wanted[0] else None,
            make(weight.shape, dtype=wide) if wanted[1] else None,
            hidden.new_zeros(weight.shape[0], dtype=wide) if wanted[2] else None,
        )

    def add(self, part: slice, slope: Tensor, hidden: Tensor, weight: Tensor) -> None:
        """Add what a chunk of rows brings, from the gradient of its logits."""
        if self.hidden is not None:
            torch.mm(slope, weight, out=self.hidden[part])
        if self.weight is not None:
            self._add_to_weight(slope.t(), hidden[part], first=part.start == 0)
        if self.bias is not None:
            self.bias.add_(slope.sum(0, dtype=self.bias.dtype))

    def _add_to_weight(self, slope: Tensor, hidden: Tensor, *, first: bool) -> None:
        assert self.weight is not None
        if first and hidden.dtype == self.weight.dtype:
            torch.mm(slope, hidden, out=self.weight)
        elif hidden.dtype == self.weight.dtype:
            self.weight.addmm_(slope, hidden)
        elif hidden.dtype == torch.float16:
            shrink = _shrink(hidden)
            product = torch.mm(slope, hidden * shrink.to(hidden.dtype))
            (self.weight.zero_() if first else self.weight).addcmul_(product, shrink.reciprocal())
        elif first:
            self.weight.copy_(torch.mm(slope, hidden))
        else:
            self.weight.add_(torch.mm(slope, hidden))

    def finished(self, like: Tensor, dtypes: Sequence[torch.dtype]) -> list[Tensor]:
        """Gradients in the given types, empty where not wanted, on the device of ``like``."""
        return [like.new_empty(0, dtype=dtype) if one is None else one.to(dtype) for one, dtype in zip(self, dtypes)]


def _shrink(hidden: Tensor) -> Tensor:
    """Power of two, at most one, with which products of fp16 do not overflow, fp32 of shape [1, 1].

    ``hidden`` [rows, D] is multiplied by it, and summed over the rows times numbers of about one at most, gradients of
    logits. It is found without waiting for the device.
    """
    largest_sum = torch.linalg.vector_norm(hidden, torch.inf, dtype=torch.float32) * hidden.shape[0]
    return (FP16_ROOM / largest_sum).log2().floor().clamp(max=0.0).exp2().reshape(1, 1)


def _dtypes(hidden: Tensor, weight: Tensor, bias: Tensor | None, *, reduced: bool) -> list[torch.dtype]:
    """Types of the gradients of all three, of losses that are ``reduced`` before the backward pass or not.

    Before a mean's weight, sums over many rows are too large for fp16, which is why they are then kept in fp32.
    """
    own = [hidden.dtype, weight.dtype, weight.dtype if bias is None else bias.dtype]
    if not reduced or hidden.dtype != torch.float16:
        return own
    return own[:1] + [torch.promote_types(dtype, torch.float32) for dtype in own[1:]]


def _chunks(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, row_weights: Tensor | None, chunk_rows: int,
    terms: Terms, wanted: Sequence[bool], dtypes: Sequence[torch.dtype],
) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
    """Losses of all rows and the wanted gradients, of ``dtypes``; both times ``row_weights``, one or one for a row."""
    rows, classes = hidden.shape[0], weight.shape[0]
    product_weight = weight.to(hidden.dtype)
    product_bias = None if bias is None else bias.to(hidden.dtype)
    losses = hidden.new_empty(rows, dtype=loss_dtype(hidden.dtype))
    gradients = _Gradients.like(hidden, weight, wanted)
    buffer = hidden.new_empty(min(rows, chunk_rows), classes)
    for first in range(0, rows, chunk_rows):
        part = slice(first, min(rows, first + chunk_rows))
        logits = buffer[: part.stop - first]
        if product_bias is None:
            torch.mm(hidden[part], product_weight.t(), out=logits)
        else:
            torch.addmm(product_bias, hidden[part], product_weight.t(), out=logits)
        of_rows = row_weights if row_weights is None or row_weights.numel() == 1 else row_weights[part]
        row_losses(logits, labels[part], of_rows, losses[part], logits if any(wanted) else None, terms)
        gradients.add(part, logits, hidden, product_weight)
    return losses, gradients.finished(hidden, dtypes)


# -------------------------------------------------------------------- the operator


def _forward(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, chunk_rows: int, ignore_index: int,
    label_smoothing: float, z_loss: float, reduction: str, wanted: Sequence[bool],
    owned: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Loss, gradients of hidden, weight and bias, and what they are yet to be multiplied by.

    ``owned`` says that the caller lets go of the gradients, so that the backward pass may overwrite them.
    """
    terms = Terms(ignore_index, label_smoothing, z_loss)
    labels = labels.contiguous()
    mean = row_weight(hidden, labels, terms, reduction)
    early, late = split_weight(hidden, mean)
    reduced = reduction != "none"
    kept, dtypes = wanted if reduced else [False] * 3, _dtypes(hidden, weight, bias, reduced=reduced)
    losses, gradients = _chunks(hidden, weight, bias, labels, early, chunk_rows, terms, kept, dtypes)
    return reduce_losses(losses, reduction, late), gradients[0], gradients[1], gradients[2], finite_weight(late)


def _backward_rows(
    grad_losses: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, chunk_rows: int,
    ignore_index: int, label_smoothing: float, z_loss: float, wanted: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of hidden, weight and bias of losses that are not reduced, from logits computed again."""
    terms = Terms(ignore_index, label_smoothing, z_loss)
    of_rows, dtypes = grad_losses.contiguous(), _dtypes(hidden, weight, bias, reduced=False)
    gradients = _chunks(hidden, weight, bias, labels.contiguous(), of_rows, chunk_rows, terms, wanted, dtypes)[1]
    return gradients[0], gradients[1], gradients[2]


def _empty_gradients(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, wanted: Sequence[bool], *, reduced: bool
) -> tuple[Tensor, Tensor, Tensor]:
    dtypes = _dtypes(hidden, weight, bias, reduced=reduced)
    of_hidden, of_weight, of_bias = (
        hidden.new_empty(one.shape if asked and one is not None else (0,), dtype=dtype)
        for one, asked, dtype in zip((hidden, weight, bias), wanted, dtypes)
    )
    return of_hidden, of_weight, of_bias


def _fake(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, chunk_rows: int, ignore_index: int,
    label_smoothing: float, z_loss: float, reduction: str, wanted: Sequence[bool],
    owned: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    dtype = loss_dtype(hidden.dtype)
    reduced = reduction != "none"
    loss = hidden.new_empty(() if reduced else (hidden.shape[0],), dtype=dtype)
    late = hidden.new_empty(late_size(hidden, reduction), dtype=dtype)
    kept = wanted if reduced else [False] * 3
    return loss, *_empty_gradients(hidden, weight, bias, kept, reduced=reduced), late


def _fake_backward_rows(
    grad_losses: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, chunk_rows: int,
    ignore_index: int, label_smoothing: float, z_loss: float, wanted: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return _empty_gradients(hidden, weight, bias, wanted, reduced=False)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    arguments = inputs[:8]
    ctx.reduction, ctx.wanted, ctx.owned = inputs[8:]
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*output[1:])
    if ctx.reduction == "none":
        ctx.save_for_backward(*arguments[:4])
        ctx.options = arguments[4:]
    else:
        ctx.save_for_backward(*output[1:])
        ctx.dtypes = _dtypes(*inputs[:3], reduced=False)


def _backward(ctx: Any, grad_loss: Tensor | None, *of_kept: None) -> tuple[Tensor | None, ...]:
    if grad_loss is None:
        return (None,) * 11
    refuse_second_derivative(*SECOND_DERIVATIVE)
    if ctx.reduction == "none":
        gradients = linear_cross_entropy_backward_op(grad_loss, *ctx.saved_tensors, *ctx.options, ctx.wanted)
    else:
        *gradients, late = ctx.saved_tensors
        factors = grad_loss * late if late.numel() else grad_loss
        weighted = late.numel() > 0
        gradients = [
            scale_kept(one, factors, owned=ctx.owned, weighted=weighted).to(dtype) if asked else one
            for one, asked, dtype in zip(gradients, ctx.wanted, ctx.dtypes)
        ]
    of_hidden, of_weight, of_bias = (one if asked else None for one, asked in zip(gradients, ctx.wanted))
    return of_hidden, of_weight, of_bias, *[None] * 8


_ARGUMENTS = (
    "Tensor hidden, Tensor weight, Tensor? bias, Tensor labels, int chunk_rows, int ignore_index, "
    "float label_smoothing, float z_loss"
)
linear_cross_entropy_op = define(
    f"linear_cross_entropy({_ARGUMENTS}, str reduction, bool[] wanted, bool owned) -> "
    "(Tensor, Tensor, Tensor, Tensor, Tensor)",
    _forward,
    _fake,
)
linear_cross_entropy_backward_op = define(
    f"linear_cross_entropy_backward(Tensor grad_losses, {_ARGUMENTS}, bool[] wanted) -> (Tensor, Tensor, Tensor)",
    _backward_rows,
    _fake_backward_rows,
)
differentiate("linear_cross_entropy", _backward, _setup)


# -------------------------------------------------------------------- costs


def _products_cost(record: OpRecord, first: int, products: int) -> Cost:
    """``products`` matrix products of [N, D] and [V, D]; tensors are read and written once."""
    hidden, weight = tensor(record, first), tensor(record, first + 1)
    flops = 2.0 * hidden.numel * weight.shape[0] * products
    read = touched_bytes(flatten(record.args))
    return Cost(flops, read, touched_bytes(record.outputs), matrix_unit(hidden.dtype), hidden.dtype)


def _wanted_products(record: OpRecord, position: int) -> int:
    wanted = scalar(record, position)
    return sum(map(bool, wanted[:2])) if isinstance(wanted, (tuple, list)) else 2


def linear_cross_entropy_cost(record: OpRecord) -> Cost:
    """One product for the logits, and one for each gradient computed with them, hidden's and the weight's.

    These two are the backward pass's work done early, so the forward phase, where the operator runs, has up to three
    products and the backward phase none of them; the sum over the step, of which MFU is made, is that of the plain
    model. As for attention, only products are counted as FLOPs. Bytes are compulsory: chunks of logits, written by one
    product, loaded twice and overwritten by the loss and read by two products, are traffic inside the op.
    """
    products = 0 if scalar(record, 8) == "none" else _wanted_products(record, 9)
    return _products_cost(record, 0, 1 + products)


def linear_cross_entropy_backward_cost(record: OpRecord) -> Cost:
    """The products of the gradients, and that of the logits, which are computed again."""
    return _products_cost(record, 1, 1 + _wanted_products(record, 9))


def register_costs() -> None:
    """Teach the profiler to price the operator, and to count its products as the model's."""
    rules = {
        "edgeroof::linear_cross_entropy": linear_cross_entropy_cost,
        "edgeroof::linear_cross_entropy_backward": linear_cross_entropy_backward_cost,
    }
    for name, rule in rules.items():
        register(name, rule)
        matmul.RULES[name] = rule
    cross_entropy_scale.register_costs()
