"""SAMSum as token ids: the real corpus from a file, or a seeded stand-in with its length statistics.

SAMSum dialogues have 3 to 30 utterances. The corpus was built in four equally large groups (3-6, 7-12, 13-18 and 19-30
utterances); the stand-in draws a group, a count within it, the tokens of each utterance, and the tokens of the summary.
What it gets right is what a step's cost depends on: how many tokens, and how much they vary. It is not language.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsageError, WorkloadError
from .dialogues import read_dialogues
from .vocabulary import IntArray, text_encoder, usable_ids

#: Dialogues the generator makes unless told otherwise.
DEFAULT_DIALOGUES = 1024

UTTERANCE_GROUPS = ((3, 6), (7, 12), (13, 18), (19, 30))
#: Mean tokens of an utterance, with the three that the speaker's name and the line break take.
UTTERANCE_TOKENS = 10.8
SPEAKER_TOKENS = 3
UTTERANCE_SIGMA = 0.55
SUMMARY_MEDIAN_TOKENS = 22
SUMMARY_SIGMA = 0.64


@dataclass(frozen=True)
class Example:
    """One dialogue and its summary as token ids, without special tokens and before any truncation."""

    source: IntArray
    target: IntArray


@dataclass(frozen=True)
class Dataset:
    """Examples, and one line for reports on where they come from."""

    examples: tuple[Example, ...]
    description: str

    def __len__(self) -> int:
        return len(self.examples)

    def shard(self, client: int, clients: int, seed: int = 0) -> Dataset:
        """The part that one of several federated clients holds: shuffled by ``seed``, then dealt out in turn.

        Raises:
            UsageError: no such client.
        """
        if not 0 <= client < clients:
            raise UsageError(f"client {client} of {clients}: clients are numbered from 0 to {clients - 1}")
        if clients == 1:
            return self
        order = np.random.default_rng(seed).permutation(len(self.examples))[client::clients]
        description = f"{self.description}; client {client} of {clients}, {len(order)} dialogues"
        return Dataset(tuple(self.examples[i] for i in order), description)


def load_dataset(
    config: Any,
    *,
    path: str | Path | None = None,
    dialogues: int | None = None,
    seed: int = 0,
    tokenizer_location: str | None = None,
) -> Dataset:
    """Read SAMSum from ``path``, or generate its stand-in when there is none.

    Args:
        config: the model's configuration: its vocabulary and special ids.
        path: a data file, see :mod:`.dialogues`.
        dialogues: at most this many; None means the whole file, or :data:`DEFAULT_DIALOGUES` generated ones.
        seed: seed of the generator.
        tokenizer_location: folder or hub id that may hold the model's tokenizer.

    Raises:
        WorkloadError: the file or the tokenizer cannot be used.
    """
    if path is None:
        return generate(usable_ids(config), DEFAULT_DIALOGUES if dialogues is None else dialogues, seed)
    records = read_dialogues(path)
    kept = [record for record in records if record.dialogue.strip() and record.summary.strip()][:dialogues]
    if not kept:
        raise WorkloadError(f"every record of {path} has an empty dialogue or an empty summary")
    sources, targets = [record.dialogue for record in kept], [record.summary for record in kept]
    interleaved = [text for pair in zip(sources, targets) for text in pair]
    encode, tokenizer = text_encoder(interleaved, config, tokenizer_location)
    examples = tuple(Example(source, target) for source, target in zip(encode(sources), encode(targets)))
    return Dataset(examples, f"{len(kept)} of {len(records)} dialogues from {Path(path).name}, with {tokenizer}")


def generate(ids: IntArray, dialogues: int = DEFAULT_DIALOGUES, seed: int = 0) -> Dataset:
    """Make dialogues with SAMSum's length statistics and token frequencies that fall off as in language (Zipf).

    Args:
        ids: token ids to draw from, the most frequent first.
        dialogues: how many.
        seed: equal seeds give equal data.
    """
    rng = np.random.default_rng(seed)
    weights = 1.0 / (np.arange(len(ids)) + 2.7)  # Zipf-Mandelbrot, with the usual offset for words
    cumulative = np.cumsum(weights / weights.sum())

    def tokens(count: int) -> IntArray:
        rank = np.searchsorted(cumulative, rng.random(count), side="right")
        return ids[np.minimum(rank, len(ids) - 1)]

    lengths = [(_source_tokens(rng), _summary_tokens(rng)) for _ in range(dialogues)]
    examples = tuple(Example(tokens(source), tokens(target)) for source, target in lengths)
    return Dataset(examples, f"{dialogues} generated dialogues with SAMSum's length statistics (not text), seed {seed}")


def _source_tokens(rng: np.random.Generator) -> int:
    low, high = UTTERANCE_GROUPS[rng.integers(len(UTTERANCE_GROUPS))]
    utterances = int(rng.integers(low, high + 1))
    # The mean of a lognormal is exp(mu + sigma^2 / 2).
    mu = np.log(UTTERANCE_TOKENS - SPEAKER_TOKENS) - UTTERANCE_SIGMA**2 / 2
    words = np.rint(rng.lognormal(mu, UTTERANCE_SIGMA, utterances))
    return int(words.sum()) + SPEAKER_TOKENS * utterances


def _summary_tokens(rng: np.random.Generator) -> int:
    return max(1, round(rng.lognormal(np.log(SUMMARY_MEDIAN_TOKENS), SUMMARY_SIGMA)))
