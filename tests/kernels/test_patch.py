"""Fusing a T5: the same losses and gradients, nothing else changed, and everything as it was after unfusing."""

from __future__ import annotations

import copy
import inspect
import io
import pickle

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, T5EncoderModel, T5ForConditionalGeneration
from transformers.models.t5 import modeling_t5

from edgeroof.errors import UsageError
from edgeroof.kernels import operator
from edgeroof.kernels.patch import DEFAULT, FLASH, PARTS, PatchError, fuse, fused_parts, unfuse
from edgeroof.kernels.patching import layers
from edgeroof.kernels.suites.compiled import why_not
from edgeroof.profiler.costs import is_priced
from edgeroof.profiler.recorder import OpRecorder

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
    """The interpreter would take minutes for models; see test_patch_triton for one."""
    monkeypatch.setattr(operator, "use_triton", lambda tensor: False)


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])  # of the model that is fused: it decides how masks are made
def test_loss_and_every_gradient_are_as_exact_as_eager(attention, bf16):
    if attention not in supported_attentions():
        pytest.skip("4.x has eager attention only")
    assert_as_exact_as_eager(small_t5(), fuse(small_t5(attention)), bf16)


@pytest.mark.parametrize("part", PARTS)
def test_each_part_alone_is_as_exact_and_runs_its_operators_only(part):
    plain = small_t5()
    fused = fuse(copy.deepcopy(plain), only=[part])
    assert fused_parts(fused) == (part,)
    assert_as_exact_as_eager(plain, fused)
    with OpNames() as names:
        loss_and_gradients(fused)
    assert names.ours
    assert all(part in name for name in names.ours)


def test_every_fused_operator_runs_and_is_priced():
    with OpNames() as names:
        loss_and_gradients(fuse(small_t5(dropout=0.1)))
    attentions, norms, sums = 6, 2, 10  # a norm alone begins each stack, all others follow a sum
    counts = {name: names.ours.count(name) for name in names.ours}
    assert counts["softmax"] == counts["softmax_backward"] == attentions
    assert counts["rms_norm"] == counts["rms_norm_backward"] == norms
    assert counts["add_rms_norm"] == counts["add_rms_norm_backward"] == sums
    assert counts["gated_gelu"] == counts["gated_gelu_backward"] == 4
    assert counts["cross_entropy"] == 1
    assert all(is_priced(f"edgeroof::{name}") for name in counts)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_checkpointing_replays_what_was_dropped(reentrant, dropout, monkeypatch):
    # Between checkpointed blocks sum and norm are apart, with torch's dropout; here they are in both runs.
    monkeypatch.setattr(layers, "_fusible", lambda residual, following: not following.blocks)
    fused = fuse(small_t5(dropout=dropout))
    torch.manual_seed(3)
    loss, gradients = loss_and_gradients(fused)
    torch.manual_seed(3)
    again, replayed = loss_and_gradients(checkpointed(fused, reentrant))
    torch.testing.assert_close(again, loss)
    torch.testing.assert_close(replayed, gradients)


def test_dropout_has_the_statistics_of_eager():
    plain = small_t5(dropout=0.3)
    fused = fuse(copy.deepcopy(plain))
    torch.manual_seed(0)
    with torch.no_grad():
        losses = torch.tensor(
            [[model(**sample_batch()).loss.item() for _ in range(60)] for model in (plain, fused)], dtype=torch.float64
        )
    assert losses.std(1).min() > 0.01
    spread = (losses.var(1).sum() / losses.shape[1]).sqrt()
    assert abs(losses.mean(1)[0] - losses.mean(1)[1]) < 4 * spread
    assert 0.5 < losses.std(1)[0] / losses.std(1)[1] < 2


@pytest.mark.parametrize("when", ["before", "after"])
def test_lora_adapters(when):
    peft = pytest.importorskip("peft")

    def adapted(model):
        return peft.inject_adapter_in_model(
            peft.LoraConfig(r=2, target_modules=["q", "v"], init_lora_weights=False), model
        )

    torch.manual_seed(5)
    plain = adapted(small_t5())
    if when == "before":
        fused = fuse(copy.deepcopy(plain))
    else:
        fused = adapted(fuse(small_t5()))
        fused.load_state_dict(plain.state_dict())
    assert_as_exact_as_eager(plain, fused)


def test_a_norm_that_is_trained_as_a_copy_replaces_the_carried_one():
    peft = pytest.importorskip("peft")
    fused = fuse(small_t5())
    config = peft.LoraConfig(r=2, target_modules=["q"], modules_to_save=["layer_norm"], task_type="SEQ_2_SEQ_LM")
    wrapped = peft.get_peft_model(fused, config)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "modules_to_save" in name:
                parameter.mul_(3)
    _, gradients = loss_and_gradients(wrapped)
    plain = unfuse(wrapped)
    assert fused_parts(plain) == ()
    _, expected = loss_and_gradients(plain)
    assert all((gradients[name] - exact).norm() <= 1e-3 * exact.norm() for name, exact in expected.items())
    assert all(gradient.abs().sum() > 0 for name, gradient in gradients.items() if "modules_to_save" in name)


