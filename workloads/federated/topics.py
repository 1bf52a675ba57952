"""Dialogues that can be summarised: a stand-in for SAMSum from which a model can learn something.

The plain stand-in (:func:`~edgeroof.workloads.samsum.generate`) has the right lengths and nothing to learn. Here
every dialogue has a topic; some of its words are the topic's own, and its summary says, in the topic's fixed phrases,
which of the topic's things it was about. A model that learns lowers its loss and raises its ROUGE-L, and clients whose
topics differ pull it in different directions, as clients do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..samsum import Dataset, Example, generate
from ..vocabulary import IntArray

TOPICS = 8
#: Words of a topic's own, and of its phrases.
TOPIC_WORDS = 24
PHRASE_WORDS = 6
#: Things of the topic that a dialogue is about, and how often each is mentioned.
THINGS = 2
MENTIONS = 4


@dataclass(frozen=True)
class LabelledDataset:
    """Examples with what sets clients apart.

    Attributes:
        dataset: the examples.
        labels: one whole number per example: its topic, or a group of lengths where topics are unknown.
        what: what the labels are, for people.
    """

    dataset: Dataset
    labels: IntArray
    what: str

    def __len__(self) -> int:
        return len(self.dataset)

    def pick(self, chosen: IntArray, description: str) -> Dataset:
        """The examples at some places."""
        return Dataset(tuple(self.dataset.examples[i] for i in chosen), description)


def generate_topical(ids: IntArray, dialogues: int, seed: int = 0, topics: int = TOPICS) -> LabelledDataset:
    """Make dialogues with SAMSum's length statistics, topics, and summaries that follow from them.

    Args:
        ids: token ids to draw from, the most frequent first; the rarest become the topics' own words.
        dialogues: how many.
        seed: equal seeds give equal data.
        topics: how many.
    """
    rng = np.random.default_rng(seed)
    own = TOPIC_WORDS + PHRASE_WORDS
    topics = max(1, min(topics, len(ids) // (2 * own)))
    words = ids[len(ids) - topics * own :].reshape(topics, own)
    plain = generate(ids[: len(ids) - topics * own], dialogues, seed)
    labels = rng.integers(topics, size=dialogues)
    examples = tuple(
        _about(example, words[topic][:TOPIC_WORDS], words[topic][TOPIC_WORDS:], rng)
        for example, topic in zip(plain.examples, labels)
    )
    description = f"{dialogues} generated dialogues on {topics} topics with SAMSum's length statistics, seed {seed}"
    return LabelledDataset(Dataset(examples, description), labels, f"{topics} topics")


def _about(example: Example, things: IntArray, phrase: IntArray, rng: np.random.Generator) -> Example:
    """The dialogue with mentions of some things, and a summary that is the topic's phrase with these things in it."""
    chosen = rng.choice(things, THINGS, replace=False)
    source = example.source.copy()
    mentions = np.repeat(chosen, MENTIONS)[: len(source)]
    source[np.sort(rng.choice(len(source), len(mentions), replace=False))] = mentions
    half = len(phrase) // 2
    target = np.concatenate([phrase[:half], chosen, phrase[half:]])
    return Example(source, target)


def group_by_length(dataset: Dataset, groups: int = 4) -> LabelledDataset:
    """Label real dialogues, whose topics are unknown, by equally large groups of their length."""
    lengths = np.array([len(example.source) for example in dataset.examples])
    order = np.argsort(np.argsort(lengths, kind="stable"), kind="stable")
    return LabelledDataset(dataset, order * groups // max(1, len(lengths)), f"{groups} groups of dialogue length")
