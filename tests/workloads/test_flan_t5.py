from __future__ import annotations

import math

import pytest
import torch

from edgeroof.errors import UsageError
from edgeroof.workloads.flan_t5 import PUBLISHED_PARAMETERS, shipped_config
from edgeroof.workloads.huggingface import load_model


@pytest.mark.parametrize(("size", "parameters"), PUBLISHED_PARAMETERS.items())
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_parameter_count_is_the_published_one(size, parameters, attention):
    model = load_model(size, device="meta", attention=attention).model
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_head_is_separate_and_embeddings_are_shared():
    model = load_model("tiny").model
    assert model.lm_head.weight.data_ptr() != model.shared.weight.data_ptr()
    assert model.encoder.embed_tokens.weight is model.shared.weight
    assert model.decoder.embed_tokens.weight is model.shared.weight


def test_tying_again_leaves_the_head_separate():
    model = load_model("tiny").model
    before = sum(parameter.numel() for parameter in model.parameters())
    model.tie_weights()
    assert sum(parameter.numel() for parameter in model.parameters()) == before


def test_equal_seeds_give_equal_weights():
    first, second, other = (load_model("tiny", seed=seed).model.state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])


def test_every_weight_is_initialised():
    for name, parameter in load_model("tiny").model.named_parameters():
        assert torch.isfinite(parameter).all(), name
        assert parameter.abs().max() < 10, name
        assert parameter.abs().sum() > 0, name


def test_first_loss_is_near_that_of_guessing():
    model = load_model("tiny", dropout=0.0).model
    ids = torch.randint(3, 1000, (4, 32), generator=torch.Generator().manual_seed(0))
    loss = model(input_ids=ids, labels=ids).loss.item()
    assert abs(loss - math.log(1024)) < 1.0


def test_saved_weights_load_as_they_were(tmp_path):
    model = load_model("tiny", dropout=0.0).model
    model.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path))
    assert loaded.description == f"weights from {tmp_path}"
    ids = torch.arange(3, 19).reshape(2, 8)
    with torch.no_grad():
        expected = model.eval()(input_ids=ids, labels=ids).logits
        assert torch.equal(loaded.model.eval()(input_ids=ids, labels=ids).logits, expected)
    assert sum(p.numel() for p in loaded.model.parameters()) == sum(p.numel() for p in model.parameters())


def test_unknown_size_lists_the_known_ones():
    with pytest.raises(UsageError, match="tiny, small, base, large, xl"):
        shipped_config("xxl")
