# ruff: noqa: N803
# mypy: disable-error-code=no-untyped-def
"""Dropout in Triton: what becomes of an element depends on a seed and the element's place alone.

One Philox call makes sixteen random bits for each of eight neighbours. Seven rounds are the fewest that pass every
test of randomness (Salmon et al., Parallel random numbers, SC 2011).
"""

import triton
import triton.language as tl


@triton.jit
def dropout_factors(seed, vector, threshold, scale, VECTOR: tl.constexpr):
    """Factors of vectors of neighbours: zero for elements whose random bits are below ``threshold``, else ``scale``.

    With 4 neighbours, which is what a thread loads at once of fp32, an even and an odd vector get the halves of what
    one of 8 gets, so that the factors of an element do not depend on ``VECTOR``.

    Args:
        seed: int64 number.
        vector: [...] int64, number of the vector, from the tensor's beginning.
        threshold: share that is dropped, of 65536.
        scale: of what is kept.
        VECTOR: 8 or 4.

    Returns:
        fp32, to be reshaped to [..., VECTOR].
    """
    eight = vector // (8 // VECTOR)
    low = (eight & 0xFFFFFFFF).to(tl.uint32)
    high = (eight >> 32).to(tl.uint32)
    nothing = low & 0
    a, b, c, d = tl.philox(seed, low, high, nothing, nothing, n_rounds=7)
    shift = ((vector & 1) * 16).to(tl.uint32)
    bits = tl.join(
        tl.join(_halves(a, shift, VECTOR), _halves(b, shift, VECTOR)),
        tl.join(_halves(c, shift, VECTOR), _halves(d, shift, VECTOR)),
    )
    return tl.where(bits.to(tl.int32) >= threshold, scale, 0.0)


@triton.jit
def _halves(number, shift, VECTOR: tl.constexpr):
    """Both halves of a number side by side, or the one that is ``shift`` bits up."""
    if VECTOR == 8:
        return tl.join(number & 0xFFFF, number >> 16)
    else:
        return (number >> shift) & 0xFFFF
