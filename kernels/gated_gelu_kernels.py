# ruff: noqa: N803
# mypy: disable-error-code=no-untyped-def
"""Triton kernels of the gated GELU, forward and backward, in fp32 whatever the storage.

With u = k (a + c a³), k = sqrt(2/π) and c = 0.044715, ``gelu_new(a)`` is a (1 + tanh u) / 2 = a s, where s is
1 / (1 + exp(-2u)). The exponential of a large number is infinite and s is then zero, as it should be. The slope is
s + 2 a s (1 - s) du/da.
"""

import math

import triton
import triton.language as tl

from .dropout_kernels import dropout_factors

_TWICE_K = 2 * math.sqrt(2 / math.pi)
_CUBE = 0.044715
#: exp(-2u) is 2 to the a (OF_A + OF_CUBE a²).
OF_A = tl.constexpr(-_TWICE_K * math.log2(math.e))
OF_CUBE = tl.constexpr(-_TWICE_K * math.log2(math.e) * _CUBE)
#: Twice du/da is SLOPE + SLOPE_OF_SQUARE a².
SLOPE = tl.constexpr(_TWICE_K)
SLOPE_OF_SQUARE = tl.constexpr(3 * _TWICE_K * _CUBE)
#: Where a² stops: far beyond where it matters, and before it is infinite, which zero times would be no number.
LARGEST_SQUARE = tl.constexpr(1e30)


@triton.jit
def _tile(program, numel, BLOCK: tl.constexpr):
    """Where a program's tile starts, the places of its elements, and whether they are inside."""
    start = program.to(tl.int64) * BLOCK
    at = start + tl.arange(0, BLOCK)
    return start, at, at < numel


@triton.jit
def _load(pointer, at, inside):
    return tl.load(pointer + at, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _store(pointer, at, value, inside):
    tl.store(pointer + at, value.to(pointer.dtype.element_ty), mask=inside)


@triton.jit
def _factors(seed, start, threshold, scale, BLOCK: tl.constexpr, VECTOR: tl.constexpr):
    vector = start // VECTOR + tl.arange(0, BLOCK // VECTOR)
    return tl.reshape(dropout_factors(tl.load(seed), vector, threshold, scale, VECTOR), [BLOCK])


@triton.jit
def _gate(a):
    """a², and s."""
    square = tl.minimum(a * a, LARGEST_SQUARE)
    return square, 1.0 / (1.0 + tl.exp2(a * (OF_A + OF_CUBE * square)))


@triton.jit(do_not_specialize=["threshold"])
def gated_gelu_kernel(a, b, seed, out, numel, threshold, scale, BLOCK: tl.constexpr, VECTOR: tl.constexpr):
    """``gelu_new(a) * b`` of ``BLOCK`` elements, with dropout unless ``seed`` is ``None``."""
    start, at, inside = _tile(tl.program_id(0), numel, BLOCK)
    value = _load(a, at, inside)
    _, gate = _gate(value)
    result = value * gate * _load(b, at, inside)
    if seed is not None:
        result *= _factors(seed, start, threshold, scale, BLOCK, VECTOR)
    _store(out, at, result, inside)


@triton.jit(do_not_specialize=["threshold"])
def gated_gelu_backward_kernel(
    grad, a, b, seed, grad_a, grad_b, numel, threshold, scale, BLOCK: tl.constexpr, VECTOR: tl.constexpr
):  # fmt: skip
    """Gradients of both factors from that of their product; what dropout does is drawn again."""
    start, at, inside = _tile(tl.program_id(0), numel, BLOCK)
    slope = _load(grad, at, inside)
    if seed is not None:
        slope *= _factors(seed, start, threshold, scale, BLOCK, VECTOR)
    value = _load(a, at, inside)
    square, gate = _gate(value)
    gelu = value * gate
    rise = gate + gelu * (1.0 - gate) * (SLOPE + SLOPE_OF_SQUARE * square)
    _store(grad_b, at, slope * gelu, inside)
    _store(grad_a, at, slope * _load(b, at, inside) * rise, inside)
