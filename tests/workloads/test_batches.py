from __future__ import annotations

import numpy as np
import pytest

from edgeroof.errors import WorkloadError
from edgeroof.workloads.batches import Collator, plan_steps
from edgeroof.workloads.samsum import Dataset, Example


def example(source, target):
    return Example(np.array(source, dtype=np.int64), np.array(target, dtype=np.int64))


PAIR = [example([5, 6, 7], [8]), example([9], [10, 11, 12, 13])]


def test_fixed_padding_cuts_and_fills():
    batch = Collator(source_length=6, target_length=3)(PAIR)
    assert batch.input_ids.tolist() == [[5, 6, 7, 1, 0, 0], [9, 1, 0, 0, 0, 0]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]]
    assert batch.labels.tolist() == [[8, 1, -100], [10, 11, 1]]
    assert (batch.tokens, batch.loss_tokens, batch.padded_tokens) == (4 + 2 + 2 + 3, 5, 2 * (6 + 3))


def test_dynamic_padding_goes_to_a_multiple_of_eight_within_the_limit():
    wide = [example(range(5, 16), [3] * 40)]
    batch = Collator(source_length=512, target_length=20, padding="dynamic")(wide)
    assert batch.input_ids.shape == (1, 16)
    assert batch.labels.shape == (1, 20)
    assert batch.labels[0, -1] == 1
    assert (batch.labels != -100).all()


def test_causal_models_get_one_sequence_with_a_silent_prompt():
    batch = Collator(source_length=2, target_length=3, causal=True, end=2, pad=0)(PAIR)
    assert batch.input_ids.tolist() == [[5, 6, 8, 2, 0], [9, 10, 11, 2, 0]]
    assert batch.labels.tolist() == [[-100, -100, 8, 2, -100], [-100, 10, 11, 2, -100]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 0]] * 2
    assert (batch.tokens, batch.loss_tokens, batch.padded_tokens) == (8, 5, 10)


def test_no_end_token():
    batch = Collator(source_length=2, target_length=2, end=None)(PAIR[:1])
    assert batch.input_ids.tolist() == [[5, 6]]
    assert batch.labels.tolist() == [[8, -100]]


def test_loss_tokens_are_known_before_collating():
    collate = Collator(source_length=4, target_length=3)
    assert collate.loss_tokens(PAIR) == collate(PAIR).loss_tokens


@pytest.fixture
def dataset():
    return Dataset(tuple(example([index], [index]) for index in range(10)), "ten")


def test_an_epoch_uses_every_example_once(dataset):
    plan = plan_steps(dataset, batch_size=2, accumulation=2, epochs=2)
    assert len(plan) == 2 * (10 // 4)
    assert [len(micro) for micro in plan[0]] == [2, 2]
    epoch = [id(item) for step in plan[:2] for micro in step for item in micro]
    assert len(set(epoch)) == 8


def test_epochs_and_seeds_shuffle_differently(dataset):
    def order(plan):
        return [int(item.source[0]) for step in plan for micro in step for item in micro]

    plan = order(plan_steps(dataset, 2, epochs=2, seed=1))
    assert plan == order(plan_steps(dataset, 2, epochs=2, seed=1))
    assert plan[:10] != plan[10:]
    assert plan != order(plan_steps(dataset, 2, epochs=2, seed=2))


def test_steps_limit_the_plan(dataset):
    assert len(plan_steps(dataset, 2, epochs=3, steps=7)) == 7


def test_too_little_data(dataset):
    with pytest.raises(WorkloadError, match="needs 12 dialogues and this client has 10"):
        plan_steps(dataset, batch_size=6, accumulation=2)
