"""Rules from an op's arguments to the shapes and types of its outputs: functions, and functions that make them.

A rule takes the arguments as a trace has them: tensors as :class:`~edgeroof.profiler.ops.TensorMeta`, lists of them as
tuples, plain values, ``None`` when absent and :data:`UNRECORDED` when not recorded. It answers ``None``, or raises
:class:`UnknownError`, where those it needs were not recorded: nothing is guessed. Which op has which rule is in
:mod:`.shapes`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from ..ops import TensorMeta
from .promotion import INTEGERS, SCALAR_TYPES, broadcast, promote

Outputs = tuple[TensorMeta, ...] | None
Rule = Callable[[Sequence[Any]], Outputs]


class _Unrecorded:
    """The value of an argument that the trace does not hold, which is not the same as ``None``."""

    def __repr__(self) -> str:
        return "UNRECORDED"


UNRECORDED = _Unrecorded()


class UnknownError(Exception):
    """An argument that the output depends on was not recorded."""


def _tensor(args: Sequence[Any], position: int) -> TensorMeta:
    value = args[position] if position < len(args) else None
    if not isinstance(value, TensorMeta):
        raise UnknownError
    return value


def _value(args: Sequence[Any], position: int) -> Any:
    value = args[position] if position < len(args) else None
    if value is UNRECORDED:
        raise UnknownError
    return value


def _dense(shape: Sequence[int], dtype: str) -> TensorMeta:
    return TensorMeta(tuple(shape), dtype)


def _cast(args: Sequence[Any], position: int, default: str) -> str:
    """The type named by a ``dtype`` argument, ``default`` when it is absent."""
    number = _value(args, position)
    if number is None:
        return default
    if number not in SCALAR_TYPES:
        raise UnknownError
    return SCALAR_TYPES[number]


def elementwise(dtype: str | None = None, true_division: bool = False) -> Rule:
    """Ops over broadcast tensors.

    Args:
        dtype: of the output; by default what the inputs are promoted to.
        true_division: whether integers become fp32.
    """

    def rule(args: Sequence[Any]) -> Outputs:
        metas = [arg for arg in args if isinstance(arg, TensorMeta)]
        if not metas:
            return None
        kind = dtype or promote(metas)
        if kind in INTEGERS and not dtype and (true_division or any(isinstance(arg, float) for arg in args)):
            kind = "fp32"
        return (_dense(broadcast([meta.shape for meta in metas]), kind),)

    return rule


def like(*positions: int) -> Rule:
    """Outputs shaped and typed like these arguments; absent ones have no output."""

    def rule(args: Sequence[Any]) -> Outputs:
        if all(args[position] is UNRECORDED or args[position] is None for position in positions):
            return None
        return tuple(_dense(args[i].shape, args[i].dtype) for i in positions if isinstance(args[i], TensorMeta))

    return rule


def like_list(args: Sequence[Any]) -> Outputs:
    """``_foreach_`` ops: each output is like the tensor in its place."""
    return tuple(_dense(meta.shape, meta.dtype) for meta in args[0])


def to_copy(args: Sequence[Any]) -> Outputs:
    """``_to_copy(self, dtype, ...)``."""
    source = _tensor(args, 0)
    return (_dense(source.shape, _cast(args, 1, source.dtype)),)


def _reduced(shape: tuple[int, ...], dims: Any, keep: Any) -> tuple[int, ...]:
    axes = range(len(shape)) if dims is None or dims == () else [dims] if isinstance(dims, int) else dims
    gone = {axis % max(len(shape), 1) for axis in axes}
    if keep:
        return tuple(1 if axis in gone else size for axis, size in enumerate(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in gone)


def reduction(dims: int | None, keep: int, dtype: int | str | None, full_arguments: int = 0, outputs: int = 1) -> Rule:
    """A reduction over the axes in argument ``dims``.

    Args:
        dims: position of the axes, ``None`` for a reduction of everything.
        keep: position of ``keepdim``.
        dtype: position of the ``dtype`` argument, or the output type, or ``None`` for the input's.
        full_arguments: with at most this many arguments it is the overload that reduces everything.
        outputs: 2 adds indices (int64).
    """

    def rule(args: Sequence[Any]) -> Outputs:
        source = _tensor(args, 0)
        everything = dims is None or len(args) <= full_arguments
        shape = () if dims is None or everything else _reduced(source.shape, _value(args, dims), _value(args, keep))
        kind = dtype if isinstance(dtype, str) else source.dtype
        if isinstance(dtype, int):
            kind = _cast(args, 1 if everything else dtype, "int64" if source.dtype in INTEGERS else source.dtype)
        values = _dense(shape, kind)
        return (values,) if outputs == 1 or everything else (values, _dense(shape, "int64"))

    return rule


def mm(first: int) -> Rule:
    """Matrix products, batched or not, of the arguments ``first`` and the next."""

    def rule(args: Sequence[Any]) -> Outputs:
        left, right = _tensor(args, first), _tensor(args, first + 1)
        return (_dense((*left.shape[:-1], right.shape[-1]), left.dtype),)

    return rule


def mv(args: Sequence[Any]) -> Outputs:
    """``mv(self, vec)``: a row for each of the matrix."""
    matrix = _tensor(args, 0)
    return (_dense(matrix.shape[:1], matrix.dtype),)


def linear(args: Sequence[Any]) -> Outputs:
    """``linear(input, weight, bias)``."""
    source, weight = _tensor(args, 0), _tensor(args, 1)
    return (_dense((*source.shape[:-1], weight.shape[0]), source.dtype),)


def _spatial(value: Any, rank: int) -> tuple[int, ...]:
    sizes = (value,) if isinstance(value, int) else tuple(value)
    return sizes * rank if len(sizes) == 1 else sizes


def _window(sizes: Sequence[int], kernel: Any, stride: Any, padding: Any, dilation: Any) -> tuple[int, ...]:
    """Positions of a sliding window in each dimension (rounding down)."""
    rank = len(sizes)
    kernel, padding, dilation = (_spatial(value, rank) for value in (kernel, padding, dilation))
    stride = _spatial(stride, rank) if stride else kernel
    return tuple(
        (size + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i, size in enumerate(sizes)
    )


def convolution(stride: int, padding: int, dilation: int, transposed: int | None) -> Rule:
    """Convolutions by the positions of their arguments; transposed ones are not known."""

    def rule(args: Sequence[Any]) -> Outputs:
        source, weight = _tensor(args, 0), _tensor(args, 1)
        if transposed is not None and _value(args, transposed):
            return None
        steps, pads, gaps = _value(args, stride), _value(args, padding), _value(args, dilation)
        sizes = _window(source.shape[2:], weight.shape[2:], steps, pads, gaps)
        return (_dense((source.shape[0], weight.shape[0], *sizes), source.dtype),)

    return rule


def max_pool(args: Sequence[Any]) -> Outputs:
    """``max_pool2d_with_indices(self, kernel_size, stride, padding, dilation, ceil_mode)``, rounding down."""
    source = _tensor(args, 0)
    kernel, stride, padding, dilation, round_up = (_value(args, position) for position in range(1, 6))
    if round_up:
        return None
    rank = len(_spatial(kernel, 1)) if not isinstance(kernel, int) else 2
    sizes = (*source.shape[:-rank], *_window(source.shape[-rank:], kernel, stride, padding, dilation))
    return _dense(sizes, source.dtype), _dense(sizes, "int64")


def layer_norm(args: Sequence[Any]) -> Outputs:
    """``native_layer_norm(input, normalized_shape, weight, ...)``, with mean and rstd."""
    source, axes = _tensor(args, 0), args[1]
    rank = len(axes) if isinstance(axes, tuple) else len(_tensor(args, 2).shape)
    rows = (*source.shape[: len(source.shape) - rank], *(1,) * rank)
    statistics = "fp32" if source.dtype in ("fp16", "bf16") else source.dtype
    return _dense(source.shape, source.dtype), _dense(rows, statistics), _dense(rows, statistics)


def batch_norm(args: Sequence[Any]) -> Outputs:
    """``native_batch_norm(input, ...)``, with mean and rstd of each channel."""
    source = _tensor(args, 0)
    channels = _dense(source.shape[1:2], "fp32")
    return _dense(source.shape, source.dtype), channels, channels


def dropout(args: Sequence[Any]) -> Outputs:
    """``native_dropout(input, p, train)``, with its mask."""
    source = _tensor(args, 0)
    return _dense(source.shape, source.dtype), _dense(source.shape, "bool")


def attention(args: Sequence[Any]) -> Outputs:
    """Scaled dot products of query, key and value, with the logarithm of the sum."""
    query, value = _tensor(args, 0), _tensor(args, 2)
    return _dense((*query.shape[:-1], value.shape[-1]), query.dtype), _dense(query.shape[:-1], "fp32")


def embedding(args: Sequence[Any]) -> Outputs:
    """``embedding(weight, indices, ...)``."""
    table, indices = _tensor(args, 0), _tensor(args, 1)
    return (_dense((*indices.shape, *table.shape[1:]), table.dtype),)


def embedding_backward(args: Sequence[Any]) -> Outputs:
    """``embedding_dense_backward(grad_output, indices, num_weights, ...)``."""
    grad = _tensor(args, 0)
    return (_dense((_value(args, 2), grad.shape[-1]), grad.dtype),)


def index_select(args: Sequence[Any]) -> Outputs:
    """``index_select(self, dim, index)``."""
    source, index = _tensor(args, 0), _tensor(args, 2)
    if len(source.shape) == 1:
        return (_dense(index.shape, source.dtype),)
    axis = _value(args, 1) % len(source.shape)
    return (_dense((*source.shape[:axis], prod(index.shape), *source.shape[axis + 1 :]), source.dtype),)


def gather(args: Sequence[Any]) -> Outputs:
    """``gather(self, dim, index)``."""
    return (_dense(_tensor(args, 2).shape, _tensor(args, 0).dtype),)


def concatenation(args: Sequence[Any]) -> Outputs:
    """All elements of the list, flat: along which dimension does not change what it costs."""
    parts = args[0]
    if not isinstance(parts, tuple) or not parts:
        return None
    return (_dense((sum(part.numel for part in parts),), promote([_dense((1,), part.dtype) for part in parts])),)


def repeat(args: Sequence[Any]) -> Outputs:
    """``repeat(self, repeats)``."""
    source, times = _tensor(args, 0), _value(args, 1)
    padded = (1,) * (len(times) - len(source.shape)) + source.shape
    return (_dense([size * count for size, count in zip(padded, times)], source.dtype),)


def pad(args: Sequence[Any]) -> Outputs:
    """``constant_pad_nd(self, pad, value)``: pairs from the last axis on."""
    source, pads = _tensor(args, 0), _value(args, 1)
    shape = list(source.shape)
    for i in range(len(pads) // 2):
        shape[-1 - i] += pads[2 * i] + pads[2 * i + 1]
    return (_dense(shape, source.dtype),)


def sized_backward(args: Sequence[Any]) -> Outputs:
    """``slice_backward(grad, input_sizes, ...)`` and its kin."""
    return (_dense(_value(args, 1), _tensor(args, 0).dtype),)


def nll_forward(args: Sequence[Any]) -> Outputs:
    """``nll_loss_forward(self, target, weight, reduction, ignore_index)``, with the total weight."""
    scores, target = _tensor(args, 0), _tensor(args, 1)
    shape = target.shape if _value(args, 3) == 0 else ()
    return _dense(shape, scores.dtype), _dense((), scores.dtype)


def loss(args: Sequence[Any]) -> Outputs:
    """``mse_loss(input, target, reduction)``."""
    source = _tensor(args, 0)
    return (_dense(source.shape if _value(args, 2) == 0 else (), source.dtype),)


def sort(args: Sequence[Any]) -> Outputs:
    """``sort(self, dim, descending)``, with indices."""
    source = _tensor(args, 0)
    return _dense(source.shape, source.dtype), _dense(source.shape, "int64")


def topk(args: Sequence[Any]) -> Outputs:
    """``topk(self, k, dim, ...)``, with indices."""
    source, count, axis = _tensor(args, 0), _value(args, 1), _value(args, 2)
    shape = list(source.shape)
    shape[-1 if axis is None else axis] = count
    return _dense(shape, source.dtype), _dense(shape, "int64")


def arange(args: Sequence[Any]) -> Outputs:
    """``arange([start,] end, [step,] dtype, layout, device, pin_memory)``."""
    count = len(args) - 4
    if not 1 <= count <= 3:
        return None
    numbers = [_value(args, position) for position in range(count)]
    start, end, step = (0, *numbers, 1) if count == 1 else (*numbers, 1)[:3]
    default = "int64" if all(isinstance(number, int) for number in numbers) else "fp32"
    return (_dense((-int(-(end - start) // step),), _cast(args, count, default)),)
