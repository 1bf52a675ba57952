"""Medians over seeds and their intervals, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .text import UNKNOWN, number

#: Below this an interval over seeds is called what it is: a range.
CONFIDENT = 0.9
#: Below this nothing is concluded: three seeds that agree have it.
LEAST_CONFIDENCE = 0.75


def spread(entry: Mapping[str, Any], show: Callable[[float], str] = number) -> str:
    """A median and its interval: ``1.2 (1.1 to 1.4)``, and how many seeds got there when some did not.

    Args:
        entry: an interval over seeds in its JSON form, ``None`` for infinity.
        show: a value as text.
    """
    middle = UNKNOWN if entry["middle"] is None else show(entry["middle"])
    if entry["reached"] < entry["count"]:
        seeds = f"{entry['reached']}/{entry['count']} seeds"
        if entry["low"] is None:
            return f"{middle} ({seeds})"
        high = "never" if entry["high"] is None else show(entry["high"])
        return f"{middle} ({show(entry['low'])} to {high}; {seeds})"
    if entry["count"] == 1 or entry["low"] == entry["high"]:
        return middle
    return f"{middle} ({show(entry['low'])} to {show(entry['high'])})"


def factor(entry: Mapping[str, Any]) -> str:
    """A ratio and its interval: ``0.8× (0.7 to 0.9)``; up to ``never`` where some seeds did not get there."""
    if entry["middle"] is None:
        return "never got there"
    low, high = ("never" if entry[end] is None else number(entry[end]) for end in ("low", "high"))
    return f"{number(entry['middle'])}×" if entry["count"] == 1 else f"{number(entry['middle'])}× ({low} to {high})"


def verdict(entry: Mapping[str, Any]) -> str:
    """What a ratio of costs says: ``less`` or ``more`` when its interval leaves out 1, else ``unclear``.

    One or two seeds never say anything.
    """
    if entry["confidence"] < LEAST_CONFIDENCE:
        return "unclear"
    if entry["high"] is not None and entry["high"] < 1:
        return "less"
    if entry["low"] is None or entry["low"] > 1:
        return "more"
    return "unclear"


def seeded(result: Mapping[str, Any]) -> str:
    """What differs between the seeds of a study; older studies started every seed from the same weights."""
    return str(result.get("seeded", "data, split, choice and training; the initial weights are the same for all"))


def target_source(result: Mapping[str, Any], first: str) -> str:
    """Where the targets of a study come from.

    Args:
        result: of the study.
        first: what the others are compared with.
    """
    if result["target_given"] is not None:
        return "given"
    return f"90 % of what {first} gained on the same seed, so {first} gets there by construction"


def confidence_note(entry: Mapping[str, Any]) -> str:
    """How sure the intervals are."""
    seeds, sure = entry["count"], entry["confidence"]
    if seeds == 1:
        return "One seed: nothing says how another would do."
    text = f"Medians over {seeds} seeds; intervals hold the median with {sure:.0%} confidence."
    return text if sure >= CONFIDENT else f"{text} That is little: more seeds make them mean more."
