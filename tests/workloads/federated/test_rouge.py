"""ROUGE-L against hand-made pairs and the definition."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeroof.workloads.federated.rouge import longest_common_subsequence, rouge_l

TOKENS = st.lists(st.integers(0, 3), max_size=7)


def by_definition(left: list, right: list) -> int:
    def subsequences(items: list) -> set:
        return {chosen for size in range(len(items) + 1) for chosen in combinations(items, size)}

    return max(len(chosen) for chosen in subsequences(left) & subsequences(right))


@given(TOKENS, TOKENS)
def test_longest_common_subsequence(left: list, right: list) -> None:
    assert longest_common_subsequence(left, right) == by_definition(left, right)


def test_scores() -> None:
    assert rouge_l([1, 2, 3], [1, 2, 3]) == 1
    assert rouge_l([1, 2, 3, 4], [2, 4]) == pytest.approx(2 * 2 / 6)
    assert rouge_l([], [1]) == rouge_l([5], [1]) == rouge_l([], []) == 0
