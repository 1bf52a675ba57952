"""From examples to padded batches.

``fixed`` padding makes every batch source_length x target_length, as the paper's sibling code does; ``dynamic`` pads to
the longest of the batch, rounded up to a multiple of 8. Longer sequences are cut either way, keeping the end token.

A causal model reads one sequence: the dialogue, the summary, the end token. The dialogue carries no loss.

Tokens are counted as source + target tokens, end tokens included: ``tokens`` without padding, ``padded_tokens`` with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import WorkloadError
from .samsum import Dataset, Example
from .vocabulary import IntArray

TOKEN_DEFINITION = "source + target tokens, end tokens included"

#: Labels with this value carry no loss.
IGNORED = -100

_MULTIPLE = 8

#: The examples of one step, one tuple a micro-batch (a single one without gradient accumulation).
StepBatch = tuple[tuple[Example, ...], ...]


@dataclass(frozen=True)
class HostBatch:
    """A collated micro-batch in host memory.

    Attributes:
        input_ids: (batch, length) token ids.
        attention_mask: (batch, length), 1 where ``input_ids`` is not padding.
        labels: (batch, target length) token ids, or (batch, length) for a causal model; -100 carries no loss.
        tokens: source + target tokens without padding.
        loss_tokens: labels that carry loss.
        padded_tokens: source + target tokens with padding.
    """

    input_ids: IntArray
    attention_mask: IntArray
    labels: IntArray
    tokens: int
    loss_tokens: int
    padded_tokens: int


@dataclass(frozen=True)
class Collator:
    """Pads examples into a batch.

    Attributes:
        source_length: most tokens of a dialogue, end token included.
        target_length: most tokens of a summary, end token included.
        padding: ``"fixed"`` or ``"dynamic"``.
        causal: one sequence for a causal model instead of source and target.
        pad: id of padding.
        end: id that ends a sequence, None when the model has none.
    """

    source_length: int
    target_length: int
    padding: str = "fixed"
    causal: bool = False
    pad: int = 0
    end: int | None = 1

    def __call__(self, examples: Sequence[Example]) -> HostBatch:
        """Collate one micro-batch."""
        targets = [self._ended(example.target, self.target_length) for example in examples]
        if self.causal:
            sources = [example.source[: self.source_length] for example in examples]
            return self._causal(sources, targets)
        sources = [self._ended(example.source, self.source_length) for example in examples]
        input_ids, mask = _pad(sources, self._width(sources, self.source_length), self.pad)
        labels, _ = _pad(targets, self._width(targets, self.target_length), IGNORED)
        loss_tokens = sum(map(len, targets))
        tokens = sum(map(len, sources)) + loss_tokens
        return HostBatch(input_ids, mask, labels, tokens, loss_tokens, input_ids.size + labels.size)

    def loss_tokens(self, examples: Sequence[Example]) -> int:
        """Labels of these examples that will carry loss."""
        return sum(len(self._ended(example.target, self.target_length)) for example in examples)

    def _causal(self, sources: list[IntArray], targets: list[IntArray]) -> HostBatch:
        whole = [np.concatenate(pair) for pair in zip(sources, targets)]
        silent = [np.full(len(source), IGNORED, dtype=np.int64) for source in sources]
        width = self._width(whole, self.source_length + self.target_length)
        input_ids, mask = _pad(whole, width, self.pad)
        labels, _ = _pad([np.concatenate(pair) for pair in zip(silent, targets)], width, IGNORED)
        return HostBatch(
            input_ids, mask, labels, sum(map(len, whole)), sum(map(len, targets)), padded_tokens=input_ids.size
        )

    def _ended(self, ids: IntArray, length: int) -> IntArray:
        if self.end is None:
            return ids[:length]
        return np.append(ids[: length - 1], self.end)

    def _width(self, rows: list[IntArray], limit: int) -> int:
        if self.padding == "fixed":
            return limit
        longest = max(map(len, rows))
        return min(limit, -(-longest // _MULTIPLE) * _MULTIPLE)


def plan_steps(
    dataset: Dataset, batch_size: int, accumulation: int = 1, epochs: int = 1, seed: int = 0, steps: int | None = None
) -> tuple[StepBatch, ...]:
    """Divide a data set into the batches of a client's local training.

    Every epoch is shuffled anew; examples that do not fill a step are left out, so that all steps are alike.

    Args:
        dataset: the client's examples.
        batch_size: examples of a micro-batch.
        accumulation: micro-batches of a step.
        epochs: passes over the data.
        seed: seed of the shuffling.
        steps: at most this many.

    Raises:
        WorkloadError: the data set is smaller than one step.
    """
    per_step = batch_size * accumulation
    if len(dataset) < per_step:
        raise WorkloadError(
            f"a step needs {per_step} dialogues and this client has {len(dataset)}; use a smaller batch or more data"
        )
    rng = np.random.default_rng(seed)
    plan: list[StepBatch] = []
    for _ in range(epochs):
        order = rng.permutation(len(dataset))
        for start in range(0, len(order) - per_step + 1, per_step):
            if len(plan) == steps:
                return tuple(plan)
            chosen = [dataset.examples[i] for i in order[start : start + per_step]]
            plan.append(tuple(tuple(chosen[i : i + batch_size]) for i in range(0, per_step, batch_size)))
    return tuple(plan)


def _pad(rows: list[IntArray], width: int, value: int) -> tuple[IntArray, IntArray]:
    padded = np.full((len(rows), width), value, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return padded, mask
