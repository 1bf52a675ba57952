"""What studies of federations share: federations that are kept when they end, targets, and intervals over seeds."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ...errors import FederatedError, UsageError

FEDERATIONS = "federations"
#: Of the records of federations; files of another version are not found again.
VERSION = 2
#: Share of the baseline's progress that is the target on each seed, unless a loss is given.
TARGET_SHARE = 0.9
#: What differs between the seeds of a study.
SEEDED = "initial weights, data, split, choice and training"

#: Called with what is being done, the steps done and the steps in all.
Progress = Callable[[str, int, int], None]
Record = dict[str, Any]


@dataclass(frozen=True)
class Interval:
    """A median over seeds with a distribution-free interval.

    Attributes:
        middle: the median; infinite where half of the seeds or more never got there.
        low: lower end.
        high: upper end; infinite where it is not known.
        confidence: with which the interval holds the median, exact for independent seeds.
        count: seeds.
        reached: seeds with a finite value.
    """

    middle: float
    low: float
    high: float
    confidence: float
    count: int
    reached: int

    def to_json(self) -> dict[str, Any]:
        """JSON-ready form; ``None`` stands for infinity."""
        found = {"middle": self.middle, "low": self.low, "high": self.high}
        finite = {name: value if math.isfinite(value) else None for name, value in found.items()}
        return {**finite, "confidence": self.confidence, "count": self.count, "reached": self.reached}


def interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Median with the narrowest pair of order statistics that holds it with at least this confidence.

    The number of values below the median is binomial, whatever their distribution (W. R. Thompson, "On confidence
    ranges for the median", Annals of Mathematical Statistics, 1936). With few seeds even the extremes do not reach the
    confidence asked for; the interval then is from extreme to extreme, with the confidence that it has: 75 % for three
    seeds, 94 % for five.

    Args:
        values: one per seed; infinite for what never happened.
        confidence: asked for.

    Raises:
        ValueError: there are no values.
    """
    ordered = sorted(values)
    count = len(ordered)
    if not count:
        raise ValueError("an interval needs values")
    skipped = 0
    while 2 * (skipped + 1) < count and _holds(count, skipped + 1) >= confidence:
        skipped += 1
    reached = sum(math.isfinite(value) for value in ordered)
    middle = median(ordered) if reached == count or count % 2 else _middle(ordered)
    return Interval(middle, ordered[skipped], ordered[-1 - skipped], _holds(count, skipped), count, reached)


def _holds(count: int, skipped: int) -> float:
    """Confidence of the interval from the value behind ``skipped`` ones to the one before as many."""
    return 1 - sum(math.comb(count, k) for k in range(skipped + 1)) / 2 ** (count - 1)


def _middle(ordered: Sequence[float]) -> float:
    """The median of an even number of values of which some are infinite."""
    low, high = ordered[len(ordered) // 2 - 1], ordered[len(ordered) // 2]
    return math.inf if math.isinf(high) else (low + high) / 2


def known_interval(values: Sequence[float | None]) -> Interval:
    """The interval of values of which ``None`` stands for what never happened."""
    return interval([math.inf if value is None else value for value in values])


def paired(values: Sequence[float | None], baseline: Sequence[float | None]) -> Interval:
    """Ratios to a baseline on the same seeds; infinite where only the baseline got there, 1 where neither did.

    A seed on which only the baseline failed counts as 0: better by an unknown factor.
    """
    return interval([_ratio(value, base) for value, base in zip(values, baseline)])


def _ratio(value: float | None, base: float | None) -> float:
    if value is None:
        return 1.0 if base is None else math.inf
    if base is None:
        return 0.0
    return value / base if base else 1.0 if not value else math.inf


def target_loss(baseline: Sequence[Mapping[str, Any]], given: float | None = None) -> float:
    """The held-out loss to reach: as given, or most of what the baseline gained on the same seed.

    Without a given loss the baseline gets there by construction: only the others can fail.

    Args:
        baseline: records of a federation.
        given: a loss.

    Raises:
        FederatedError: no loss of the baseline is a finite number.
    """
    if given is not None:
        return given
    losses = [record["eval_loss"] for record in baseline if record["eval_loss"] is not None]
    if not losses:
        raise FederatedError(
            "no held-out loss of the baseline is a finite number, so there is no target; give --target-loss, or a "
            "lower learning rate"
        )
    return float(losses[0] - TARGET_SHARE * (losses[0] - min(losses)))


def rounds_to(history: Sequence[Mapping[str, Any]], target: float) -> int | None:
    """The first round whose held-out loss is at most the target; ``None`` if there is none."""
    reached = (r["round"] for r in history if r["eval_loss"] is not None and r["eval_loss"] <= target)
    return next(reached, None)


def last_quality(history: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Held-out loss and ROUGE-L after the last round; an infinite loss where it is not finite."""
    last = history[-1]
    loss = last["eval_loss"]
    return (math.inf if loss is None else float(loss)), float(last["rouge_l"])


def keep(folder: Path | None, name: str, setting: Mapping[str, Any], make: Callable[[], Record]) -> Record:
    """A federation's record: from its file when an earlier run finished it, else made now and kept.

    Args:
        folder: of the study; ``None`` keeps nothing.
        name: of the federation, for people.
        setting: all that the record depends on; files of other settings are not touched.
        make: runs the federation and returns a JSON-ready record.

    Raises:
        FederatedError: the file is damaged or cannot be written.
    """
    if folder is None:
        return make()
    text = json.dumps({"version": VERSION, **setting}, sort_keys=True)
    mark = hashlib.sha256(text.encode()).hexdigest()[:12]
    safe = "".join(char if char.isalnum() or char in "-." else "_" for char in name)
    path = folder / FEDERATIONS / f"{safe}-{mark}.json"
    try:
        if path.exists():
            return dict(json.loads(path.read_text(encoding="utf-8"))["record"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FederatedError(f"the federation {path} is damaged: {error}; remove that file") from error
    record = make()
    staged = path.with_name(f".{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staged.write_text(json.dumps({"setting": setting, "record": record}, allow_nan=False), encoding="utf-8")
        staged.replace(path)
    except OSError as error:
        raise FederatedError(f"the federation could not be kept as {path}: {error}") from error
    return record


def check_plan(seeds: int, target: float | None) -> None:
    """Check the number of seeds, and the target if one is given.

    Raises:
        UsageError: one of them makes no sense.
    """
    if seeds < 1:
        raise UsageError(f"{seeds} seeds make no study; use at least 1, better 5")
    if target is not None and not (math.isfinite(target) and target > 0):
        raise UsageError(f"a target loss of {target} makes no sense; give one above 0")
