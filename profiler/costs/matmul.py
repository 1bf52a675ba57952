"""Matrix products, convolutions and attention: 2 FLOPs per multiply-add.

Counts agree with ``torch.utils.flop_counter.FlopCounterMode`` op by op, which a test checks.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from ..ops import OpRecord, TensorMeta
from .cost import Cost, UnpriceableError, bytes_read, bytes_written, matrix_unit, output, scalar, tensor, touched_bytes

#: Ops that add a product to their first argument, times ``beta``, which follows the factors.
_ADDING = frozenset(f"aten::{name}" for name in ("addmm", "_addmm_activation", "baddbmm", "addbmm", "addmv"))


def _matmul_cost(record: OpRecord, flops: float, dtype: str) -> Cost:
    ignored = (0,) if record.name in _ADDING and scalar(record, 3) == 0 else ()
    return Cost(flops, bytes_read(record, ignored), bytes_written(record), matrix_unit(dtype), dtype)


def _shape(record: OpRecord, position: int, rank: int) -> tuple[int, ...]:
    shape = tensor(record, position).shape
    if len(shape) != rank:
        raise UnpriceableError(f"{record.name}: argument {position} should have {rank} dimensions")
    return shape


def _mm(first: int) -> Callable[[OpRecord], Cost]:
    def price(record: OpRecord) -> Cost:
        m, k = _shape(record, first, 2)
        n = _shape(record, first + 1, 2)[1]
        return _matmul_cost(record, 2.0 * m * k * n, tensor(record, first).dtype)

    return price


def _bmm(first: int) -> Callable[[OpRecord], Cost]:
    def price(record: OpRecord) -> Cost:
        batch, m, k = _shape(record, first, 3)
        n = _shape(record, first + 1, 3)[2]
        return _matmul_cost(record, 2.0 * batch * m * k * n, tensor(record, first).dtype)

    return price


def _mv(first: int) -> Callable[[OpRecord], Cost]:
    def price(record: OpRecord) -> Cost:
        m, k = _shape(record, first, 2)
        return _matmul_cost(record, 2.0 * m * k, tensor(record, first).dtype)

    return price


def _dot(record: OpRecord) -> Cost:
    left = tensor(record, 0)
    return _matmul_cost(record, 2.0 * left.numel, left.dtype)


def _linear(record: OpRecord) -> Cost:
    """``linear(input [..., k], weight [n, k], bias)`` where a backend runs it as one op."""
    source, weight = tensor(record, 0), _shape(record, 1, 2)
    return _matmul_cost(record, 2.0 * source.numel * weight[0], source.dtype)


def _convolution_flops(source: TensorMeta, weight: TensorMeta, result: TensorMeta, transposed: bool) -> float:
    """2 × (positions the filter visits) × (weights applied at each) × batch."""
    if min(len(source.shape), len(weight.shape), len(result.shape)) < 3:
        raise UnpriceableError("convolution needs [batch, channels, ...]")
    positions = prod(source.shape[2:]) if transposed else prod(result.shape[2:])
    return 2.0 * source.shape[0] * positions * prod(weight.shape)


def _convolution(transposed_at: int | None) -> Callable[[OpRecord], Cost]:
    """``convolution(input, weight, ...)``; argument ``transposed_at`` says whether it is a transposed one, if any."""

    def price(record: OpRecord) -> Cost:
        source, weight = tensor(record, 0), tensor(record, 1)
        transposed = transposed_at is not None and scalar(record, transposed_at) in (True, "True")
        flops = _convolution_flops(source, weight, output(record), transposed)
        return _matmul_cost(record, flops, source.dtype)

    return price


def _convolution_backward(record: OpRecord) -> Cost:
    """Gradients of input and weight each cost one forward pass; ``output_mask`` says which are asked for.

    The gradient of the input needs the weight, that of the weight the input, all of them the incoming gradient.
    """
    grad, source, weight = tensor(record, 0), tensor(record, 1), tensor(record, 2)
    mask = scalar(record, 10)
    asked = [bool(wanted) for wanted in mask] if isinstance(mask, (tuple, list)) else [True, True]
    asked += [False] * (2 - len(asked))
    transposed = scalar(record, 7) in (True, "True")
    flops = _convolution_flops(source, weight, grad, transposed) * sum(asked[:2])
    needed = [meta for meta, wanted in zip((weight, source), asked) if wanted]
    return Cost(flops, touched_bytes([grad, *needed]), bytes_written(record), matrix_unit(source.dtype), source.dtype)


def _attention_flops(query: TensorMeta, key: TensorMeta, value: TensorMeta, products: tuple[int, int]) -> float:
    """``products`` counts the matrix products over the key dimension and over the value dimension."""
    if any(len(meta.shape) != 4 for meta in (query, key, value)):
        raise UnpriceableError("attention needs [batch, heads, length, dim]")
    batch, heads, q_length, q_dim = query.shape
    k_length, v_dim = key.shape[-2], value.shape[-1]
    return 2.0 * batch * heads * q_length * k_length * (products[0] * q_dim + products[1] * v_dim)


def _attention_forward(record: OpRecord) -> Cost:
    query, key, value = (tensor(record, i) for i in range(3))
    flops = _attention_flops(query, key, value, (1, 1))
    return _matmul_cost(record, flops, query.dtype)


def _attention_backward(record: OpRecord) -> Cost:
    """Recomputes the scores, then four products: grad of value, of probabilities, of query and of key."""
    query, key, value = (tensor(record, i) for i in range(1, 4))
    flops = _attention_flops(query, key, value, (3, 2))
    written = touched_bytes(record.outputs) if record.outputs else query.nbytes + key.nbytes + value.nbytes
    return Cost(flops, bytes_read(record), written, matrix_unit(query.dtype), query.dtype)


_PLAIN_CONVOLUTIONS = ("cudnn_convolution", "mkldnn_convolution", "_slow_conv2d_forward", "_conv_depthwise2d")

_ATTENTION_KINDS = (
    "flash_attention", "efficient_attention", "cudnn_attention", "flash_attention_for_cpu",
    "fused_attention_overrideable",
)  # fmt: skip

RULES: dict[str, Callable[[OpRecord], Cost]] = {
    "aten::mm": _mm(0),
    "aten::addmm": _mm(1),
    "aten::addmm_": _mm(1),
    "aten::_addmm_activation": _mm(1),
    "aten::_scaled_mm": _mm(0),
    "aten::_int_mm": _mm(0),
    "aten::bmm": _bmm(0),
    "aten::baddbmm": _bmm(1),
    "aten::baddbmm_": _bmm(1),
    "aten::addbmm": _bmm(1),
    "aten::addbmm_": _bmm(1),
    "aten::mv": _mv(0),
    "aten::addmv": _mv(1),
    "aten::addmv_": _mv(1),
    "aten::dot": _dot,
    "aten::vdot": _dot,
    "aten::convolution": _convolution(6),
    "aten::_convolution": _convolution(6),
    "aten::convolution_overrideable": _convolution(6),
    "aten::convolution_backward": _convolution_backward,
    "aten::mkldnn_linear": _linear,
}
RULES |= {f"aten::{kind}": _convolution(None) for kind in _PLAIN_CONVOLUTIONS}
RULES |= {f"aten::_scaled_dot_product_{kind}": _attention_forward for kind in _ATTENTION_KINDS}
RULES |= {f"aten::_scaled_dot_product_{kind}_backward": _attention_backward for kind in _ATTENTION_KINDS}
