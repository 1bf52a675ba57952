"""Everything statistical about an A/B comparison; nothing else in edgeroof decides what is faster.

Samples come in pairs, one call of the base and one of the other provider right after each other, so that slow drifts of
the machine hit both. The log-ratio of a pair is ln(base / other): above zero the other is faster. What is reported is
the median log-ratio with a bootstrap 95 % interval, as a ratio (``1.25`` means that the base takes 1.25 times as long).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

Verdict = Literal["FASTER", "SAME", "SLOWER", "UNCLEAR"]
VERDICTS: tuple[Verdict, ...] = ("FASTER", "SAME", "SLOWER", "UNCLEAR")

CONFIDENCE = 0.95
BOOTSTRAP_DRAWS = 2000

#: Fewer pairs than this have no interval worth the name.
FEWEST_PAIRS = 5
#: No measurement here is believed to resolve less than this, however quiet the machine seems.
RESOLUTION = math.log(1.01)
#: What lies within this is called the same where the noise floor permits; twice the floor where it is higher.
SAME_WITHIN = math.log(1.02)
#: A difference that may be larger than this is never called "the same", however noisy the machine is.
SAME_AT_MOST = math.log(1.05)


@dataclass(frozen=True)
class Interval:
    """Median of log-ratios and the ends of its confidence interval, all natural logarithms."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """What a series of pairs says.

    Attributes:
        pairs: number of pairs.
        ratio: median of base time / other time; above 1 the other is faster.
        low: lower end of the ratio's 95 % interval.
        high: upper end.
        floor: ratio that a difference must exceed to count, from the A/A run.
        verdict: of the other provider against the base.
    """

    pairs: int
    ratio: float
    low: float
    high: float
    floor: float
    verdict: Verdict

    def describe(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)


def log_ratios(base: Sequence[float], other: Sequence[float]) -> np.ndarray:
    """ln(base / other) of each pair.

    Args:
        base: times of the base, any unit, all above zero.
        other: times of the other provider, pair by pair.

    Raises:
        ValueError: no pairs, unequal numbers, or a time that is not above zero.
    """
    base_times, other_times = np.asarray(base, float), np.asarray(other, float)
    if base_times.shape != other_times.shape or base_times.size == 0:
        raise ValueError(f"{base_times.size} times of the base and {other_times.size} of the other are no pairs")
    if not (np.all(base_times > 0) and np.all(other_times > 0)):
        raise ValueError("every time must be above zero")
    return np.log(base_times / other_times)


def median_interval(values: np.ndarray, *, draws: int = BOOTSTRAP_DRAWS, seed: int = 0) -> Interval:
    """Median with its bootstrap percentile interval.

    Noise comes in bursts that span several pairs, so whole blocks of neighbouring pairs are drawn (circular block
    bootstrap, D. Politis and J. Romano, 1992, with blocks of n^(1/3)).

    Args:
        values: log-ratios in the order in which they were measured.
        draws: bootstrap samples.
        seed: of the draws, so that equal samples give equal intervals.
    """
    count = len(values)
    length = max(1, round(count ** (1 / 3)))
    blocks = math.ceil(count / length)
    rng = np.random.default_rng(seed)
    medians = np.empty(draws)
    offsets = np.arange(length)
    for first in range(0, draws, 200):
        size = min(200, draws - first)
        starts = rng.integers(0, count, (size, blocks, 1))
        drawn = ((starts + offsets) % count).reshape(size, -1)[:, :count]
        medians[first : first + size] = np.median(values[drawn], axis=1)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(medians, [tail, 100 - tail])
    return Interval(float(np.median(values)), float(low), float(high))


def noise_floor(same_against_same: Interval) -> float:
    """Log-ratio that equal providers can show on this machine now: how far the A/A interval reaches from zero."""
    return max(abs(same_against_same.low), abs(same_against_same.high), RESOLUTION)


def judge(interval: Interval, floor: float) -> Verdict:
    """The verdict on a provider.

    FASTER or SLOWER: the whole interval lies beyond the noise floor. SAME: the whole interval lies within twice the
    floor (at least 2 %, never more than 5 %). Anything else is UNCLEAR: more pairs or a quieter machine are needed.

    Args:
        interval: of ln(base / other).
        floor: from :func:`noise_floor`.
    """
    if interval.low > floor:
        return "FASTER"
    if interval.high < -floor:
        return "SLOWER"
    band = min(max(2 * floor, SAME_WITHIN), SAME_AT_MOST)
    if -band <= interval.low and interval.high <= band:
        return "SAME"
    return "UNCLEAR"


def compare(base: Sequence[float], other: Sequence[float], floor: float = RESOLUTION) -> Comparison:
    """Compare paired times.

    Args:
        base: times of the base.
        other: times of the other provider, pair by pair.
        floor: noise floor as a log-ratio. An A/A run is itself judged with the default, the resolution.

    Raises:
        ValueError: see :func:`log_ratios`.
    """
    interval = median_interval(log_ratios(base, other))
    return Comparison(
        pairs=len(base),
        ratio=math.exp(interval.median),
        low=math.exp(interval.low),
        high=math.exp(interval.high),
        floor=math.exp(floor),
        verdict=judge(interval, floor),
    )


def floor_of(same_against_same: Comparison) -> float:
    """Noise floor (a log-ratio) of a finished A/A comparison."""
    ends = (math.log(same_against_same.ratio), math.log(same_against_same.low), math.log(same_against_same.high))
    return noise_floor(Interval(*ends))


def pairs_needed(pair_seconds: float, *, pairs: int, seconds: float, most_seconds: float, most_pairs: int) -> int:
    """How many pairs to measure: at least ``pairs`` and ``seconds`` of them, as far as the limits permit.

    Args:
        pair_seconds: how long one pair takes.
        pairs: least number wanted.
        seconds: least time wanted.
        most_seconds: limit of time; it may leave fewer pairs than wanted, but never fewer than five.
        most_pairs: limit of number.
    """
    each = max(pair_seconds, 1e-9)
    wanted = max(pairs, math.ceil(seconds / each))
    return max(FEWEST_PAIRS, min(wanted, max(most_pairs, pairs), math.floor(most_seconds / each)))


def spread(samples: Sequence[float]) -> dict[str, float]:
    """Median, quartiles and extremes of a provider's own times, in the unit of the samples."""
    low, first, middle, third, high = np.percentile(np.asarray(samples, float), [0, 25, 50, 75, 100])
    return {"median": float(middle), "p25": float(first), "p75": float(third), "min": float(low), "max": float(high)}