@pytest.mark.parametrize(
    "options", [{"use_cache": True}, {"use_cache": False}, {"num_beams": 3}, {"mode": "inference"}]
)
def test_generation(options):
    options = dict(options)
    mode = torch.inference_mode if options.pop("mode", None) else torch.no_grad
    model = small_t5().eval()
    batch = sample_batch()
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "max_new_tokens": 9}
    with mode():
        expected = model.generate(**inputs, **options, do_sample=False)
        assert torch.equal(fuse(model).generate(**inputs, **options, do_sample=False), expected)


def test_hidden_states_attentions_and_tuples_come_out_as_they_do():
    model = small_t5().eval()
    batch = sample_batch() | {"output_hidden_states": True, "output_attentions": True}
    with torch.no_grad():
        expected = model(**batch)
        fuse(model)
        found, as_tuple = model(**batch), model(**batch, return_dict=False)
    assert list(found) == list(expected)
    assert len(as_tuple) == len(expected)
    torch.testing.assert_close(as_tuple[0], expected.loss)
    torch.testing.assert_close(as_tuple[1], expected.logits)
    for name in ("encoder_hidden_states", "decoder_hidden_states", "encoder_attentions", "cross_attentions"):
        torch.testing.assert_close(found[name], expected[name])


@pytest.mark.parametrize("given", ["ids", "ids and mask", "all", "no decoder ids", "labels"])
def test_arguments_by_position(given):
    model = small_t5()
    batch = sample_batch()
    ids, mask, labels = batch["input_ids"], batch["attention_mask"], batch["labels"]
    named = list(inspect.signature(model.forward).parameters)
    arguments = {
        "ids": [ids],
        "ids and mask": [ids, mask],
        "all": [ids, mask, model._shift_right(labels)],
        "no decoder ids": [ids, mask, None],
        "labels": [ids, mask, *[None] * (named.index("labels") - 2), labels],
    }[given]
    options = {} if given == "labels" else {"labels": labels}
    expected = model(*arguments, **options).loss
    fuse(model)
    torch.testing.assert_close(model(*arguments, **options).loss, expected)
    with pytest.raises(TypeError, match=r"multiple values .* 'input_ids'"):
        model(*arguments, input_ids=ids)


def test_unfusing_restores_the_model_exactly():
    model = small_t5()
    names, attributes = list(model.state_dict()), [dict(vars(module)) for module in model.modules()]
    before = loss_and_gradients(model)
    fuse(model)
    assert list(model.state_dict()) == names
    loss_and_gradients(model)
    assert unfuse(unfuse(model)) is model
    after = loss_and_gradients(model)
    assert after[0] == before[0]
    assert all(torch.equal(gradient, after[1][name]) for name, gradient in before[1].items())
    for module, attribute in zip(model.modules(), attributes):
        assert vars(module).keys() == attribute.keys()
        assert all(vars(module)[name] is value for name, value in attribute.items() if name in ("config", "forward"))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_are_fused_and_independent(copied):
    model = fuse(small_t5())
    other = copied(model)
    assert fused_parts(other) == DEFAULT
    expected, _ = loss_and_gradients(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert loss_and_gradients(other)[0] == expected
    unfuse(model)
    assert fused_parts(other) == DEFAULT
    assert fused_parts(unfuse(other)) == ()


def test_other_models_are_left_alone():
    forwards = {name: getattr(modeling_t5, name).forward for name in ("T5Attention", "T5LayerNorm", "T5LayerFF")}
    first = small_t5(cls=T5EncoderModel)
    second = T5EncoderModel(first.config).train()  # they share their configuration
    ids = sample_batch()["input_ids"]
    expected = second(input_ids=ids).last_hidden_state
    fuse(first)
    assert fused_parts(first) == ("softmax", "rms_norm", "gated_gelu")
    assert fused_parts(second) == ()
    with OpNames() as names:
        assert torch.equal(second(input_ids=ids).last_hidden_state, expected)
    assert not names.ours
    assert all(getattr(modeling_t5, name).forward is forward for name, forward in forwards.items())


def test_saving_keeps_the_architecture(tmp_path):
    model = fuse(small_t5())
    model.save_pretrained(tmp_path)
    again = T5ForConditionalGeneration.from_pretrained(tmp_path, attn_implementation="eager").train()
    assert again.config.architectures == ["T5ForConditionalGeneration"]
    torch.testing.assert_close(loss_and_gradients(again)[0], loss_and_gradients(model)[0])


# ------------------------------------------------------------------------------------------ what is refused


def assert_untouched(model):
    assert fused_parts(model) == ()
    assert not any("forward" in vars(module) for module in model.modules())


def test_other_architectures_are_refused():
    with pytest.raises(PatchError, match=r"no T5Stack .* in GPT2LMHeadModel"):
        fuse(GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=16)))


