"""Elementwise ops: every input read once, every output written once, a fixed number of FLOPs per element.

FLOPs follow the textbook formula of the op; a transcendental function (exp, tanh, sqrt, pow) counts as one.
Comparisons, selections and casts do no arithmetic. One table serves ``add``, ``add_``, ``_foreach_add`` and so on.
"""

from __future__ import annotations

from collections.abc import Callable

from ..ops import ITEMSIZE, OpRecord
from .cost import Cost, UnpriceableError, arithmetic_dtype, bytes_read, bytes_written, flatten, is_in_place, tensor

FLOPS_PER_ELEMENT: dict[str, int] = {
    "add": 1, "sub": 1, "rsub": 1, "mul": 1, "div": 1, "true_divide": 1, "floor_divide": 1, "remainder": 1, "fmod": 1,
    "neg": 1, "abs": 1, "sign": 1, "reciprocal": 1, "sqrt": 1, "rsqrt": 1, "exp": 1, "exp2": 1, "expm1": 1, "log": 1,
    "log2": 1, "log10": 1, "log1p": 1, "pow": 1, "sin": 1, "cos": 1, "tan": 1, "tanh": 1, "erf": 1, "erfc": 1,
    "floor": 1, "ceil": 1, "round": 1, "trunc": 1, "frac": 1, "maximum": 1, "minimum": 1, "clamp": 2, "clamp_min": 1,
    "clamp_max": 1, "hardtanh": 2, "relu": 1, "leaky_relu": 2, "elu": 3, "sigmoid": 3, "log_sigmoid": 4, "silu": 4,
    "gelu": 8, "mish": 6, "hardswish": 5, "softplus": 3, "square": 1, "lerp": 3, "addcmul": 3, "addcdiv": 3,
    "threshold": 0, "tanh_backward": 3, "sigmoid_backward": 3, "threshold_backward": 0, "gelu_backward": 16,
    "silu_backward": 7, "leaky_relu_backward": 1, "elu_backward": 3, "hardtanh_backward": 0, "hardswish_backward": 4,
    "native_dropout_backward": 2,
    "binary_cross_entropy_backward": 5, "mse_loss_backward": 3, "smooth_l1_loss_backward": 3, "atan2": 1, "hypot": 3,
    "where": 0, "masked_fill": 0, "eq": 0, "ne": 0, "lt": 0, "le": 0, "gt": 0, "ge": 0, "logical_and": 0,
    "logical_or": 0, "logical_not": 0, "logical_xor": 0, "bitwise_and": 0, "bitwise_or": 0, "bitwise_not": 0,
    "bitwise_xor": 0, "__and__": 0, "__or__": 0, "__lshift__": 0, "__rshift__": 0, "bitwise_left_shift": 0,
    "bitwise_right_shift": 0, "isnan": 0, "isinf": 0, "isfinite": 0, "nan_to_num": 0, "tril": 0, "triu": 0, "glu": 5,
    "glu_backward": 8, "polar": 3, "complex": 0, "addr": 2,
    "softplus_backward": 4, "mish_backward": 10, "log_sigmoid_forward": 4, "log_sigmoid_backward": 5, "hardsigmoid": 3,
    "hardsigmoid_backward": 1, "_prelu_kernel": 1, "_prelu_kernel_backward": 2, "huber_loss_backward": 4, "fmax": 1,
    "fmin": 1, "asin": 1, "acos": 1, "atan": 1, "sinh": 1, "cosh": 1, "erfinv": 1, "logit": 3, "xlogy": 2,
    "logaddexp": 4, "copysign": 0, "signbit": 0, "sgn": 1, "heaviside": 0, "isneginf": 0, "isposinf": 0,
}  # fmt: skip

_PREFIXES = ("aten::", "aten::_foreach_")


def _elements(record: OpRecord) -> int:
    """Elements computed: those of the outputs; of the first argument where they are unknown or it is in place."""
    if is_in_place(record) or not record.outputs:
        first = list(flatten(record.args[:1]))
        if not first:
            raise UnpriceableError(f"{record.name}: no shapes")
        return sum(meta.numel for meta in first)
    return sum(meta.numel for meta in record.outputs)


def _pointwise(flops_per_element: int) -> Callable[[OpRecord], Cost]:
    def price(record: OpRecord) -> Cost:
        inputs = list(flatten(record.args))
        if not inputs and not record.outputs:
            raise UnpriceableError(f"{record.name}: no shapes")
        dtype = arithmetic_dtype(*record.outputs, *inputs)
        flops = float(flops_per_element * _elements(record))
        return Cost(flops, bytes_read(record), bytes_written(record), "vector" if flops else "none", dtype)

    return price


def _native_dropout(record: OpRecord) -> Cost:
    """Reads the input, writes the result and a one-byte mask; drawing the random numbers is not counted as FLOPs."""
    source = tensor(record, 0)
    written = source.numel * (ITEMSIZE.get(source.dtype, 4) + 1)
    return Cost(2.0 * source.numel, source.nbytes, written, "vector", source.dtype)


RULES: dict[str, Callable[[OpRecord], Cost]] = {
    f"{prefix}{name}{suffix}": _pointwise(flops)
    for name, flops in FLOPS_PER_ELEMENT.items()
    for prefix in _PREFIXES
    for suffix in ("", "_")
}
RULES["aten::native_dropout"] = _native_dropout
RULES["aten::_fused_dropout"] = _native_dropout
