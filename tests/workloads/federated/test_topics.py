"""Topical dialogues can be learned from, and are split over clients without losing one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeroof.errors import UsageError
from edgeroof.workloads.federated.partition import SPLITS, split
from edgeroof.workloads.federated.topics import THINGS, generate_topical, group_by_length

IDS = np.arange(3, 1024)


def test_summaries_follow_from_their_dialogues() -> None:
    data = generate_topical(IDS, 64, seed=1)
    phrases = {}
    for example, topic in zip(data.dataset.examples, data.labels):
        half = (len(example.target) - THINGS) // 2
        things = example.target[half : half + THINGS]
        assert set(things) <= set(example.source)
        phrase = (*example.target[:half], *example.target[half + THINGS :])
        assert phrases.setdefault(topic, phrase) == phrase
    assert len(phrases) == len(set(phrases.values())) == 8


def test_equal_seeds_give_equal_dialogues() -> None:
    one, same, other = (generate_topical(IDS, 8, seed=seed).dataset.examples for seed in (1, 1, 2))
    assert all(np.array_equal(a.source, b.source) for a, b in zip(one, same))
    assert not all(np.array_equal(a.source, b.source) for a, b in zip(one, other))


def test_lengths_are_grouped_evenly() -> None:
    grouped = group_by_length(generate_topical(IDS, 40).dataset)
    lengths = np.array([len(example.source) for example in grouped.dataset.examples])
    assert np.bincount(grouped.labels).tolist() == [10] * 4
    assert lengths[grouped.labels == 0].max() <= lengths[grouped.labels == 3].min()


@given(
    count=st.integers(1, 200),
    clients=st.integers(1, 12),
    how=st.sampled_from(SPLITS),
    alpha=st.sampled_from([1e-3, 0.1, 1.0, 100.0]),
    seed=st.integers(0, 5),
)
def test_every_example_goes_to_one_client(count: int, clients: int, how: str, alpha: float, seed: int) -> None:
    labels = np.arange(count) % 3
    if clients > count:
        with pytest.raises(UsageError, match="fewer clients"):
            split(labels, clients, how, alpha, seed)
        return
    parts = split(labels, clients, how, alpha, seed)
    assert sorted(np.concatenate(parts).tolist()) == list(range(count))
    assert all(len(part) for part in parts)


def test_alpha_decides_how_much_clients_differ() -> None:
    labels = np.arange(4000) % 8

    def unevenness(alpha: float) -> float:
        shares = [np.bincount(labels[part], minlength=8) / len(part) for part in split(labels, 10, "topics", alpha)]
        return float(np.std(shares))

    assert unevenness(0.1) > 2 * unevenness(1.0) > 4 * unevenness(100.0)
    sizes = [len(part) for part in split(labels, 10, "size", 0.5)]
    assert max(sizes) > 3 * min(sizes)
    assert {len(part) for part in split(labels, 10, "even")} == {400}


@pytest.mark.parametrize("settings", [{"how": "random"}, {"alpha": 0.0}, {"alpha": float("nan")}])
def test_splits_that_make_no_sense(settings: dict) -> None:
    with pytest.raises(UsageError):
        split(np.zeros(10, int), 2, **settings)