@pytest.mark.parametrize("only", [["softmacks"], []])
def test_unknown_parts_are_refused(only):
    with pytest.raises(UsageError, match="there are softmax, attention, rms_norm"):
        fuse(small_t5(), only=only)


def test_a_fused_model_is_refused():
    model = fuse(small_t5(), only="softmax")
    with pytest.raises(PatchError, match=r"fused already \(softmax\); unfuse it first"):
        fuse(model)


def test_parts_that_the_model_lacks():
    model = small_t5(feed_forward_proj="relu")
    with pytest.raises(PatchError, match="no gated_gelu"):
        fuse(model, only=["gated_gelu", "softmax"])
    assert_untouched(model)
    assert fused_parts(fuse(model)) == ("softmax", "rms_norm", "cross_entropy")


class _OwnLoss(T5ForConditionalGeneration):
    def forward(self, *arguments, **options):
        return super().forward(*arguments, **options)


class _OwnNorm(modeling_t5.T5LayerNorm):
    def forward(self, hidden_states):
        return super().forward(hidden_states)


def test_parts_that_compute_differently_are_named():
    """Without being asked for, too: only what a T5 may lack is left out in silence."""
    model = small_t5(cls=_OwnLoss)
    with pytest.raises(PatchError, match="_OwnLoss has no cross_entropy"):
        fuse(model)
    assert_untouched(model)
    model = small_t5()
    for module in model.modules():
        if isinstance(module, modeling_t5.T5LayerNorm):
            module.__class__ = _OwnNorm
    with pytest.raises(PatchError, match="no rms_norm"):
        fuse(model)
    assert_untouched(model)


@pytest.mark.parametrize("parts", [None, FLASH])
def test_other_attentions_of_transformers_are_refused(parts):
    model = small_t5()
    for stack in (model.encoder, model.decoder):
        stack.config._attn_implementation = "flex_attention"
    with pytest.raises(PatchError, match=r"'flex_attention'.*set_attn_implementation\('sdpa'\)"):
        fuse(model, only=parts)
    assert_untouched(model)
    assert fused_parts(fuse(model, only=["rms_norm"])) == ("rms_norm",)


def test_another_activation_is_refused():
    model = small_t5(feed_forward_proj="gated-silu")
    with pytest.raises(PatchError, match="leave gated_gelu out"):
        fuse(model)
    assert_untouched(model)


def test_a_forward_that_was_replaced_is_refused_and_nothing_is_half_patched():
    model = small_t5()
    model.forward = model.forward  # the last part that is planned
    with pytest.raises(PatchError, match="the forward of T5ForConditionalGeneration has been replaced already"):
        fuse(model)
    del model.forward
    assert_untouched(model)
    fuse(model)


def test_a_release_with_other_arguments_is_refused(monkeypatch):
    model = small_t5()

    def forward(self, hidden_states, window=None):
        return hidden_states

    monkeypatch.setattr(modeling_t5.T5LayerFF, "forward", forward)
    with pytest.raises(PatchError, match=r"T5LayerFF.forward of transformers .* takes window"):
        fuse(model)
    assert_untouched(model)


def test_a_release_without_a_class_is_refused(monkeypatch):
    model = small_t5()
    monkeypatch.delattr(modeling_t5, "T5DenseGatedActDense")
    with pytest.raises(PatchError, match="has no T5DenseGatedActDense"):
        fuse(model)
    assert_untouched(model)


# ------------------------------------------------------------------- norms that travel with the sums before them


def test_a_hook_that_replaces_hidden_states_is_heeded():
    plain = small_t5()
    fused = fuse(copy.deepcopy(plain))
    for model in (plain, fused):
        model.encoder.block[0].register_forward_hook(lambda block, inputs, output: (output[0] * 2, *output[1:]))
    expected, gradients = loss_and_gradients(plain)
    loss, ours = loss_and_gradients(fused)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(ours, gradients, rtol=1e-3, atol=1e-5)


def test_a_sum_that_is_changed_in_place_is_normed_again():
    fused = fuse(small_t5())
    layer, following = fused.encoder.block[0].layer[0], fused.encoder.block[0].layer[1].layer_norm
    with torch.no_grad():
        total = layer(torch.randn(2, 5, 32))[0]
        assert following(total) is layers.carried_by(total).result
        total.mul_(3)
        torch.testing.assert_close(following(total), type(following).forward(following, total))


