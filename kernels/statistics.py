"""Everything statistical about an A/B comparison; nothing else in edgeroof decides what is faster.

Samples come in pairs, one call of the base and one of the other provider right after each other, so that slow drifts of
the machine hit both. The log-ratio of a pair is ln(base / other): above zero the other is faster. Two neighbouring
pairs are in opposite order (base, other, other, base), and the mean of their log-ratios is one value: an advantage of
being first cancels. Values come from several placements in memory, an equal share from each; two neighbouring
placements were built in opposite order, and the mean of their values is again one value. What is reported is the median
of all values with a bootstrap 95 % interval, as a ratio (``1.25``: the base takes 1.25 times as long).
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
FEWEST_PAIRS = 6
#: Fewer placements than this, built in either order by turns, do not show how much they differ; then there is only one.
FEWEST_PLACEMENTS = 6
#: Placements that the wanted pairs are spread over where building is quick.
USUAL_PLACEMENTS = 24
#: No measurement here is believed to resolve less than this, however quiet the machine seems.
RESOLUTION = math.log(1.01)
#: What two runs of the same thing may differ by although their steps agree; assumed where each side has one run only.
BETWEEN_RUNS = math.log(1.05)
#: Standard error of the median of many normal values over that of their mean.
MEDIAN_ERROR = math.sqrt(math.pi / 2)
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
        placements: number of placements in memory that they come from.
        ratio: median of base time / other time; above 1 the other is faster.
        low: lower end of the ratio's 95 % interval.
        high: upper end.
        floor: ratio that a difference must exceed to count, from the A/A run.
        verdict: of the other provider against the base.
    """

    pairs: int
    placements: int
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


def order_free(values: np.ndarray) -> np.ndarray:
    """Means of two neighbouring pairs, which are in opposite order; a last pair without neighbour stands alone.

    Args:
        values: log-ratios of the pairs of one placement, in the order in which they were measured.
    """
    whole = len(values) // 2 * 2
    return np.concatenate([values[:whole].reshape(-1, 2).mean(axis=1), values[whole:]])


