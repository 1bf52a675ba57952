"""Intervals of projected times: what leave-one-GPU-out cross-validation left, widened by what it could not test.

A kernel's interval comes from kernels of its kind on GPUs that the fit had not seen; that of a step from whole measured
steps on such GPUs, whose errors partly cancel. Nine in ten of those measurements lay inside.
"""

from __future__ import annotations

from math import exp, hypot, log
from typing import NamedTuple

from .coefficients import Coefficients

#: Where cross-validation has nothing to say, log widths that are assumptions: kernels on matrix units, fused attention
#: and convolutions; a board whose power limit is not known; a kind of board that none of the measured
#: ones is like, as modules whose memory the CPU shares; a small board, whose clock hangs on its temperature (measured
#: steps on the T4 and the P4 were off by 30 % where others were by 10); a CPU.
UNMEASURED = log(1.4)
UNKNOWN_POWER = log(1.5)
UNMEASURED_BOARD = log(1.25)
SMALL_BOARD = log(1.25)
CPU = log(3.0)

#: Kinds of error band by kind of work; others stream.
_BANDS = {"norm": "norm", "norm_backward": "norm", "softmax": "softmax", "softmax_backward": "softmax"}


class Interval(NamedTuple):
    """Multiples of a projected time between which nine in ten measurements are expected."""

    low: float
    high: float


def kernel_interval(c: Coefficients, kind: str, batched: bool, widening: float = 0.0) -> Interval:
    """Interval of one kernel.

    Args:
        c: coefficients with the errors of their cross-validation.
        kind: kind of :class:`~.work.Work`.
        batched: for products, whether it is batched.
        widening: log width to add, see the constants here.
    """
    if kind == "product":
        return _widened(c, "kernel", "bmm" if batched else "linear", widening)
    return _widened(c, "kernel", _BANDS.get(kind, "elementwise"), widening)


def step_interval(c: Coefficients, widening: float = 0.0) -> Interval:
    """Interval of a whole step, or of a phase of it."""
    return _widened(c, "step", "all", widening)


def _widened(c: Coefficients, level: str, name: str, widening: float) -> Interval:
    band = (c.kernel_errors if level == "kernel" else c.step_errors).get(name)
    low, high = (log(band.low), log(band.high)) if band else (-UNMEASURED, UNMEASURED)
    return Interval(exp(-hypot(min(low, 0.0), widening)), exp(hypot(max(high, 0.0), widening)))
