from __future__ import annotations

import json
import math
import sys

import pytest
import torch

from edgeroof.errors import DeviceError, UsageError, WorkloadError
from edgeroof.profiler.phases import PHASE_PREFIX
from edgeroof.workloads import ClientConfig, build_client_step, optimizer_names
from edgeroof.workloads.client_config import PRECISIONS

MODELS = {
    "gpt2": {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 512, "n_positions": 256,
             "bos_token_id": 511, "eos_token_id": 511},
    "llama": {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
              "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 512},
    "bart": {"model_type": "bart", "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "vocab_size": 512,
             "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64},
}  # fmt: skip


def build(**changes):
    values = {"model": "tiny", "source_length": 48, "target_length": 16, "dialogues": 64, **changes}
    return build_client_step(ClientConfig(**values), check_memory=False)


def run(step, steps=2):
    return [step.run(batch).loss.item() for batch in step.batches[:steps]]


@pytest.mark.parametrize("precision", [name for name in PRECISIONS if name != "tf32"])
@pytest.mark.parametrize("optimizer", optimizer_names())
def test_every_precision_with_every_optimizer(precision, optimizer):
    step = build(precision=precision, optimizer=optimizer, learning_rate=1e-3)
    before = [parameter.detach().clone() for parameter in step.model.parameters()]
    losses = run(step, steps=2)
    assert all(math.isfinite(loss) and loss < 9 for loss in losses)
    changed = [not torch.equal(old, new) for old, new in zip(before, step.model.parameters())]
    assert sum(changed) > len(changed) / 2
    expected = torch.bfloat16 if precision == "bf16-pure" else torch.float32
    assert {parameter.grad.dtype for parameter in step.model.parameters()} == {expected}


def test_training_lowers_the_loss():
    step = build(learning_rate=1e-2, dropout=0.0)
    first, *_, last = (step.run(step.batches[0]).loss.item() for _ in range(8))
    assert last < first - 1


@pytest.mark.parametrize("model", ["tiny", *MODELS])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_loss_equals_that_of_the_model(model, precision, tmp_path):
    if model in MODELS:
        path = tmp_path / "config.json"
        path.write_text(json.dumps(MODELS[model]))
        model = str(path)
    step = build(model=model, precision=precision, dropout=0.0)
    inputs = step._to_device(step._collate(step.batches[0][0]))
    with step.precision.autocast():
        expected = step.model(**inputs._asdict()).loss.item()
    assert step.run(step.batches[0]).loss.item() == expected


def test_equal_configurations_give_equal_losses():
    assert run(build(), steps=3) == run(build(), steps=3)
    assert run(build(seed=1)) != run(build())


def test_phases_open_in_order():
    step = build(gradient_accumulation=2)
    step.run(step.batches[0])
    with torch.profiler.profile() as profiler:
        step.run(step.batches[1])
    ranges = sorted(
        (event.time_range.start, event.name.removeprefix(PHASE_PREFIX))
        for event in profiler.events()
        if event.name.startswith(PHASE_PREFIX)
    )
    micro_batch = ["forward", "loss", "backward"]
    assert [name for _, name in ranges] == [
        *("data", "zero_grad", *micro_batch),
        *("data", *micro_batch),
        "optimizer",
    ]


def test_all_ops_of_a_step_are_inside_phases():
    step = build(optimizer="adamw-fused", clip_norm=1.0)
    step.run(step.batches[0])
    with torch.profiler.profile() as profiler:
        step.run(step.batches[1])
    events = profiler.events()
    phases = [e.time_range for e in events if e.name.startswith(PHASE_PREFIX)]
    stray = [
        event.name
        for event in events
        if event.name.startswith("aten::")
        and not any(range_.start <= event.time_range.start <= range_.end for range_ in phases)
    ]
    assert set(stray) <= {"aten::detach"}


def test_accumulation_equals_one_large_batch():
    large = build(batch_size=8, dropout=0.0, optimizer="sgd", learning_rate=0.1)
    small = build(batch_size=2, gradient_accumulation=4, dropout=0.0, optimizer="sgd", learning_rate=0.1)
    one, many = large.run(large.batches[0]), small.run(small.batches[0])
    assert many.loss.item() == pytest.approx(one.loss.item(), rel=1e-5)
    assert (many.tokens, many.padded_tokens, many.examples) == (one.tokens, one.padded_tokens, one.examples)
    for ours, theirs in zip(small.model.parameters(), large.model.parameters()):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_checkpointing_changes_memory_and_not_the_loss(dropout):
    plain, checkpointed = build(dropout=dropout), build(dropout=dropout, checkpointing=True)
    assert checkpointed.activation_bytes() < plain.activation_bytes() / 2
    torch.manual_seed(0)
    expected = run(plain)
    torch.manual_seed(0)
    assert run(checkpointed) == pytest.approx(expected, rel=1e-5)


def test_clipping_limits_the_gradient():
    step = build(clip_norm=0.01)
    step.run(step.batches[0])
    norm = torch.stack([parameter.grad.norm() for parameter in step.model.parameters()]).norm()
    assert norm.item() == pytest.approx(0.01, rel=1e-3)


def test_clipping_under_fp16_sees_unscaled_gradients():
    step = build(clip_norm=0.01, precision="fp16")
    step.run(step.batches[0])
    norm = torch.stack([parameter.grad.norm() for parameter in step.model.parameters()]).norm()
    assert norm.item() == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_edgeroofs_optimizers_clip_within_their_step(precision):
    """The gradients stay as they were; what reaches the moments is what torch's clipping and step put there."""
    ours, theirs = (build(clip_norm=0.01, precision=precision, dropout=0.0, optimizer=name)
                    for name in ("fused-adamw", "adamw-fused"))  # fmt: skip
    for step in (ours, theirs):
        step.run(step.batches[0])
    norm = torch.stack([parameter.grad.norm() for parameter in ours.model.parameters()]).norm()
    assert norm.item() > 1.0
    assert ours.optimizer.grad_norm.item() > 0.1
    for parameter, other in zip(ours.model.parameters(), theirs.model.parameters()):
        moment, expected = ours.optimizer.state[parameter]["exp_avg"], theirs.optimizer.state[other]["exp_avg"]
        torch.testing.assert_close(moment, expected, rtol=1e-3, atol=1e-7)


def test_lora_trains_the_adapters_alone():
    pytest.importorskip("peft")
    step = build(lora_rank=4, learning_rate=1e-2)
    trainable = {info.name for info in step.parameter_manifest() if info.trainable}
    assert all("lora_" in name for name in trainable)
    before = {name: parameter.detach().clone() for name, parameter in step.model.named_parameters()}
    run(step)
    changed = {name for name, p in step.model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == trainable


def test_lora_size_on_flan_t5_small():
    pytest.importorskip("peft")
    description = build(model="small", lora_rank=8).describe()
    assert description["trainable_parameters"] == 344_064
    assert description["parameters"] == 76_961_152 + 344_064


def test_lora_without_peft_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(WorkloadError, match=r"pip install 'edgeroof\[lora\]'"):
        build(lora_rank=4)


def test_tokens_of_a_step():
    step = build()
    result = step.run(step.batches[0])
    expected = sum(min(len(e.source) + 1, 48) + min(len(e.target) + 1, 16) for e in step.batches[0][0])
    assert (result.tokens, result.padded_tokens, result.examples) == (expected, 4 * (48 + 16), 4)


def test_description_and_manifest():
    step = build(steps=2, optimizer="adamw-fused")
    description = step.describe()
    assert json.loads(json.dumps(description)) == description
    assert description["model"] == "flan-t5-tiny"
    assert (description["steps"], len(step.batches)) == (2, 2)
    assert "generated" in description["data"]
    manifest = step.parameter_manifest()
    assert sum(info.numel for info in manifest) == description["parameters"]
    assert manifest[0]._asdict() == {
        "name": "shared.weight", "shape": (1024, 64), "dtype": "fp32", "numel": 65536, "trainable": True,
    }  # fmt: skip


def test_clients_train_on_different_data():
    first, second = build(clients=2, client=0), build(clients=2, client=1)
    mine = {example.source.tobytes() for example in first.dataset.examples}
    assert mine.isdisjoint(example.source.tobytes() for example in second.dataset.examples)


def test_real_text(tmp_path):
    path = tmp_path / "train.json"
    records = [{"dialogue": f"Ann: lunch at {n}?\nBo: yes", "summary": f"They meet at {n}."} for n in range(8)]
    path.write_text(json.dumps(records))
    step = build(data=str(path), dialogues=None)
    assert "train.json" in step.describe()["data"]
    assert math.isfinite(run(step)[0])


def test_the_global_matmul_setting_is_left_alone():
    torch.set_float32_matmul_precision("medium")
    try:
        run(build(), steps=1)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_positions_limit_the_lengths(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(MODELS["gpt2"]))
    with pytest.raises(UsageError, match="256 positions and a sequence would take 272"):
        build(model=str(path), source_length=256)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_cuda_device():
    with pytest.raises(DeviceError, match="finds no CUDA device"):
        build(device="cuda:0")
