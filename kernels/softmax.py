"""Softmax of attention scores with position bias, mask and dropout: one read and one write of the scores.

PyTorch's own path adds the bias, adds the mask, takes the softmax and drops: four reads and four writes of a tensor as
large as the scores and a write of what was kept; then, for both gradients, four reads and two writes, and a read of
what was kept. Here bytes per score are, with bias and mask small beside the scores because batches or heads share them,

====================================  ============================  =====  =====
pass                                  moves                         bf16   fp32
====================================  ============================  =====  =====
forward                               scores, probabilities         4      8
backward                              two of that size, one         6      12
backward, with a gradient of a bias   the same, and bias / batches  6 +    12 +
====================================  ============================  =====  =====

The backward pass without dropout needs the probabilities, which are the result, and which the product with the values
keeps anyway. With dropout the result says nothing of what was dropped. Writing the undropped probabilities as well
would move six tensors in all; instead the scores are kept, which takes the same memory, the backward pass computes the
probabilities again from them, and five are moved. What dropout kept is drawn again from its seed, never stored.

A bias whose batch dimension is 1 gets its gradient in the same pass: a program takes the same rows of all batches and
sums them in registers, in fp32, in a fixed order. With too few rows for that, parts of the batch have partial sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from ..profiler.costs import Cost, register
from ..profiler.costs.cost import bytes_read, bytes_written, scalar, tensor
from ..profiler.ops import OpRecord
from . import softmax_torch
from .operator import define, differentiate, new_seed, refuse_second_derivative
from .softmax_launch import constants_of, launch_backward, launch_form, launch_forward, takes_triton
from .variants import KernelVariant

#: Per element: maximum, difference, exponential, sum, quotient; a sum each for bias and mask; choice and factor.
SOFTMAX_FLOPS, BACKWARD_FLOPS, DROPOUT_FLOPS = 5, 4, 2


def softmax(
    scores: Tensor,
    *,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    dropout: float = 0.0,
    seed: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Attention probabilities: ``dropout(softmax(scores + bias + mask))`` over the last dimension.

    Arithmetic is fp32 for half precision, whether autocast is on or not, and the result is rounded once. A row of which
    the mask leaves nothing, or that is minus infinity throughout, becomes zeros. The most negative finite number is no
    minus infinity: a row that has it everywhere is evenly spread, as PyTorch's own is.

    The Triton kernels take rows up to 8192 columns, in fp32, bf16 and fp16; anything else takes torch's path. They
    round the probability of dropout to a multiple of 2⁻¹⁶. They and torch's path draw different elements from a seed.

    Args:
        scores: [B, H, Q, K], any strides; they are copied if their rows are not contiguous.
        bias: [B or 1, H or 1, Q or 1, K or 1], added to the scores.
        mask: of such a shape, boolean (True takes part) or to be added; it has no gradient.
        dropout: probability with which an element is dropped, 0 to 1; the others are divided by its complement.
        seed: int64 of one element, on the device of the scores; drawn from torch's generator when ``None``.
        dtype: of the result; that of the scores when ``None``.

    Returns:
        [B, H, Q, K], contiguous.

    Raises:
        UsageError: an argument makes no sense.
    """
    _check(scores, bias, mask, dropout, seed)
    if dropout == 0.0:
        seed = None
    elif seed is None:
        seed = new_seed(scores.device)
    if bias is not None:
        bias = bias.expand(-1, *scores.shape[1:])
    return softmax_op(scores, bias, mask, seed, float(dropout), dtype or scores.dtype)


def plain_softmax(x: Tensor, dim: int = -1) -> Tensor:
    """Softmax over one dimension, by the same operator, but zeros where all is minus infinity.

    Args:
        x: floating numbers of any shape; they are copied unless ``dim`` is contiguous.
        dim: dimension that sums to one. From 8193 elements on it takes torch's path.

    Raises:
        UsageError: ``x`` is a single number or does not hold floating numbers.
    """
    if x.dim() == 0:
        raise UsageError("softmax needs a dimension to sum over, but got a single number")
    last = x.movedim(dim, -1)
    return softmax(last.reshape(1, 1, last.shape[:-1].numel(), last.shape[-1])).view(last.shape).movedim(-1, dim)


def _check(scores: Tensor, bias: Tensor | None, mask: Tensor | None, dropout: float, seed: Tensor | None) -> None:
    if scores.dim() != 4 or not scores.is_floating_point():
        raise UsageError(f"scores are floating numbers [B, H, Q, K], not {scores.dtype} {tuple(scores.shape)}")
    for name, added in (("bias", bias), ("mask", mask)):
        if added is None:
            continue
        if added.dim() != 4 or any(size not in (1, full) for size, full in zip(added.shape, scores.shape)):
            raise UsageError(f"a {name} of shape {tuple(added.shape)} does not fit scores {tuple(scores.shape)}")
        if not added.is_floating_point() and (name == "bias" or added.dtype != torch.bool):
            kinds = "floating numbers" if name == "bias" else "floating numbers to be added, or boolean"
            raise UsageError(f"a {name} is {kinds}, not {added.dtype}")
        if added.device != scores.device:
            raise UsageError(f"the {name} is on {added.device}, the scores are on {scores.device}")
    if mask is not None and mask.requires_grad:
        raise UsageError("a mask has no gradient; what is to be trained is a bias")
    if not 0.0 <= dropout <= 1.0:
        raise UsageError(f"dropout is a probability between 0 and 1, not {dropout}")
    if seed is not None and (seed.dtype != torch.int64 or seed.numel() != 1 or seed.device != scores.device):
        raise UsageError(f"a seed is one int64 on {scores.device}, not {seed.numel()} {seed.dtype} on {seed.device}")


