"""Numbers as the sentences of a report say them."""

from __future__ import annotations

#: Keeps a number and its unit on one line.
NBSP = "\u00a0"


def percent(share: float, digits: int = 0) -> str:
    """A share as a percentage: 0.125 is ``12 %`` (or ``12.5 %``)."""
    return f"{100 * share:.{digits}f}{NBSP}%"


def duration(us: float) -> str:
    """Microseconds in the unit that suits them, to three digits."""
    for limit, unit, scale in ((1e3, "µs", 1.0), (1e6, "ms", 1e3)):
        if us < limit:
            return f"{us / scale:.3g}{NBSP}{unit}"
    return f"{us / 1e6:.3g}{NBSP}s"
