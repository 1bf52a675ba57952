"""Intervals over seeds, targets, pairs, and federations that are kept."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeroof.errors import FederatedError
from edgeroof.reports.intervals import factor, spread, verdict
from edgeroof.workloads.federated.study import FEDERATIONS, interval, keep, paired, rounds_to, target_loss


@given(st.lists(st.floats(0, 100) | st.just(math.inf), min_size=1, max_size=15))
def test_intervals_hold_their_median(values: list) -> None:
    found = interval(values)
    assert found.low <= found.middle <= found.high
    assert found.reached == sum(map(math.isfinite, values))
    assert set(found.to_json()) == {"middle", "low", "high", "confidence", "count", "reached"}


def test_confidence_is_what_it_says() -> None:
    assert [interval(range(n)).confidence for n in (1, 3, 5)] == [0, 0.75, 0.9375]
    draws = np.random.default_rng(0).exponential(size=(4000, 12))
    found = [interval(list(row)) for row in draws]
    held = np.mean([entry.low <= math.log(2) <= entry.high for entry in found])
    assert found[0].low > min(draws[0])
    assert held == pytest.approx(found[0].confidence, abs=0.015)
    assert found[0].confidence >= 0.95


def test_pairs() -> None:
    assert paired([2.0, 3.0, None], [4.0, 6.0, None]).middle == 0.5
    assert paired([None], [1.0]).middle == math.inf
    assert paired([1.0], [None]).middle == 0


def test_targets() -> None:
    history = [{"round": 0, "eval_loss": 10.0}, {"round": 1, "eval_loss": 6.0}, {"round": 2, "eval_loss": None}]
    assert target_loss(history) == pytest.approx(6.4)
    assert target_loss(history, 3.0) == 3.0
    assert (rounds_to(history, 6.4), rounds_to(history, 5.0)) == (1, None)


def test_verdicts_need_an_interval_without_one() -> None:
    assert verdict(interval([0.5, 0.8, 0.9]).to_json()) == "less"
    assert verdict(interval([0.5, 0.8, 1.1]).to_json()) == "unclear"
    assert verdict(interval([1.5, math.inf, 2.0]).to_json()) == "more"
    assert verdict(interval([0.5, 0.6]).to_json()) == "unclear"
    assert factor(interval([math.inf]).to_json()) == "never got there"
    assert spread(interval([1.0, 2.0, math.inf]).to_json()) == "2.00 (1.00 to never; 2/3 seeds)"
    assert spread(interval([math.inf, math.inf]).to_json()) == "– (0/2 seeds)"


def test_what_is_kept_is_not_made_again(tmp_path: Path) -> None:
    made = []

    def make() -> dict:
        made.append(1)
        return {"value": len(made)}

    assert keep(tmp_path, "a/b", {"x": 1}, make) == keep(tmp_path, "a/b", {"x": 1}, make) == {"value": 1}
    assert keep(tmp_path, "a/b", {"x": 2}, make) == {"value": 2}
    files = sorted((tmp_path / FEDERATIONS).iterdir())
    assert len(files) == 2
    for file in files:
        file.write_text("[")
    with pytest.raises(FederatedError, match="damaged"):
        keep(tmp_path, "a/b", {"x": 1}, make)
