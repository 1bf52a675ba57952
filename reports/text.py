"""Numbers and names as people read them: three or four digits, a unit, and never a bare ``nan``."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

#: What stands in a cell whose value is not known; the text around it says why.
UNKNOWN = "–"

#: The space between a number and its unit.
_NUMBER_AND_UNIT = re.compile(r"(?<=\d) (?=%|(?:ns|µs|ms|s|W|J|[KMGT]i?B|B|[kMGTP]?FLOP)\b)")

_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_BINARY_LIMITS = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def known(value: object) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def number(value: float | None, digits: int = 3) -> str:
    """A plain number with about ``digits`` significant digits: ``1,234`` ``12.3`` ``0.0123``."""
    if not known(value):
        return UNKNOWN
    assert value is not None
    if value == 0:
        return "0"
    whole_digits = math.floor(math.log10(abs(value))) + 1
    decimals = max(0, digits - whole_digits)
    if decimals > 6:
        return f"{value:.{max(0, digits - 1)}g}"
    return f"{value:,.{decimals}f}"


def count(value: float | None) -> str:
    """A number of things, with one decimal only when steps differ: ``1,234`` ``2.5``."""
    if not known(value):
        return UNKNOWN
    assert value is not None
    return f"{value:,.0f}" if abs(value - round(value)) < 0.05 or value >= 100 else f"{value:,.1f}"


def column(values: Sequence[float | None]) -> list[str]:
    """Numbers of one column with as many decimals as the largest needs, so that sizes show: ``132.3`` over ``0.2``."""
    sizes = [abs(value) for value in values if value is not None and known(value)]
    largest = max(sizes, default=0.0)
    decimals = 0 if largest >= 10_000 else 1 if largest >= 100 else 2 if largest >= 10 else 3
    smallest = 10.0**-decimals
    texts = []
    for value in values:
        if value is None or not known(value):
            texts.append(UNKNOWN)
        elif 0 < abs(value) < smallest / 2:
            texts.append(f"<{smallest:.{decimals}f}")
        else:
            texts.append("0" if value == 0 else f"{value:,.{decimals}f}")
    return texts


def si(value: float | None, unit: str) -> str:
    """A quantity with a decimal prefix: ``si(3.1e14, "FLOP/s")`` is ``310 TFLOP/s``."""
    if not known(value):
        return UNKNOWN
    assert value is not None
    for factor, prefix in _PREFIXES:
        if abs(value) >= factor:
            return f"{number(value / factor)} {prefix}{unit}"
    return f"{number(value)} {unit}"


def binary_bytes(value: float | None) -> str:
    """A memory size: ``1.5 GiB``."""
    if not known(value):
        return UNKNOWN
    assert value is not None
    for limit, unit in _BINARY_LIMITS:
        if abs(value) >= limit:
            return f"{number(value / limit)} {unit}"
    return f"{number(value)} B"


def duration(us: float | None) -> str:
    """A time given in µs, in the unit that suits it: ``12.3 µs``, ``4.56 ms``, ``1.2 s``."""
    if not known(us):
        return UNKNOWN
    assert us is not None
    if abs(us) >= 1e6:
        return f"{number(us / 1e6)} s"
    if abs(us) >= 1e3:
        return f"{number(us / 1e3)} ms"
    return f"{number(us)} µs"


def percent(share: float | None) -> str:
    """A share as a percentage: ``12.3 %``; small but present shares read ``<0.1 %``."""
    if not known(share):
        return UNKNOWN
    assert share is not None
    value = share * 100
    if 0 < abs(value) < 0.1:
        return "<0.1 %"
    if 99.95 <= value < 100:
        return ">99.9 %"
    return f"{value:.0f} %" if abs(value) >= 100 else f"{value:.1f} %"


def clean(text: object) -> str:
    """Text without control characters, direction overrides or lone surrogates, each replaced by ``�``.

    Names come from traces and may hold anything; this keeps escape sequences out of terminals and spoofed text out of
    pages. Whitespace of any kind becomes a plain space.
    """
    return "".join(
        char if char.isprintable() else " " if char.isspace() else "\N{REPLACEMENT CHARACTER}" for char in str(text)
    )


def unbroken(text: str) -> str:
    """Text in which no number is torn from its unit at the end of a line: the space between them does not break."""
    return _NUMBER_AND_UNIT.sub("\N{NO-BREAK SPACE}", text)


def shorten(text: str, width: int) -> str:
    """Text cut in the middle to ``width`` characters: C++ template names differ at both ends."""
    if len(text) <= width:
        return text
    if width < 5:
        return text[:width]
    tail = (width - 1) // 2
    return text[: width - 1 - tail] + "…" + text[-tail:]
