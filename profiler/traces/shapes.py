"""Output shapes of ops from their inputs, for traces, which record inputs only.

One table from op name to a rule of :mod:`.shape_rules`. Outputs have no stride, which means contiguous.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from ..ops import TensorMeta
from . import shape_rules as rules


def infer_outputs(name: str, args: Sequence[Any]) -> tuple[TensorMeta, ...]:
    """Outputs of the op, empty when they cannot be known.

    Args:
        name: such as ``aten::mm``.
        args: tensors as :class:`TensorMeta`, lists of them as tuples, plain values, ``None`` when absent and
            :data:`~edgeroof.profiler.traces.shape_rules.UNRECORDED` when not recorded.
    """
    rule = _RULES.get(name)
    if rule is None:
        return ()
    try:
        outputs = rule(args) or ()
        return outputs if all(is_possible(meta.shape) for meta in outputs) else ()
    except rules.UnknownError:
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
_REDUCTIONS: dict[str, rules.Rule] = {
    "sum": rules.reduction(1, 2, dtype=3, full_arguments=2),
    "nansum": rules.reduction(1, 2, dtype=3),
    "mean": rules.reduction(1, 2, dtype=3, full_arguments=2),
    "prod": rules.reduction(1, 2, dtype=3, full_arguments=2),
    "amax": rules.reduction(1, 2, None),
    "amin": rules.reduction(1, 2, None),
    "max": rules.reduction(1, 2, None, full_arguments=1, outputs=2),
    "min": rules.reduction(1, 2, None, full_arguments=1, outputs=2),
    "argmax": rules.reduction(1, 2, "int64"),
    "argmin": rules.reduction(1, 2, "int64"),
    "all": rules.reduction(1, 2, "bool", full_arguments=1),
    "any": rules.reduction(1, 2, "bool", full_arguments=1),
    "logsumexp": rules.reduction(1, 2, None),
    "linalg_vector_norm": rules.reduction(2, 3, None),
}
#: Arguments before an ``out=``, where it matters.
_ARGUMENTS: dict[str, int] = {**_ELEMENTWISE, "sum": 4, "mean": 4, "mm": 2, "bmm": 2, "addmm": 5, "cat": 2}

_RULES: dict[str, rules.Rule] = {
    **{f"aten::{name}": rules.elementwise(true_division=name in _TRUE_DIVISIONS) for name in _ELEMENTWISE},
    **{f"aten::{name}": rules.elementwise("bool") for name in _COMPARISONS},
    **{f"aten::{name}": rules.like(0) for name in _LIKE_FIRST},
    **{f"aten::{name}": rule for name, rule in _REDUCTIONS.items()},
    **{f"aten::_foreach_{name}": rules.like_list for name in (*_ELEMENTWISE, "clone")},
    "aten::_to_copy": rules.to_copy,
    "aten::mm": rules.mm(0),
    "aten::bmm": rules.mm(0),
    "aten::_int_mm": rules.mm(0),
    "aten::addmm": rules.mm(1),
    "aten::_addmm_activation": rules.mm(1),
    "aten::baddbmm": rules.mm(1),
    "aten::mv": rules.mv,
    "aten::dot": rules.reduction(None, 0, None),
    "aten::mkldnn_linear": rules.linear,
    "aten::convolution": rules.convolution(3, 4, 5, transposed=6),
    "aten::_convolution": rules.convolution(3, 4, 5, transposed=6),
    "aten::cudnn_convolution": rules.convolution(3, 2, 4, transposed=None),
    "aten::mkldnn_convolution": rules.convolution(4, 3, 5, transposed=None),
    "aten::convolution_backward": rules.like(1, 2),
    "aten::max_pool2d_with_indices": rules.max_pool,
    "aten::max_pool2d_with_indices_backward": rules.like(1),
    "aten::native_layer_norm": rules.layer_norm,
    "aten::native_layer_norm_backward": rules.like(1, 5, 6),
    "aten::native_batch_norm": rules.batch_norm,
    "aten::cudnn_batch_norm": rules.batch_norm,
    "aten::native_batch_norm_backward": rules.like(1, 2, 2),
    "aten::cudnn_batch_norm_backward": rules.like(0, 2, 2),
    "aten::native_dropout": rules.dropout,
    "aten::embedding": rules.embedding,
    "aten::embedding_dense_backward": rules.embedding_backward,
    "aten::index_select": rules.index_select,
    "aten::gather": rules.gather,
    "aten::cat": rules.concatenation,
    "aten::_cat": rules.concatenation,
    "aten::stack": rules.concatenation,
    "aten::repeat": rules.repeat,
    "aten::constant_pad_nd": rules.pad,
    "aten::slice_backward": rules.sized_backward,
    "aten::select_backward": rules.sized_backward,
    "aten::nll_loss_forward": rules.nll_forward,
    "aten::nll_loss2d_forward": rules.nll_forward,
    "aten::nll_loss_backward": rules.like(1),
    "aten::nll_loss2d_backward": rules.like(1),
    "aten::mse_loss": rules.loss,
    "aten::sort": rules.sort,
    "aten::topk": rules.topk,
    "aten::arange": rules.arange,
    **{
        f"aten::_scaled_dot_product_{kind}": rules.attention
        for kind in ("flash_attention", "efficient_attention", "cudnn_attention", "flash_attention_for_cpu")
    },
    **{
        f"aten::_scaled_dot_product_{kind}_backward": rules.like(1, 2, 3)
        for kind in ("flash_attention", "efficient_attention", "cudnn_attention", "flash_attention_for_cpu")
    },
}
