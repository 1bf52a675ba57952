from __future__ import annotations

import json

import numpy as np
import pytest
from transformers import AutoConfig

from edgeroof.errors import UsageError, WorkloadError
from edgeroof.workloads.samsum import generate, load_dataset

IDS = np.arange(3, 32_000)


@pytest.fixture(scope="module")
def corpus():
    return generate(IDS, dialogues=6000, seed=1)


@pytest.fixture
def config():
    return AutoConfig.for_model("t5", vocab_size=1024, decoder_start_token_id=0)


def test_lengths_follow_samsum(corpus):
    sources = [len(example.source) for example in corpus.examples]
    targets = [len(example.target) for example in corpus.examples]
    # Published statistics of the corpus under T5's tokenizer: 255 tokens at the 85th percentile, 50 at the 90th.
    assert np.percentile(sources, 85) == pytest.approx(255, rel=0.04)
    assert np.percentile(targets, 90) == pytest.approx(50, rel=0.05)
    assert np.median(targets) == pytest.approx(22, abs=1)
    assert min(targets) >= 1
    assert min(sources) >= 3 * 3


def test_token_frequencies_fall_off(corpus):
    counts = np.bincount(np.concatenate([example.source for example in corpus.examples]), minlength=32_000)
    assert counts[:3].sum() == 0
    assert counts[3] > 5 * counts[40] > 20 * counts[1000]


def test_equal_seeds_give_equal_data():
    first, second, other = (generate(IDS, 20, seed).examples for seed in (5, 5, 6))
    assert all(np.array_equal(a.source, b.source) for a, b in zip(first, second))
    assert any(not np.array_equal(a.source, b.source) for a, b in zip(first, other))


def test_shards_divide_the_data():
    whole = generate(IDS, 50)
    shards = [whole.shard(client, 4, seed=9) for client in range(4)]
    assert [len(shard) for shard in shards] == [13, 13, 12, 12]
    shared = {id(example) for shard in shards for example in shard.examples}
    assert shared == {id(example) for example in whole.examples}
    assert "client 2 of 4, 12 dialogues" in shards[2].description


@pytest.mark.parametrize(("client", "clients"), [(-1, 2), (2, 2), (0, 0)])
def test_a_client_that_is_not_there(client, clients):
    with pytest.raises(UsageError):
        generate(IDS, 4).shard(client, clients)


def test_the_description_says_which_data_it_is(config, tmp_path):
    assert "generated" in load_dataset(config, dialogues=8).description
    path = tmp_path / "train.json"
    path.write_text(json.dumps([{"dialogue": "Ann: hello there", "summary": "Ann says hello."}] * 3))
    real = load_dataset(config, path=path, dialogues=2)
    assert len(real) == 2
    assert real.description.startswith("2 of 3 dialogues from train.json, with a vocabulary of")


def test_empty_records_are_left_out(config, tmp_path):
    path = tmp_path / "train.json"
    records = [{"dialogue": "", "summary": "x"}, {"dialogue": "Ann: hello", "summary": "hello"}]
    path.write_text(json.dumps(records))
    assert load_dataset(config, path=path).description.startswith("1 of 2")
    path.write_text(json.dumps(records[:1]))
    with pytest.raises(WorkloadError, match="empty dialogue"):
        load_dataset(config, path=path)