def test_half_precision_sums_are_clamped_before_the_norm():
    fused = fuse(small_t5()).half()
    total = fused.encoder.block[0].layer[0](torch.randn(2, 5, 32).half())[0]
    assert layers.carried_by(total) is None


def test_hidden_states_are_plain_tensors_to_save_and_copy():
    fused = fuse(small_t5())
    with torch.no_grad():
        states = fused(**sample_batch(), output_hidden_states=True).encoder_hidden_states
    assert layers.carried_by(states[1]) is not None
    saved = io.BytesIO()
    torch.save(states, saved)
    saved.seek(0)
    for again in (torch.load(saved, weights_only=True), copy.deepcopy(states), pickle.loads(pickle.dumps(states))):
        torch.testing.assert_close(again, states)
        assert not vars(again[1])
        assert layers.carried_by(again[1]) is None


# ------------------------------------------------------------------- submodules whose work the operators do


def dropouts(model):
    return [module for module in model.modules() if isinstance(module, nn.Dropout)]


def all_names(run):
    with OpNames() as names:
        run()
    return names.ours


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_dropouts_that_are_switched_alone_are_heeded(mode):
    """Attentions have a rate and no module for it, as they have in transformers."""
    fused = fuse(small_t5(dropout=0.5), only=["rms_norm", "gated_gelu"]).train(mode == "eval")
    for module in fused.modules():
        if hasattr(module, "key_value_proj_dim"):
            module.dropout = 0.0
    for module in dropouts(fused):
        module.train(mode == "train")
    with torch.no_grad():
        first, second = (fused(**sample_batch()).loss for _ in range(2))
    assert (first == second) == (mode == "eval")


@pytest.mark.parametrize("other", [nn.Identity, lambda: nn.AlphaDropout(0.0)])
def test_dropouts_of_another_kind_are_called(other):
    plain = small_t5()
    for module in plain.modules():
        if isinstance(getattr(module, "dropout", None), nn.Dropout):
            module.dropout = other()
    fused = fuse(copy.deepcopy(plain))
    assert_as_exact_as_eager(plain, fused)
    assert {"add_rms_norm", "gated_gelu"} <= {*all_names(lambda: loss_and_gradients(fused))}


def hooked(module, seen):
    return [
        module.register_forward_pre_hook(lambda module, inputs: seen.append("before")),
        module.register_forward_hook(lambda module, inputs, output: seen.append("after")),
        module.register_full_backward_pre_hook(lambda module, grad: seen.append("backward before")),
        module.register_full_backward_hook(lambda module, grad, of_output: seen.append("backward")),
    ]


@pytest.mark.parametrize(
    "path", ["0.dropout", "1.dropout", "1.DenseReluDense.dropout", "1.DenseReluDense.act"]
)  # of the layers of a block
def test_hooks_fire_and_the_rest_stays_fused(path):
    fused = fuse(small_t5())
    expected, gradients = loss_and_gradients(fused)
    seen = []
    handles = hooked(fused.encoder.block[0].layer.get_submodule(path), seen)
    loss, again = loss_and_gradients(fused)
    assert seen == ["before", "after", "backward before", "backward"]
    torch.testing.assert_close((loss, again), (expected, gradients))
    assert "add_rms_norm" in all_names(lambda: loss_and_gradients(fused))
    for handle in handles:
        handle.remove()
    assert all_names(lambda: loss_and_gradients(fused)).count("gated_gelu") == 4


def test_an_activation_that_was_replaced_is_called():
    plain = small_t5()
    fused = fuse(copy.deepcopy(plain))
    for model in (plain, fused):
        model.encoder.block[0].layer[1].DenseReluDense.act = nn.SiLU()
    assert_as_exact_as_eager(plain, fused)


def test_the_recorder_sees_what_runs_without_it():
    fused = fuse(small_t5(dropout=0.1))
    with OpRecorder(fused) as recorder:
        loss_and_gradients(fused)
    names = [record.name for record in recorder.records]
    assert names.count("edgeroof::gated_gelu") == 4
    assert not any("dropout" in name for name in names)


@pytest.mark.slow
@pytest.mark.parametrize("parts", [DEFAULT, FLASH], ids=["softmax", "flash"])
def test_compiled_by_inductor_in_one_graph(parts):
    if why_not("cpu"):
        pytest.skip(why_not("cpu"))
    fused = fuse(small_t5(num_layers=1), only=parts)
    expected, gradients = loss_and_gradients(fused)
    compiled = torch.compile(fused)
    torch._dynamo.utils.counters.clear()
    compiled.zero_grad()
    loss = compiled(**sample_batch(), use_cache=False).loss
    loss.backward()
    assert not torch._dynamo.utils.counters["graph_break"]
    torch.testing.assert_close(loss.detach(), expected)
    torch.testing.assert_close({n: p.grad for n, p in fused.named_parameters()}, gradients)