# -------------------------------------------------------------------- the operators


def _forward(
    scores: Tensor, bias: Tensor | None, mask: Tensor | None, seed: Tensor | None, dropout: float, dtype: torch.dtype
) -> Tensor:
    if not takes_triton(scores, *_dtypes(bias, mask), dtype):
        return softmax_torch.forward(scores, bias, mask, seed, dropout, dtype).contiguous()
    probs = scores.new_empty(scores.shape, dtype=dtype)
    launch_forward(scores, bias, mask, seed, dropout, probs)
    return probs


def _fake_forward(
    scores: Tensor, bias: Tensor | None, mask: Tensor | None, seed: Tensor | None, dropout: float, dtype: torch.dtype
) -> Tensor:
    return scores.new_empty(scores.shape, dtype=dtype)


def _backward(
    grad: Tensor, saved: Tensor, bias: Tensor | None, mask: Tensor | None, seed: Tensor | None, dropout: float,
    dtype: torch.dtype, bias_dtype: torch.dtype | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradients of scores of ``dtype`` and of a bias [1, H, Q, K] of ``bias_dtype``, empty when that is ``None``.

    ``saved`` is the probabilities, or the scores when there is a ``seed``.
    """
    grad_bias = None
    if takes_triton(saved, *_dtypes(bias, mask, grad), dtype, bias_dtype):
        grad_scores = grad.new_empty(grad.shape, dtype=dtype)
        grad_bias = launch_backward(grad, saved, bias, mask, seed, dropout, grad_scores, bias_dtype)
    else:
        slope = softmax_torch.backward(grad, saved, bias, mask, seed, dropout)
        grad_scores = slope.to(dtype).contiguous()
        if bias_dtype is not None:
            grad_bias = slope.sum(0, keepdim=True).to(bias_dtype)
    return grad_scores, grad.new_empty(0, dtype=dtype) if grad_bias is None else grad_bias


def _fake_backward(
    grad: Tensor, saved: Tensor, bias: Tensor | None, mask: Tensor | None, seed: Tensor | None, dropout: float,
    dtype: torch.dtype, bias_dtype: torch.dtype | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    shape = (0,) if bias_dtype is None else (1, *grad.shape[1:])
    return grad.new_empty(grad.shape, dtype=dtype), grad.new_empty(shape, dtype=bias_dtype or dtype)


def _dtypes(*tensors: Tensor | None) -> list[torch.dtype | None]:
    return [None if one is None else one.dtype for one in tensors]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    scores, bias, mask, seed, dropout, _ = inputs
    if seed is None:
        ctx.save_for_backward(output, None, None, None)
    else:
        ctx.save_for_backward(scores, bias, mask, seed)
    ctx.dropout, ctx.dtype = dropout, scores.dtype
    ctx.bias_dtype = None if bias is None else bias.dtype
    ctx.bias_is_shared = bias is not None and bias.shape[0] == 1


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    refuse_second_derivative("softmax", "torch.softmax")
    saved, bias, mask, seed = ctx.saved_tensors
    wanted = ctx.needs_input_grad[1]
    summed = ctx.bias_dtype if wanted and ctx.bias_is_shared else None
    grad_scores, grad_bias = softmax_backward_op(grad, saved, bias, mask, seed, ctx.dropout, ctx.dtype, summed)
    if wanted and not ctx.bias_is_shared:
        grad_bias = grad_scores.to(ctx.bias_dtype)
    return grad_scores, grad_bias if wanted else None, None, None, None, None


softmax_op = define(
    "softmax(Tensor scores, Tensor? bias, Tensor? mask, Tensor? seed, float dropout, ScalarType dtype) -> Tensor",
    _forward,
    _fake_forward,
)
softmax_backward_op = define(
    "softmax_backward(Tensor grad, Tensor saved, Tensor? bias, Tensor? mask, Tensor? seed, float dropout, "
    "ScalarType dtype, ScalarType? bias_dtype) -> (Tensor, Tensor)",
    _backward,
    _fake_backward,
)
differentiate("softmax", _differentiate, _setup)


# -------------------------------------------------------------------- costs


def softmax_cost(record: OpRecord) -> Cost:
    """Scores, bias and mask are read once, probabilities written."""
    flops = _flops(record, SOFTMAX_FLOPS, first_added=1)
    return Cost(flops, bytes_read(record), bytes_written(record), "vector", _arithmetic(tensor(record, 0).dtype))


def softmax_backward_cost(record: OpRecord) -> Cost:
    """Two tensors of the scores' size are read, with bias and mask where scores are one of them, and one written."""
    again = SOFTMAX_FLOPS if scalar(record, 4) is not None else 0
    flops = _flops(record, BACKWARD_FLOPS + again, first_added=2)
    if scalar(record, 7) is not None:
        flops += tensor(record, 0).numel
    return Cost(flops, bytes_read(record), bytes_written(record), "vector", _arithmetic(tensor(record, 1).dtype))


def _flops(record: OpRecord, per_element: int, first_added: int) -> float:
    """FLOPs of a pass whose bias, mask and seed, if it has them, are the arguments from ``first_added`` on."""
    bias, mask, seed = (scalar(record, first_added + number) for number in range(3))
    adds = int(bias is not None) + int(mask is not None)
    return float((per_element + adds + (DROPOUT_FLOPS if seed is not None else 0)) * tensor(record, 0).numel)


def _arithmetic(dtype: str) -> str:
    return "fp64" if dtype == "fp64" else "fp32"


def register_costs() -> None:
    """Teach the profiler to price softmax and its gradient."""
    register("edgeroof::softmax", softmax_cost)
    register("edgeroof::softmax_backward", softmax_backward_cost)


# -------------------------------------------------------------------- forms for ahead-of-time compilation

_ITEMSIZE = {"fp32": 4, "bf16": 2, "fp16": 2, "u8": 1}
_COUNTS = ("batches", "heads", "queries", "columns", "chunk", "chunks", "threshold")


def forward_variant(
    dtype: str, *, queries: int = 512, columns: int = 512, mask: str | None = None, bias: bool = True,
    dropout: bool = True,
) -> KernelVariant:  # fmt: skip
    """The forward kernel; ``mask`` is its Triton type, ``"u8"`` for a boolean one.

    Bytes are all that it loads and stores: of bias and mask, most comes from the L2 cache.
    """
    given = {"scores": dtype, "bias": dtype if bias else None, "mask": mask, "seed": "i64" if dropout else None}
    loaded = [dtype, dtype if bias else None, mask]
    return _variant("softmax_kernel", given | {"probs": dtype}, [*loaded, dtype], ("scores",), queries, columns)


def backward_variant(
    dtype: str, *, queries: int = 512, columns: int = 512, mask: str | None = None, bias: bool = True,
    dropout: bool = True,
) -> KernelVariant:  # fmt: skip
    """The backward kernel, with a gradient of the bias if there is one; without dropout it reads neither."""
    given = {
        "saved": dtype, "bias": dtype if bias and dropout else None, "mask": mask if dropout else None,
        "seed": "i64" if dropout else None, "grad": dtype, "grad_scores": dtype, "grad_bias": dtype if bias else None,
    }  # fmt: skip
    moved = [kind for name, kind in given.items() if name != "seed"]
    return _variant("softmax_backward_kernel", given, moved, ("saved", "grad"), queries, columns)


def _variant(
    kernel: str, given: dict[str, str | None], moved: list[str | None], strided: tuple[str, ...], queries: int,
    columns: int,
) -> KernelVariant:  # fmt: skip
    form = launch_form(queries, columns)
    constants: dict[str, Any] = constants_of(form) | {name: None for name, kind in given.items() if kind is None}
    strides = [f"{name}_{dim}" for name in (*strided, "bias", "mask") for dim in "bhq"]
    signature = {name: f"*{kind}" for name, kind in given.items() if kind} | dict.fromkeys([*_COUNTS, *strides], "i32")
    signature |= {"scale": "fp32"} | dict.fromkeys(constants, "constexpr")
    return KernelVariant(
        kernel, _title(given, columns), "softmax_kernels", signature, constants, form.rows * form.width,
        float(sum(_ITEMSIZE[kind] for kind in moved if kind)), per_line=True, masked=True, warps=form.warps,
    )  # fmt: skip


def _title(given: dict[str, str | None], columns: int) -> str:
    dtype = given.get("scores") or given["saved"]
    parts = [f"{dtype} x {columns}"]
    parts += ["bias"] if given["bias"] or given.get("grad_bias") else []
    parts += ["boolean mask" if given["mask"] == "u8" else "mask"] if given["mask"] else []
    return ", ".join([*parts, *(["dropout"] if given["seed"] else [])])


def variants() -> Iterator[KernelVariant]:
    """The forms of T5's attentions, trained and evaluated, with both kinds of mask."""
    yield forward_variant("bf16", mask="bf16")
    yield forward_variant("fp32", mask="fp32")
    yield forward_variant("bf16", queries=96, columns=96, mask="u8", dropout=False)
    yield backward_variant("bf16", mask="bf16")
    yield backward_variant("fp32", mask="fp32")
    yield backward_variant("bf16", queries=96, columns=96, bias=False, mask="u8")
    yield backward_variant("bf16", columns=4096, dropout=False)
