"""Output shapes of ops from their inputs, for traces, which record inputs only.

One table from op name to a small function of the arguments. A rule answers ``None`` where the arguments it needs were
not recorded: nothing is guessed. Outputs have no stride, which means contiguous.
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


class _UnknownError(Exception):
    """An argument that the output depends on was not recorded."""


def infer_outputs(name: str, args: Sequence[Any]) -> tuple[TensorMeta, ...]:
    """Outputs of the op, empty when they cannot be known.

    Args:
        name: such as ``aten::mm``.
        args: tensors as :class:`TensorMeta`, lists of them as tuples, plain values, ``None`` when absent and
            :data:`UNRECORDED` when not recorded.
    """
    rule = _RULES.get(name)
    if rule is None:
        return ()
    try:
        outputs = rule(args) or ()
        return outputs if all(is_possible(meta.shape) for meta in outputs) else ()
    except _UnknownError:
        return ()
    except (IndexError, TypeError, ValueError, AttributeError, ArithmeticError):
        return ()  # arguments that no such op has: another version of it, or a damaged trace


def is_possible(shape: Sequence[Any]) -> bool:
    """Whether a tensor can have this shape: whole sizes, not negative, and in all less than 2**62."""
    return set(map(type, shape)) <= {int} and min(shape, default=0) >= 0 and prod(shape) < 1 << 62


def is_broadcasting(name: str) -> bool:
    """Whether the op is elementwise over broadcast inputs, so that a 0-dimensional input stands for a plain number."""
    return name.removesuffix("_").removeprefix("aten::") in _ELEMENTWISE


def tensor_inputs(name: str) -> int | None:
    """How many leading arguments are inputs: a tensor after them is an ``out=`` argument. ``None`` when unknown."""
    return _ARGUMENTS.get(name.removeprefix("aten::"))


def _tensor(args: Sequence[Any], position: int) -> TensorMeta:
    value = args[position] if position < len(args) else None
    if not isinstance(value, TensorMeta):
        raise _UnknownError
    return value


def _value(args: Sequence[Any], position: int) -> Any:
    value = args[position] if position < len(args) else None
    if value is UNRECORDED:
        raise _UnknownError
    return value


def _dense(shape: Sequence[int], dtype: str) -> TensorMeta:
    return TensorMeta(tuple(shape), dtype)


def _cast(args: Sequence[Any], position: int, default: str) -> str:
    """The type named by a ``dtype`` argument, ``default`` when it is absent."""
    number = _value(args, position)
    if number is None:
        return default
    if number not in SCALAR_TYPES:
        raise _UnknownError
    return SCALAR_TYPES[number]


def _elementwise(dtype: str | None = None, true_division: bool = False) -> Rule:
    def rule(args: Sequence[Any]) -> Outputs:
        metas = [arg for arg in args if isinstance(arg, TensorMeta)]
        if not metas:
            return None
        kind = dtype or promote(metas)
        if kind in INTEGERS and not dtype and (true_division or any(isinstance(arg, float) for arg in args)):
            kind = "fp32"
        return (_dense(broadcast([meta.shape for meta in metas]), kind),)

    return rule


def _like(*positions: int) -> Rule:
    """Outputs shaped and typed like these arguments; absent ones have no output."""

    def rule(args: Sequence[Any]) -> Outputs:
        if all(args[position] is UNRECORDED or args[position] is None for position in positions):
            return None
        return tuple(_dense(args[i].shape, args[i].dtype) for i in positions if isinstance(args[i], TensorMeta))

    return rule


def _like_list(args: Sequence[Any]) -> Outputs:
    return tuple(_dense(meta.shape, meta.dtype) for meta in args[0])


def _to_copy(args: Sequence[Any]) -> Outputs:
    source = _tensor(args, 0)
    return (_dense(source.shape, _cast(args, 1, source.dtype)),)


def _reduced(shape: tuple[int, ...], dims: Any, keep: Any) -> tuple[int, ...]:
    axes = range(len(shape)) if dims is None or dims == () else [dims] if isinstance(dims, int) else dims
    gone = {axis % max(len(shape), 1) for axis in axes}
    if keep:
        return tuple(1 if axis in gone else size for axis, size in enumerate(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in gone)


def _reduction(dims: int | None, keep: int, dtype: int | str | None, full_arguments: int = 0, outputs: int = 1) -> Rule:
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


def _mm(first: int) -> Rule:
    def rule(args: Sequence[Any]) -> Outputs:
        left, right = _tensor(args, first), _tensor(args, first + 1)
        return (_dense((*left.shape[:-1], right.shape[-1]), left.dtype),)

    return rule


def _mv(args: Sequence[Any]) -> Outputs:
    matrix = _tensor(args, 0)
    return (_dense(matrix.shape[:1], matrix.dtype),)


def _linear(args: Sequence[Any]) -> Outputs:
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


def _convolution(stride: int, padding: int, dilation: int, transposed: int | None) -> Rule:
    def rule(args: Sequence[Any]) -> Outputs:
        source, weight = _tensor(args, 0), _tensor(args, 1)
        if transposed is not None and _value(args, transposed):
            return None
        steps, pads, gaps = _value(args, stride), _value(args, padding), _value(args, dilation)
        sizes = _window(source.shape[2:], weight.shape[2:], steps, pads, gaps)
        return (_dense((source.shape[0], weight.shape[0], *sizes), source.dtype),)

    return rule


def _max_pool(args: Sequence[Any]) -> Outputs:
    source = _tensor(args, 0)
    kernel, stride, padding, dilation, round_up = (_value(args, position) for position in range(1, 6))
    if round_up:
        return None
    rank = len(_spatial(kernel, 1)) if not isinstance(kernel, int) else 2
    sizes = (*source.shape[:-rank], *_window(source.shape[-rank:], kernel, stride, padding, dilation))
    return _dense(sizes, source.dtype), _dense(sizes, "int64")


def _layer_norm(args: Sequence[Any]) -> Outputs:
    source, axes = _tensor(args, 0), args[1]
    rank = len(axes) if isinstance(axes, tuple) else len(_tensor(args, 2).shape)
    rows = (*source.shape[: len(source.shape) - rank], *(1,) * rank)
    statistics = "fp32" if source.dtype in ("fp16", "bf16") else source.dtype
    return _dense(source.shape, source.dtype), _dense(rows, statistics), _dense(rows, statistics)


def _batch_norm(args: Sequence[Any]) -> Outputs:
    source = _tensor(args, 0)
    channels = _dense(source.shape[1:2], "fp32")
    return _dense(source.shape, source.dtype), channels, channels


def _dropout(args: Sequence[Any]) -> Outputs:
    source = _tensor(args, 0)
    return _dense(source.shape, source.dtype), _dense(source.shape, "bool")


def _attention(args: Sequence[Any]) -> Outputs:
    query, value = _tensor(args, 0), _tensor(args, 2)
    return _dense((*query.shape[:-1], value.shape[-1]), query.dtype), _dense(query.shape[:-1], "fp32")


def _embedding(args: Sequence[Any]) -> Outputs:
    table, indices = _tensor(args, 0), _tensor(args, 1)
    return (_dense((*indices.shape, *table.shape[1:]), table.dtype),)


def _embedding_backward(args: Sequence[Any]) -> Outputs:
    grad = _tensor(args, 0)
    return (_dense((_value(args, 2), grad.shape[-1]), grad.dtype),)


def _index_select(args: Sequence[Any]) -> Outputs:
    source, index = _tensor(args, 0), _tensor(args, 2)
    if len(source.shape) == 1:
        return (_dense(index.shape, source.dtype),)
    axis = _value(args, 1) % len(source.shape)
    return (_dense((*source.shape[:axis], prod(index.shape), *source.shape[axis + 1 :]), source.dtype),)


def _gather(args: Sequence[Any]) -> Outputs:
    return (_dense(_tensor(args, 2).shape, _tensor(args, 0).dtype),)


def _concatenation(args: Sequence[Any]) -> Outputs:
    """All elements of the list, flat: along which dimension does not change what it costs."""
    parts = args[0]
    if not isinstance(parts, tuple) or not parts:
        return None
    return (_dense((sum(part.numel for part in parts),), promote([_dense((1,), part.dtype) for part in parts])),)


def _repeat(args: Sequence[Any]) -> Outputs:
    source, times = _tensor(args, 0), _value(args, 1)
    padded = (1,) * (len(times) - len(source.shape)) + source.shape
    return (_dense([size * count for size, count in zip(padded, times)], source.dtype),)


def _pad(args: Sequence[Any]) -> Outputs:
    source, pads = _tensor(args, 0), _value(args, 1)
    shape = list(source.shape)
    for i in range(len(pads) // 2):
        shape[-1 - i] += pads[2 * i] + pads[2 * i + 1]
    return (_dense(shape, source.dtype),)


def _sized_backward(args: Sequence[Any]) -> Outputs:
    """``slice_backward(grad, input_sizes, ...)`` and its kin."""
    return (_dense(_value(args, 1), _tensor(args, 0).dtype),)


def _nll_forward(args: Sequence[Any]) -> Outputs:
    scores, target = _tensor(args, 0), _tensor(args, 1)
    shape = target.shape if _value(args, 3) == 0 else ()
    return _dense(shape, scores.dtype), _dense((), scores.dtype)


def _loss(args: Sequence[Any]) -> Outputs:
    """``mse_loss(input, target, reduction)``."""
    source = _tensor(args, 0)
    return (_dense(source.shape if _value(args, 2) == 0 else (), source.dtype),)


def _sort(args: Sequence[Any]) -> Outputs:
    source = _tensor(args, 0)
    return _dense(source.shape, source.dtype), _dense(source.shape, "int64")


def _topk(args: Sequence[Any]) -> Outputs:
    source, count, axis = _tensor(args, 0), _value(args, 1), _value(args, 2)
    shape = list(source.shape)
    shape[-1 if axis is None else axis] = count
    return _dense(shape, source.dtype), _dense(shape, "int64")


def _arange(args: Sequence[Any]) -> Outputs:
    """``arange([start,] end, [step,] dtype, layout, device, pin_memory)``."""
    count = len(args) - 4
    if not 1 <= count <= 3:
        return None
    numbers = [_value(args, position) for position in range(count)]
    start, end, step = (0, *numbers, 1) if count == 1 else (*numbers, 1)[:3]
    default = "int64" if all(isinstance(number, int) for number in numbers) else "fp32"
    return (_dense((-int(-(end - start) // step),), _cast(args, count, default)),)


#: Elementwise ops and how many arguments they have before an ``out=``.
_ELEMENTWISE: dict[str, int] = {
    **dict.fromkeys(
        ("neg", "abs", "sign", "reciprocal", "sqrt", "rsqrt", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p",
         "sin", "cos", "tan", "tanh", "erf", "erfc", "floor", "ceil", "trunc", "frac", "relu", "sigmoid", "square",
         "silu", "mish", "hardswish", "isnan", "isinf", "isfinite", "logical_not", "bitwise_not"), 1),
    **dict.fromkeys(
        ("mul", "div", "true_divide", "maximum", "minimum", "pow", "remainder", "fmod", "atan2", "hypot", "eq", "ne",
         "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or",
         "bitwise_xor", "__and__", "__or__", "tanh_backward", "sigmoid_backward", "silu_backward", "clamp_min",
         "clamp_max", "leaky_relu", "tril", "triu", "gelu", "hardswish_backward", "floor_divide", "square"), 2),
    **dict.fromkeys(
        ("add", "sub", "rsub", "threshold_backward", "threshold", "clamp", "hardtanh", "where", "masked_fill", "lerp",
         "gelu_backward", "softplus", "native_dropout_backward"), 3),
    **dict.fromkeys(
        ("addcmul", "addcdiv", "nan_to_num", "elu", "hardtanh_backward", "leaky_relu_backward", "mse_loss_backward",
         "smooth_l1_loss_backward"), 4),
}  # fmt: skip
_COMPARISONS = (
    "isnan", "isinf", "isfinite", "logical_not", "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or",
    "logical_xor",
)  # fmt: skip
_TRUE_DIVISIONS = (
    "div", "true_divide", "reciprocal", "sqrt", "rsqrt", "exp", "log", "sin", "cos", "tanh", "sigmoid",
)  # fmt: skip
_LIKE_FIRST = (
    "clone", "contiguous", "copy", "flip", "roll", "cumsum", "cumprod", "_softmax", "_log_softmax", "_safe_softmax",
    "_softmax_backward_data", "_log_softmax_backward_data", "bernoulli", "rand_like", "randn_like", "slice_scatter",
    "scatter", "scatter_add", "index_add", "index_copy", "index_fill", "index_put", "masked_scatter", "_fused_rms_norm",
)  # fmt: skip
_REDUCTIONS: dict[str, Rule] = {
    "sum": _reduction(1, 2, dtype=3, full_arguments=2),
    "nansum": _reduction(1, 2, dtype=3),
    "mean": _reduction(1, 2, dtype=3, full_arguments=2),
    "prod": _reduction(1, 2, dtype=3, full_arguments=2),
    "amax": _reduction(1, 2, None),
    "amin": _reduction(1, 2, None),
    "max": _reduction(1, 2, None, full_arguments=1, outputs=2),
    "min": _reduction(1, 2, None, full_arguments=1, outputs=2),
    "argmax": _reduction(1, 2, "int64"),
    "argmin": _reduction(1, 2, "int64"),
    "all": _reduction(1, 2, "bool", full_arguments=1),
    "any": _reduction(1, 2, "bool", full_arguments=1),
    "logsumexp": _reduction(1, 2, None),
    "linalg_vector_norm": _reduction(2, 3, None),
}
#: Arguments before an ``out=``, where it matters.
_ARGUMENTS: dict[str, int] = {**_ELEMENTWISE, "sum": 4, "mean": 4, "mm": 2, "bmm": 2, "addmm": 5, "cat": 2}

_RULES: dict[str, Rule] = {
    **{f"aten::{name}": _elementwise(true_division=name in _TRUE_DIVISIONS) for name in _ELEMENTWISE},
    **{f"aten::{name}": _elementwise("bool") for name in _COMPARISONS},
    **{f"aten::{name}": _like(0) for name in _LIKE_FIRST},
    **{f"aten::{name}": rule for name, rule in _REDUCTIONS.items()},
    **{f"aten::_foreach_{name}": _like_list for name in (*_ELEMENTWISE, "clone")},
    "aten::_to_copy": _to_copy,
    "aten::mm": _mm(0),
    "aten::bmm": _mm(0),
    "aten::_int_mm": _mm(0),
    "aten::addmm": _mm(1),
    "aten::_addmm_activation": _mm(1),
    "aten::baddbmm": _mm(1),
    "aten::mv": _mv,
    "aten::dot": _reduction(None, 0, None),
    "aten::mkldnn_linear": _linear,
    "aten::convolution": _convolution(3, 4, 5, transposed=6),
    "aten::_convolution": _convolution(3, 4, 5, transposed=6),
    "aten::cudnn_convolution": _convolution(3, 2, 4, transposed=None),
    "aten::mkldnn_convolution": _convolution(4, 3, 5, transposed=None),
    "aten::convolution_backward": _like(1, 2),
    "aten::max_pool2d_with_indices": _max_pool,
    "aten::max_pool2d_with_indices_backward": _like(1),
    "aten::native_layer_norm": _layer_norm,
    "aten::native_layer_norm_backward": _like(1, 5, 6),
    "aten::native_batch_norm": _batch_norm,
    "aten::cudnn_batch_norm": _batch_norm,
    "aten::native_batch_norm_backward": _like(1, 2, 2),
    "aten::cudnn_batch_norm_backward": _like(0, 2, 2),
    "aten::native_dropout": _dropout,
    "aten::embedding": _embedding,
    "aten::embedding_dense_backward": _embedding_backward,
    "aten::index_select": _index_select,
    "aten::gather": _gather,
    "aten::cat": _concatenation,
    "aten::_cat": _concatenation,
    "aten::stack": _concatenation,
    "aten::repeat": _repeat,
    "aten::constant_pad_nd": _pad,
    "aten::slice_backward": _sized_backward,
    "aten::select_backward": _sized_backward,
    "aten::nll_loss_forward": _nll_forward,
    "aten::nll_loss2d_forward": _nll_forward,
    "aten::nll_loss_backward": _like(1),
    "aten::nll_loss2d_backward": _like(1),
    "aten::mse_loss": _loss,
    "aten::sort": _sort,
    "aten::topk": _topk,
    "aten::arange": _arange,
    **{
        f"aten::_scaled_dot_product_{kind}": _attention
        for kind in ("flash_attention", "efficient_attention", "cudnn_attention", "flash_attention_for_cpu")
    },
    **{
        f"aten::_scaled_dot_product_{kind}_backward": _like(1, 2, 3)
        for kind in ("flash_attention", "efficient_attention", "cudnn_attention", "flash_attention_for_cpu")
    },
}
