import itertools

from hypothesis import given
from hypothesis import strategies as st

from edgeroof.profiler import alignment
from edgeroof.profiler.alignment import align, op_key

keys = st.lists(st.sampled_from("abc"), max_size=30)


def longest_common_subsequence(left: list[str], right: list[str]) -> int:
    previous = [0] * (len(right) + 1)
    for a in left:
        current = [0]
        for j, b in enumerate(right):
            current.append(previous[j] + 1 if a == b else max(current[-1], previous[j + 1]))
        previous = current
    return previous[-1]


@given(keys, keys)
def test_pairs_are_equal_increasing_and_as_many_as_possible(left: list[str], right: list[str]) -> None:
    pairs = align(left, right)
    assert all(left[i] == right[j] for i, j in pairs)
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in itertools.pairwise(pairs))
    assert len(pairs) == longest_common_subsequence(left, right)


def test_one_missing_op_does_not_derail_the_rest() -> None:
    recorded = ["mm", "add", "mul"] * 100
    profiled = [*recorded[:50], "scalar_tensor", *recorded[51:]]
    assert len(align(recorded, profiled)) == 299


def test_different_steps_are_not_aligned(monkeypatch) -> None:
    monkeypatch.setattr(alignment, "MAX_DIFFERENCES", 5)
    assert align(["a"] * 10, ["b"] * 10) == []


def test_in_place_and_out_of_place_share_a_key() -> None:
    assert op_key("aten::add_", (2, 3)) == op_key("aten::add", (2, 3))
    assert op_key("aten::add", (2, 3)) != op_key("aten::add", (3, 2))
