# ruff: noqa: N803
# mypy: disable-error-code=no-untyped-def
"""Triton building blocks: loads with and without masks, block-wise 8-bit codes, stochastic rounding.

Every function works on a one-dimensional tile whose length is a multiple of ``BLOCK``. The formulas of the codes are
those of :mod:`.codes`, which explains them.
"""

import triton
import triton.language as tl

from . import columns

BLOCK = tl.constexpr(columns.BLOCK)
TINY = tl.constexpr(1e-37)  # share of a block's scale below which a value is nothing


@triton.jit
def load(pointers, mask, MASKED: tl.constexpr):
    """Load a tile as fp32; only the unmasked form can be vectorised."""
    if MASKED:
        return tl.load(pointers, mask=mask, other=0).to(tl.float32)
    else:
        return tl.load(pointers).to(tl.float32)


@triton.jit
def store(pointers, value, mask, MASKED: tl.constexpr):
    """Store a tile in the pointers' type."""
    if MASKED:
        tl.store(pointers, value.to(pointers.dtype.element_ty), mask=mask)
    else:
        tl.store(pointers, value.to(pointers.dtype.element_ty))


@triton.jit
def random16(seed, first, step, PURPOSE: tl.constexpr, TILE: tl.constexpr):
    """Sixteen random bits for each element of a tile: one Philox call serves eight neighbours.

    The bits depend on the tensor's seed, the element's index in its tensor, the step and the purpose alone.
    """
    counter = first // 8 + tl.arange(0, TILE // 8)
    low = counter.to(tl.uint32)
    high = (counter >> 32).to(tl.uint32)
    nothing = low * 0
    a, b, c, d = tl.philox(seed, low, high, nothing + step.to(tl.uint32), nothing + PURPOSE)
    ab = tl.join(tl.join(a & 0xFFFF, a >> 16), tl.join(b & 0xFFFF, b >> 16))
    cd = tl.join(tl.join(c & 0xFFFF, c >> 16), tl.join(d & 0xFFFF, d >> 16))
    return tl.reshape(tl.join(ab, cd), [TILE])


@triton.jit
def round_to_bf16(value, random):
    """Round fp32 to bf16 up with the probability of its distance, with 16 random bits; NaN and infinity stay."""
    bits = value.to(tl.uint32, bitcast=True)
    rounded = ((bits + random) & 0xFFFF0000).to(tl.float32, bitcast=True)
    return tl.where(value == value, rounded, value).to(tl.bfloat16)


@triton.jit
def block_scale(value, TILE: tl.constexpr):
    """Largest magnitude of each block of a tile, ``[TILE / BLOCK]``; not finite when any element is not."""
    bits = value.to(tl.int32, bitcast=True) & 0x7FFFFFFF  # ordered as the magnitudes are, with inf and NaN on top
    largest = tl.max(tl.reshape(bits, [TILE // BLOCK, BLOCK]), axis=1).to(tl.float32, bitcast=True)
    return tl.where(largest < 1e-37, 0.0, largest)


@triton.jit
def spread(scale, TILE: tl.constexpr):
    """Give every element of a tile the scale of its block."""
    return tl.reshape(tl.broadcast_to(scale[:, None], [TILE // BLOCK, BLOCK]), [TILE])


@triton.jit
def decode_signed(code, scale):
    """First moment: ``(code / 127)³ × scale``."""
    root = code * (1.0 / 127.0)
    return root * root * root * scale


@triton.jit
def encode_signed(value, scale):
    """Nearest code, in the domain of cube roots."""
    share = tl.abs(value) / tl.where(scale > 0.0, scale, 1.0)
    root = tl.exp2(tl.log2(tl.maximum(share, TINY)) * (1.0 / 3.0))
    magnitude = tl.floor(tl.minimum(127.0 * root, 127.0) + 0.5)
    return tl.where(value < 0.0, -magnitude, magnitude).to(tl.int8)


@triton.jit
def sixth_power(root):
    """``root⁶``."""
    square = root * root
    return square * square * square


@triton.jit
def decode_unsigned(code, scale):
    """Second moment: ``(code / 255)⁶ × scale``."""
    return sixth_power(code * (1.0 / 255.0)) * scale


@triton.jit
def encode_unsigned(value, scale, random):
    """Either neighbouring code, so that the expectation is the value; never 0 for a positive value."""
    share = value / tl.where(scale > 0.0, scale, 1.0)
    below = tl.floor(255.0 * tl.exp2(tl.log2(tl.maximum(share, TINY)) * (1.0 / 6.0)))
    below = tl.minimum(tl.maximum(below, 0.0), 254.0)
    low = sixth_power(below * (1.0 / 255.0))
    high = sixth_power((below + 1.0) * (1.0 / 255.0))
    goes_up = (random.to(tl.float32) + 0.5) * (1.0 / 65536.0) * (high - low) < share - low
    code = below + tl.where(goes_up, 1.0, 0.0)
    return tl.where(share > 0.0, tl.maximum(code, 1.0), 0.0).to(tl.uint8)
