"""Intervals over seeds, targets, pairs, and federations that are kept."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeroof.errors import FederatedError, UsageError
from edgeroof.reports.intervals import factor, spread, verdict
from edgeroof.workloads.federated.study import FEDERATIONS, interval, keep, paired, rounds_to, target_loss
from edgeroof.workloads.federated.study_compression import CompressionStudy
from edgeroof.workloads.federated.study_selection import SelectionStudy
from edgeroof.workloads.federated.training import ClientTrainer

from .tiny import TINY


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


def test_without_a_finite_loss_there_is_no_target() -> None:
    history = [{"round": 0, "eval_loss": None}, {"round": 1, "eval_loss": None}]
    with pytest.raises(FederatedError, match="no held-out loss of the baseline"):
        target_loss(history)
    assert target_loss(history, 3.0) == 3.0


CONFIG = dataclasses.replace(TINY, seed=4)


def test_seeds_differ_in_everything_and_pairs_in_nothing() -> None:
    compression = CompressionStudy(CONFIG, ("none", "int8", "lora:2"), ("lte",))
    selecting = SelectionStudy(CONFIG, fleet="t4=9*4@1g")
    configs = [compression.config_of("none", 1), compression.config_of("int8", 1), selecting.config_of("oort", 1, 4)]
    assert {(config.seed, config.client.seed) for config in configs} == {(5, 5)}
    one, same, other = (
        ClientTrainer(compression.config_of(c, s)).weights() for c, s in (("none", 1), ("int8", 1), ("none", 2))
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    "codecs", [("none", "fp32"), ("INT8", "int8"), ("topk", "topk:0.01"), ("lora:4", "LORA:04+none")]
)
def test_a_codec_under_two_names_is_one(codecs: tuple) -> None:
    with pytest.raises(UsageError, match="are the same codec"):
        CompressionStudy(CONFIG, codecs, ("lte",))


def test_adapters_without_a_rank_are_refused() -> None:
    with pytest.raises(UsageError, match="rank of at least 1"):
        CompressionStudy(CONFIG, ("none", "lora:0"), ("lte",))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"strategies": ("mfu", "mfu:0.5")}, "each named once"),
        ({"fleet": "t4=9*4@9/9"}, "radio of link 9/9"),
        ({"battery_wh": 1e308}, "battery"),
        ({"budget_wh": 1e308}, "budget"),
        ({"config": dataclasses.replace(TINY, seed=2**63 - 1)}, "seed"),
    ],
)
def test_selection_studies_that_make_no_sense(wrong: dict, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        SelectionStudy(**{"config": CONFIG, **wrong})


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
