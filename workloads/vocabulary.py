"""From text to a model's token ids.

A model's own tokenizer is used where there is one. Where there is none (random weights), a SentencePiece-style
vocabulary is trained on the text at hand, so that a sequence is as long as words and pieces of words make it: that is
what the cost of a step depends on. It is byte-pair encoding and not Unigram, as T5's is: training Unigram gives other
ids every time, and it spells out every word that is part of no other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import WorkloadError
from .flan_t5 import FIRST_SENTINEL

#: Pieces of a vocabulary trained here. T5's has 32,000, for any English text; one that is trained on the very text it
#: encodes needs fewer to split as many words.
LOCAL_VOCABULARY = 8_000

_UNKNOWN = "<unk>"
_TOKENIZER_FILES = ("tokenizer.json", "spiece.model", "tokenizer.model", "vocab.json", "tokenizer_config.json")

IntArray = np.ndarray[Any, np.dtype[np.int64]]
Encoder = Callable[[Sequence[str]], list[IntArray]]


def usable_ids(config: Any) -> IntArray:
    """Token ids that stand for text: all of the model's vocabulary but special ids and T5's sentinels.

    Args:
        config: a ``PretrainedConfig``.

    Raises:
        WorkloadError: the vocabulary leaves nothing to use.
    """
    size = int(config.vocab_size)
    usable = np.ones(size, dtype=bool)
    usable[:3] = False  # by convention padding, end, unknown
    for special in ("pad_token_id", "eos_token_id", "bos_token_id", "decoder_start_token_id"):
        for index in _as_list(getattr(config, special, None)):
            if 0 <= index < size:
                usable[index] = False
    if config.model_type == "t5":
        usable[FIRST_SENTINEL:] = False
    ids = np.flatnonzero(usable)
    if ids.size == 0:
        raise WorkloadError(f"a vocabulary of {size} ids has none left for text; use a larger one")
    return ids


def end_token(config: Any) -> int | None:
    """The id that ends a sequence (the first, if a model has several), None when it has none."""
    ids = _as_list(getattr(config, "eos_token_id", None))
    return ids[0] if ids else None


def text_encoder(texts: Sequence[str], config: Any, location: str | None) -> tuple[Encoder, str]:
    """Find or make a tokenizer for ``texts``.

    Args:
        texts: what a local vocabulary would be trained on.
        config: the model's configuration.
        location: folder or hub id that may hold the model's tokenizer.

    Returns:
        A function from texts to token ids without special tokens, and a few words on it for reports.

    Raises:
        WorkloadError: the model's tokenizer cannot be loaded or does not fit its vocabulary.
    """
    if location is not None and _has_tokenizer(location):
        return _own_tokenizer(location, int(config.vocab_size)), "the model's own tokenizer"
    ids = usable_ids(config)
    encode, size = _local_vocabulary(texts, min(LOCAL_VOCABULARY, ids.size))
    sample = texts[:100]
    per_word = sum(map(len, encode(sample))) / max(1, sum(len(text.split()) for text in sample))
    return lambda batch: [ids[tokens] for tokens in encode(batch)], (
        f"a vocabulary of {size} pieces trained on this text, {per_word:.2f} tokens a word "
        "(the model came without a tokenizer; its own would give other counts)"
    )


def _has_tokenizer(location: str) -> bool:
    folder = Path(location)
    return not folder.is_dir() or any((folder / name).is_file() for name in _TOKENIZER_FILES)


def _own_tokenizer(location: str, vocabulary: int) -> Encoder:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(location)
    except Exception as error:  # OSError, ValueError, ImportError (sentencepiece), broken files of any kind
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WorkloadError(f"cannot load the tokenizer of {location}: {reason}") from error

    def encode(texts: Sequence[str]) -> list[IntArray]:
        tokens = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        encoded = [np.asarray(ids, dtype=np.int64) for ids in tokens]
        largest = max((int(ids.max()) for ids in encoded if ids.size), default=0)
        if largest >= vocabulary:
            raise WorkloadError(
                f"the tokenizer of {location} gives id {largest}, but the model's vocabulary has {vocabulary}: "
                "they do not belong together"
            )
        return encoded

    return encode


def _local_vocabulary(texts: Sequence[str], size: int) -> tuple[Encoder, int]:
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token=_UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[_UNKNOWN], limit_alphabet=max(1, size // 2), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)

    def encode(batch: Sequence[str]) -> list[IntArray]:
        return [np.asarray(item.ids, dtype=np.int64) for item in tokenizer.encode_batch(list(batch))]

    return encode, tokenizer.get_vocab_size()


def _as_list(ids: int | list[int] | None) -> list[int]:
    if ids is None:
        return []
    return list(ids) if isinstance(ids, (list, tuple)) else [ids]
