from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, PreTrainedTokenizerFast

from edgeroof.errors import WorkloadError
from edgeroof.workloads.vocabulary import end_token, text_encoder, usable_ids

WORDS = ["hello", "there", "meeting", "tomorrow", "lunch", "sorry", "late", "bus", "house", "garden"]


def texts(count):
    rng = np.random.default_rng(0)
    return ["Ann: " + " ".join(rng.choice(WORDS, 12)) for _ in range(count)]


def t5(**changes):
    return AutoConfig.for_model("t5", **{"vocab_size": 1024, "decoder_start_token_id": 0, **changes})


def test_special_ids_and_sentinels_are_not_text():
    ids = usable_ids(t5(vocab_size=32_128))
    assert (ids.min(), ids.max()) == (3, 31_999)
    gpt2 = AutoConfig.for_model("gpt2", vocab_size=600, bos_token_id=599, eos_token_id=599)
    assert usable_ids(gpt2).max() == 598


def test_a_vocabulary_without_room_for_text():
    with pytest.raises(WorkloadError, match="use a larger one"):
        usable_ids(t5(vocab_size=3))


def test_end_token():
    assert end_token(t5()) == 1
    assert end_token(AutoConfig.for_model("llama", eos_token_id=[7, 8])) == 7
    assert end_token(AutoConfig.for_model("gpt2", eos_token_id=None)) is None


def test_local_vocabulary_stays_within_usable_ids():
    config = t5(vocab_size=64)
    encode, description = text_encoder(texts(50), config, None)
    ids = np.concatenate(encode(texts(50)))
    assert set(ids) <= set(usable_ids(config))
    assert "trained on this text" in description


def test_local_vocabulary_learns_words():
    encode, _ = text_encoder(texts(300), t5(), None)
    mean = np.mean([len(ids) for ids in encode(texts(300))])
    assert 12 <= mean < 30  # 13 words and a name: near one piece a word, far from one a letter (about 75)


def test_local_vocabulary_is_the_same_every_time():
    first, _ = text_encoder(texts(300), t5(), None)
    second, _ = text_encoder(texts(300), t5(), None)
    assert all(np.array_equal(a, b) for a, b in zip(first(texts(50)), second(texts(50))))


def test_unknown_characters_do_not_break_it():
    encode, _ = text_encoder(texts(20), t5(), None)
    (ids,) = encode(["\U0001f600 日本語"])
    assert len(ids) > 0


@pytest.fixture
def model_folder(tmp_path):
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(["?", *WORDS])}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?").save_pretrained(tmp_path)
    return str(tmp_path)


def test_the_models_own_tokenizer_comes_first(model_folder):
    encode, description = text_encoder([], t5(), model_folder)
    assert description == "the model's own tokenizer"
    assert [ids.tolist() for ids in encode(["hello there", ""])] == [[1, 2], []]


def test_a_tokenizer_larger_than_the_model(model_folder):
    encode, _ = text_encoder([], t5(vocab_size=5), model_folder)
    with pytest.raises(WorkloadError, match="do not belong together"):
        encode(["garden"])


def test_a_broken_tokenizer(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(WorkloadError, match="cannot load the tokenizer"):
        text_encoder([], t5(), str(tmp_path))
