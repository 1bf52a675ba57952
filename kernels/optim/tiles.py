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
WHOLE = tl.constexpr(12582912.0)  # 1.5 · 2²³: adding it rounds to the nearest whole number, kept in the lowest bits
WHOLE_BITS = tl.constexpr(0x4B400000)


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

    The bits depend on the tensor's seed, the element's index in its tensor, the step and the purpose alone. Seven
    rounds are the fewest that pass every test of randomness (Salmon et al., Parallel random numbers, SC 2011).
    """
    counter = first // 8 + tl.arange(0, TILE // 8)
    low = counter.to(tl.uint32)
    high = (counter >> 32).to(tl.uint32)
    nothing = low * 0
    a, b, c, d = tl.philox(seed, low, high, nothing + step.to(tl.uint32), nothing + PURPOSE, n_rounds=7)
    ab = tl.join(tl.join(a & 0xFFFF, a >> 16), tl.join(b & 0xFFFF, b >> 16))
    cd = tl.join(tl.join(c & 0xFFFF, c >> 16), tl.join(d & 0xFFFF, d >> 16))
    return tl.reshape(tl.join(ab, cd), [TILE])


@triton.jit
def round_to_bf16(value, random):
    """Round fp32 to bf16 up with the probability of its distance, with 16 random bits; NaN and infinity stay."""
    bits = tl.where(value == value, value.to(tl.uint32, bitcast=True) + random, 0x7FC00000)
    return (bits >> 16).to(tl.uint16).to(tl.bfloat16, bitcast=True)


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
def cube_root(value):
    """Cube root with the sign of ``value``, within 3e-6 of itself, in a third of the instructions of a logarithm.

    A third of the exponent, taken from the bits as a whole number, guesses ``|value| ** (-1/3)``; the rest is a
    polynomial in ``|value| * guess³``, fitted between 2.66 and 3.16, where every guess lies.
    """
    bits = value.to(tl.uint32, bitcast=True) & 0x7FFFFFFF
    guess = (0x54E38000 - tl.umulhi(bits, 0x55555556)).to(tl.float32, bitcast=True)
    near = value * guess * guess
    cube = tl.abs(near) * guess
    power = ((-0.009892117697 * cube + 0.1187345835) * cube - 0.5521291211) * cube + 1.335613049  # cube ** (-2/3)
    return near * power


@triton.jit
def cube_of_code(code):
    """First moment as a share of its block's scale: ``(code / 127)³``."""
    root = code * (1.0 / 127.0)
    return root * root * root


@triton.jit
def per_scale(scale):
    """``1 / scale``, or 0 when that is not a positive number: then all codes of the block are 0."""
    return tl.where(scale > 0.0, 1.0 / scale, 0.0)


@triton.jit
def encode_signed(value, inverse):
    """Nearest code, in the domain of cube roots.

    Args:
        value: first moments.
        inverse: :func:`per_scale` of their blocks.
    """
    return (127.0 * cube_root(value * inverse) + WHOLE).to(tl.int32, bitcast=True).to(tl.int8)


@triton.jit
def sixth_power_of_code(code):
    """Second moment as a share of its block's scale: ``(code / 255)⁶``."""
    root = code * (1.0 / 255.0)
    cube = root * root * root
    return cube * cube


@triton.jit
def encode_unsigned(root, inverse, random):
    """Either neighbouring code, so that the expectation is the value; never 0 for a positive value.

    Args:
        root: square roots of the second moments: their codes lie on cubes.
        inverse: 255³ times :func:`per_scale` of the square roots of their blocks' scales, so that cube roots of the
            shares are codes.
        random: sixteen random bits.
    """
    share = root * inverse
    biased = tl.minimum((cube_root(share) - 0.5) + WHOLE, WHOLE + 254.0)  # the whole number below
    below = biased - WHOLE
    low = below * below * below
    high = (below + 1.0) * (below + 1.0) * (below + 1.0)
    distance = high * high - low * low
    draw = ((random << 7) | 0x3F800000).to(tl.float32, bitcast=True)  # 1 to 2
    goes_up = draw * distance < (share * share - low * low) + (1.0 - 0.5 / 65536) * distance
    code = biased.to(tl.int32, bitcast=True) + goes_up.to(tl.int32) - WHOLE_BITS
    return tl.maximum(code, (share > 0.0).to(tl.int32)).to(tl.uint8)