def crossed(placements: np.ndarray) -> np.ndarray:
    """Means of two neighbouring placements, value by value: an advantage of being built first cancels.

    Args:
        placements: of shape (placements, values of each), an even number of them, built in opposite order by turns.
    """
    return placements.reshape(len(placements) // 2, 2, -1).mean(axis=1)


def median_interval(values: np.ndarray, *, draws: int = BOOTSTRAP_DRAWS, seed: int = 0) -> Interval:
    """Median of one placement's values with its bootstrap percentile interval.

    Noise comes in bursts that span several values, so whole blocks of neighbours are drawn (circular block bootstrap,
    D. Politis and J. Romano, 1992, with blocks of n^(1/3)).

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
    return _percentiles(values, medians)


def placed_interval(values: np.ndarray, *, draws: int = BOOTSTRAP_DRAWS, seed: int = 0) -> Interval:
    """Median over several places in memory with its interval.

    Whole places are drawn, each with all its values (A. Davison and D. Hinkley, *Bootstrap Methods and their
    Application*, 1997, section 3.8), because what placements differ by does not average out within one. A bootstrap of
    few groups is too sure of itself: its interval is widened to what Student's distribution asks for.

    Args:
        values: of shape (places, values of each), from :func:`crossed`; two places at least.
        draws: bootstrap samples.
        seed: of the draws, so that equal samples give equal intervals.
    """
    count = len(values)
    rng = np.random.default_rng(seed)
    medians = np.empty(draws)
    for first in range(0, draws, 200):
        chosen = rng.integers(0, count, (min(200, draws - first), count))
        medians[first : first + len(chosen)] = np.median(values[chosen].reshape(len(chosen), -1), axis=1)
    found = _percentiles(values, medians)
    wider = student_quantile(count - 1) / _NORMAL_QUANTILE * math.sqrt(count / (count - 1))
    low, high = (found.median + wider * (end - found.median) for end in (found.low, found.high))
    return Interval(found.median, low, high)


def _percentiles(values: np.ndarray, medians: np.ndarray) -> Interval:
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(medians, [tail, 100 - tail])
    return Interval(float(np.median(values)), float(low), float(high))


_NORMAL_QUANTILE = 1.959964
#: 97.5 % quantiles of Student's distribution with 1 to 8 degrees of freedom.
_STUDENT_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306)


def student_quantile(freedom: int) -> float:
    """97.5 % quantile of Student's distribution; from 9 degrees of freedom on a series that is right to 0.2 %.

    Source: M. Abramowitz and I. Stegun, *Handbook of Mathematical Functions*, 26.7.5.
    """
    if freedom <= len(_STUDENT_QUANTILES):
        return _STUDENT_QUANTILES[freedom - 1]
    x = _NORMAL_QUANTILE
    return x + (x**3 + x) / (4 * freedom) + (5 * x**5 + 16 * x**3 + 3 * x) / (96 * freedom**2)


def is_precise(interval: Interval, precision: float) -> bool:
    """Whether more pairs are not worth their time: the interval reaches less than ``precision`` to either side.

    A large difference need not be known as well: a tenth of the log-ratio is enough. The rule knows nothing of
    verdicts, so that stopping by it favours none.
    """
    return (interval.high - interval.low) / 2 <= max(precision, abs(interval.median) / 10)


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


def interval_of(
    base: Sequence[float], other: Sequence[float], placements: int = 1, draws: int = BOOTSTRAP_DRAWS
) -> Interval:
    """Median log-ratio of paired times with its interval; the arguments are those of :func:`compare`."""
    values = log_ratios(base, other)
    if len(values) % placements or not (placements == 1 or (placements >= 4 and placements % 2 == 0)):
        raise ValueError(f"{len(values)} pairs cannot be of {placements} placements with equally many, one or 4, 6, …")
    groups = [order_free(group) for group in np.split(values, placements)]
    if placements == 1:
        return median_interval(groups[0], draws=draws)
    return placed_interval(crossed(np.array(groups)), draws=draws)


def independent_interval(
    base: Sequence[float], other: Sequence[float], typical: tuple[float, float], *, medians: bool
) -> Interval | None:
    """Interval of the ratio of two typical times, from times that are no pairs: steps or medians of repeated runs.

    It lies around the ratio that is reported, so that the two never disagree. Its width comes from the scatter of the
    logarithms, which may differ between the sides, with Student's quantile for the smaller side: that interval never
    holds less than it says (R. Mickey and M. Brown, *Annals of Mathematical Statistics* 37, 1966), which Welch's does
    with two or three values on a side. A median errs more than a mean: by :data:`MEDIAN_ERROR` of many normal times, by
    less of few.

    Args:
        base: times of the base, any unit, above zero; independent of each other as far as one knows.
        other: times of the other, likewise; not necessarily as many.
        typical: the times of both that are reported, medians or means of these.
        medians: whether they are medians.

    Returns:
        Of ln(base / other); ``None`` where a side has fewer than two times, or times that are not above zero.
    """
    sides = [np.asarray(times, float) for times in (base, other)]
    if any(times.size < 2 or not np.all(times > 0) for times in sides) or min(typical) <= 0:
        return None
    variances = [np.log(times).var(ddof=1) / times.size for times in sides]
    middle = math.log(typical[0] / typical[1])
    error = math.sqrt(sum(variances)) * (MEDIAN_ERROR if medians else 1.0)
    reach = student_quantile(min(times.size for times in sides) - 1) * error
    return Interval(middle, middle - reach, middle + reach)


def compare_independent(
    base: Sequence[float], other: Sequence[float], floor: float, typical: tuple[float, float], *, medians: bool
) -> Comparison | None:
    """Compare times that are no pairs; ``None`` where :func:`independent_interval` has none.

    Args:
        base: times of the base.
        other: times of the other.
        floor: log-ratio that a difference must exceed to count: :data:`RESOLUTION` for medians of repeated runs,
            :data:`BETWEEN_RUNS` for the steps of single runs.
        typical: the times of both that are reported.
        medians: whether they are medians of these times; otherwise means.
    """
    interval = independent_interval(base, other, typical, medians=medians)
    if interval is None:
        return None
    return Comparison(
        pairs=min(len(base), len(other)),
        placements=1,
        ratio=math.exp(interval.median),
        low=math.exp(interval.low),
        high=math.exp(interval.high),
        floor=math.exp(floor),
        verdict=judge(interval, floor),
    )


def compare(
    base: Sequence[float], other: Sequence[float], floor: float = RESOLUTION, placements: int = 1
) -> Comparison:
    """Compare paired times.

    Args:
        base: times of the base.
        other: times of the other provider, pair by pair; neighbouring pairs of a placement are in opposite order.
        floor: noise floor as a log-ratio. An A/A run is itself judged with the default, the resolution.
        placements: in how many placements in memory they were measured, one after the other, with equally many in each;
            one, or an even number from four on, whose neighbours were built in opposite order.

    Raises:
        ValueError: see :func:`log_ratios`; or the pairs cannot be of so many placements.
    """
    interval = interval_of(base, other, placements)
    return Comparison(
        pairs=len(base),
        placements=placements,
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


@dataclass(frozen=True)
class Plan:
    """How many pairs to take in one placement, an even number, and in how many placements at least: one, or even."""

    pairs: int
    placements: int

    @property
    def fewest(self) -> int:
        """Pairs in all, at least."""
        return self.pairs * self.placements


def plan(
    pair_seconds: float,
    build_seconds: float | None,
    *,
    pairs: int,
    seconds: float,
    most_seconds: float,
    most_pairs: int,
) -> Plan:
    """How to spend the time: at least ``pairs`` and ``seconds`` of them, in several placements if building is quick.

    Building should take no more than a third of the time. Where six placements would take more than half of it to
    build, or with two pairs in each more than twice of it in all, there is one.

    Args:
        pair_seconds: how long one pair takes.
        build_seconds: how long it takes to build both works once more; ``None`` if they must stay where they are.
        pairs: least number wanted.
        seconds: least time wanted.
        most_seconds: limit of time, building included; it may leave fewer pairs than wanted, but never fewer than six.
            Rounding up to whole twos, in six placements, may take up to twice as long.
        most_pairs: limit of number.
    """
    each = max(pair_seconds, 1e-9)
    wanted = min(max(pairs, math.ceil(seconds / each)), max(most_pairs, pairs))
    if build_seconds is None or not _affords_placements(each, build_seconds, most_seconds):
        return Plan(_even(max(FEWEST_PAIRS, min(wanted, math.floor(most_seconds / each)))), 1)
    share = max(wanted / USUAL_PLACEMENTS, 2 * build_seconds / each)
    if most_seconds / (build_seconds + share * each) * share < wanted:
        share = max(share, wanted / FEWEST_PLACEMENTS)
    share = min(share, (most_seconds / FEWEST_PLACEMENTS - build_seconds) / each)
    count = max(2, _even(share))
    affordable = 2 * math.floor(most_seconds / (build_seconds + count * each) / 2)
    return Plan(count, max(FEWEST_PLACEMENTS, min(_even(wanted / count), affordable)))


def _affords_placements(pair_seconds: float, build_seconds: float, most_seconds: float) -> bool:
    """Whether building the fewest takes half of the time at most, and with two pairs in each, twice of it at most."""
    building = FEWEST_PLACEMENTS * build_seconds
    return building <= most_seconds / 2 and building + 2 * FEWEST_PLACEMENTS * pair_seconds <= 2 * most_seconds


def _even(number: float) -> int:
    return 2 * math.ceil(number / 2)


def spread(samples: Sequence[float]) -> dict[str, float]:
    """Median, quartiles and extremes of a provider's own times, in the unit of the samples."""
    low, first, middle, third, high = np.percentile(np.asarray(samples, float), [0, 25, 50, 75, 100])
    return {"median": float(middle), "p25": float(first), "p75": float(third), "min": float(low), "max": float(high)}
