"""Axes of a figure: where a value lies, and which values are worth a tick."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .text import known

#: Ticks of a linear axis, about.
_TICKS = 5
#: Decades from which on only powers of ten get a tick.
_WIDE = 3


@dataclass(frozen=True)
class Axis:
    """A scale: ``place`` turns a value into a coordinate, ``ticks`` are the values to name."""

    place: Callable[[float], float]
    ticks: tuple[float, ...]


def linear_axis(values: Sequence[float | None], start: float, end: float) -> Axis:
    """A linear scale from zero, or from near the least value where all lie far from zero.

    Args:
        values: that must find a place; others than finite numbers are passed over.
        start: coordinate of the least value.
        end: coordinate of the largest.
    """
    finite = [value for value in values if value is not None and known(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    low = 0.0 if 0 < low < 0.6 * high else low
    if low == high:
        low, high = min(low, 0.0), high or 1.0
    step = _round_step((high - low) / _TICKS)
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    ticks = tuple(low + index * step for index in range(round((high - low) / step) + 1))
    return Axis(lambda value: start + (value - low) / (high - low) * (end - start), ticks)


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def log_axis(values: Sequence[float | None], start: float, end: float) -> Axis:
    """A logarithmic scale; values that are not above zero lie at its lower end.

    Args:
        values: that must find a place.
        start: coordinate of the least value.
        end: coordinate of the largest.
    """
    finite = [value for value in values if value is not None and known(value) and value > 0] or [1.0, 10.0]
    powers = range(math.floor(math.log10(min(finite))), math.ceil(math.log10(max(finite))) + 2)
    ticks = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    first = max(tick for tick in ticks if tick <= min(finite) * (1 + 1e-9))
    last = min(tick for tick in ticks if tick >= max(finite) * (1 - 1e-9) and tick > first)
    low, high = math.log10(first), math.log10(last)

    def place(value: float) -> float:
        return start + (math.log10(max(value, first)) - low) / (high - low) * (end - start)

    inside = [tick for tick in ticks if first <= tick <= last]
    return Axis(place, tuple(inside if high - low <= _WIDE else [10.0**p for p in powers if first <= 10.0**p <= last]))


def tick_text(value: float) -> str:
    """A tick's value, short: ``0.05`` ``1,000`` ``1e6``."""
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
    return f"{round(value, 10):,.6g}" if abs(value) < 1000 else f"{value:,.0f}"
