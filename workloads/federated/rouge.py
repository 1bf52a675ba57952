"""ROUGE-L: how much of a summary is in another, by their longest common subsequence (C.-Y. Lin, 2004).

It is computed on token ids, so it needs no tokenizer; scores on words of decoded text differ a little.
"""

from __future__ import annotations

from collections.abc import Sequence


def rouge_l(candidate: Sequence[int], reference: Sequence[int]) -> float:
    """F-measure of recall and precision of the longest common subsequence, 0 to 1."""
    common = longest_common_subsequence(candidate, reference)
    return 2 * common / (len(candidate) + len(reference)) if common else 0.0


def longest_common_subsequence(left: Sequence[int], right: Sequence[int]) -> int:
    """Length of the longest sequence that is in both, in order, with gaps."""
    row = [0] * (len(right) + 1)
    for item in left:
        diagonal = 0
        for position, other in enumerate(right, 1):
            above = row[position]
            row[position] = diagonal + 1 if item == other else max(above, row[position - 1])
            diagonal = above
    return row[-1]
