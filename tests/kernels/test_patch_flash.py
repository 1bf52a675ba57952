"""A T5 whose attentions are fused whole: the same losses and gradients, and what the modules still do themselves."""

from __future__ import annotations

import copy
import inspect

import pytest
import torch
from transformers import T5EncoderModel

from edgeroof.errors import UsageError
from edgeroof.kernels import operator
from edgeroof.kernels.patch import FLASH, PatchError, fuse, fused_parts, unfuse
from edgeroof.kernels.patching.attention import uses_table
from edgeroof.kernels.patching.flash import flash_forward
from edgeroof.profiler.costs import is_priced

from .operator_cases import round_truly
from .patch_cases import (
    OpNames,
    assert_as_exact_as_eager,
    checkpointed,
    loss_and_gradients,
    sample_batch,
    small_t5,
    supported_attentions,
)


@pytest.fixture(autouse=True)
def _torch_path(monkeypatch):
    """The interpreter would take minutes for models."""
    monkeypatch.setattr(operator, "use_triton", lambda tensor: False)


def flash(model):
    return fuse(model, only=FLASH)


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])  # of the model that is fused: it decides how masks are made
def test_loss_and_every_gradient_are_as_exact_as_eager(attention, bf16):
    if attention not in supported_attentions():
        pytest.skip("4.x has eager attention only")
    assert_as_exact_as_eager(small_t5(), flash(small_t5(attention)), bf16)


def test_every_attention_is_one_operator_and_priced():
    with OpNames() as names:
        loss_and_gradients(flash(small_t5(dropout=0.1)))
    assert names.ours.count("attention") == names.ours.count("attention_backward") == 6
    assert "softmax" not in names.ours
    assert all(is_priced(f"edgeroof::{name}") for name in set(names.ours))


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_replays_what_was_dropped(reentrant):
    """Also what reaches the table, which is handed on between checkpointed blocks."""
    fused = fuse(small_t5(dropout=0.2), only="attention")
    torch.manual_seed(3)
    loss, gradients = loss_and_gradients(fused)
    torch.manual_seed(3)
    again, replayed = loss_and_gradients(checkpointed(fused, reentrant))
    torch.testing.assert_close(again, loss)
    torch.testing.assert_close(replayed, gradients)


def test_adapters_on_the_table_have_their_say():
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["q", "relative_attention_bias"], init_lora_weights=False)
    torch.manual_seed(5)
    plain = peft.inject_adapter_in_model(config, small_t5())
    assert_as_exact_as_eager(plain, flash(copy.deepcopy(plain)))


@pytest.mark.parametrize("options", [{"use_cache": True}, {"use_cache": False}, {"num_beams": 3}])
def test_generation(options):
    model = small_t5().eval()
    batch = sample_batch()
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "max_new_tokens": 9}
    with torch.no_grad():
        expected = model.generate(**inputs, **options, do_sample=False)
        assert torch.equal(flash(model).generate(**inputs, **options, do_sample=False), expected)


def test_a_cache_is_filled_by_the_operator_and_read_by_the_module():
    """As ``model(**batch)`` has it, in training too, where nobody says ``use_cache=False``."""
    plain = small_t5()
    fused = flash(copy.deepcopy(plain))
    with OpNames() as names:
        first = fused(**sample_batch())
        first.loss.backward()
    expected = plain(**sample_batch())
    expected.loss.backward()
    assert names.ours.count("attention") == names.ours.count("attention_backward") == 6
    torch.testing.assert_close(first.loss, expected.loss)
    for (name, ours), theirs in zip(fused.named_parameters(), plain.parameters()):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name, rtol=1e-3, atol=1e-5)
    caches = [one["cache" if "cache" in one else "past_key_values"] for one in (first, expected)]
    for kind in ("self_attention_cache", "cross_attention_cache"):
        ours, theirs = (getattr(cache, kind).layers for cache in caches)
        assert len(ours) == len(theirs) == 2
        for mine, other in zip(ours, theirs):
            torch.testing.assert_close((mine.keys, mine.values), (other.keys, other.values))
    name = "cache" if "cache" in inspect.signature(plain.forward).parameters else "past_key_values"
    given = {
        "encoder_outputs": (first.encoder_last_hidden_state,),
        "attention_mask": sample_batch()["attention_mask"],
        "decoder_input_ids": torch.tensor([[5, 7, 9]] * 3),
    }
    with torch.no_grad(), OpNames() as names:
        logits = [model(**given, **{name: cache}).logits for model, cache in zip((fused, plain), caches)]
    torch.testing.assert_close(*logits)
    assert "attention" not in names.ours


def test_a_module_that_is_asked_for_more_computes_it_with_the_bias_of_the_table():
    model = small_t5(cls=T5EncoderModel).eval()
    first, second = (block.layer[0].SelfAttention for block in model.encoder.block)
    hidden = torch.randn(2, 7, 32)
    places = {} if uses_table() else {"cache_position": torch.arange(7)}
    with torch.no_grad():
        _, bias, *_ = first(hidden, **places)
        expected = second(hidden, position_bias=bias)[0]
        _, table, *_ = flash_forward(first, hidden)
        assert table.shape == (32, 3)
        torch.testing.assert_close(flash_forward(second, hidden, position_bias=table)[0], expected)
        again = flash_forward(second, hidden, position_bias=table, output_attentions=True)
        torch.testing.assert_close(again[0], expected)
        torch.testing.assert_close(flash_forward(second, hidden, position_bias=bias)[0], expected)


def test_unfusing_restores_the_model():
    model = small_t5()
    before, _ = loss_and_gradients(model)
    flash(model)
    assert fused_parts(model) == FLASH
    unfuse(model)
    assert fused_parts(model) == ()
    assert loss_and_gradients(model)[0] == before


def test_what_is_refused():
    with pytest.raises(UsageError, match="instead of softmax"):
        fuse(small_t5(), only=["attention", "softmax"])
    model = small_t5(d_kv=80)
    with pytest.raises(PatchError, match="80 wide"):
        flash(model)
    assert fused_parts(model) == ()


@pytest.mark.slow
def test_triton_kernels_in_a_model_are_as_exact_as_eager(monkeypatch):
    monkeypatch.undo()
    pytest.importorskip("triton")
    round_truly(monkeypatch)
    plain = small_t5(num_layers=1)
    assert_as_exact_as_eager(plain, fuse(copy.deepcopy(plain), only="attention"))
