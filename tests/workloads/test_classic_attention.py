"""Eager attention of 2023 computes what today's does, and moves what it moved then."""

from collections import Counter

import pytest
import torch

from edgeroof.errors import UsageError
from edgeroof.workloads.classic_attention import CLASSIC
from edgeroof.workloads.dry import dry_model
from edgeroof.workloads.model_step import build_model_step

from .dry_cases import write_config

LAYERS = 2


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "opt", "llama", "switch_transformers"])
def test_it_computes_the_same(tmp_path, model_type):
    config = write_config(tmp_path, model_type)
    outputs = []
    for attention in ("eager", CLASSIC):
        step = build_model_step(config, "inference", batch=2, sequence=8, attention=attention)
        batch = step.batches[0]
        ids = torch.arange(16).reshape(2, 8) + 4
        with torch.no_grad():
            outputs.append(step._forward(batch._replace(input_ids=ids)).logits)
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-4, atol=1e-5)


def ops(config, attention, mode="train"):
    """Ops over whole score matrices (batch, heads, length, length), counted by name and phase."""
    dry = dry_model(config, mode, batch=2, sequence=16, attention=attention)
    scores = [r for r in dry.records if r.outputs and r.outputs[0].shape == (2, 2, 16, 16)]
    return Counter((r.phase, r.name.removeprefix("aten::")) for r in scores)


def test_bert_always_added_a_mask(tmp_path):
    config = write_config(tmp_path, "bert")
    now, then = ops(config, "eager"), ops(config, CLASSIC)
    assert then["forward", "add"] == now["forward", "add"] + LAYERS
    assert then["forward", "div"] == LAYERS


def test_opt_compared_with_the_least_number(tmp_path):
    config = write_config(tmp_path, "opt")
    then = ops(config, CLASSIC)
    assert then["forward", "maximum"] == LAYERS
    backward = [("backward", name) for name in ("eq", "lt", "div", "where", "masked_fill_")]
    assert [then[key] for key in backward] == [LAYERS] * 5
    assert not any(ops(config, "eager")[key] for key in backward)


def test_gpt2_selected_by_its_mask(tmp_path):
    then = ops(write_config(tmp_path, "gpt2"), CLASSIC)
    assert (then["forward", "where"], then["backward", "where"]) == (LAYERS, LAYERS)


def test_t5_added_bias_and_mask_in_place_and_in_one_pass(tmp_path):
    config = write_config(tmp_path, "switch_transformers")
    now, then = ops(config, "eager", "inference"), ops(config, CLASSIC, "inference")
    attentions = 3 * LAYERS  # of the encoder, the decoder, and between them
    assert then["forward", "add_"] == attentions
    assert then["forward", "add"] <= 3  # bias and mask, once a kind of attention
    assert sum(now.values()) > sum(then.values())


def test_a_client_has_it_not():
    from edgeroof.workloads import ClientConfig

    with pytest.raises(UsageError, match="attention"):
        ClientConfig(model="tiny", attention=CLASSIC)
