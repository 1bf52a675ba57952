"""A dry run is the recording of a real run, op by op, but for the running."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import torch

from edgeroof.errors import CaptureError, UsageError, WorkloadError
from edgeroof.profiler.capture import representative_batch
from edgeroof.profiler.costs import price
from edgeroof.profiler.lifetimes import MemoryTracker
from edgeroof.profiler.recorder import OpRecorder
from edgeroof.workloads import ClientConfig, build_client_step, optimizer_names
from edgeroof.workloads.dry import dry_model, dry_step, owners
from edgeroof.workloads.model_step import build_model_step

from .dry_cases import TINY, comparable, write_config

CLIENT = {
    "model": "tiny", "batch_size": 2, "source_length": 48, "target_length": 16, "dialogues": 8,
    "optimizer": "adamw-fused",
}  # fmt: skip


def recorded(step):
    """Ops and memory of a real step after a warm-up."""
    batch = representative_batch(step)
    step.run(batch)
    memory = MemoryTracker(owners(step))
    with memory, OpRecorder(step.model) as recorder:
        step.run(batch)
    return recorder.records, memory.finish(step.model)


def check_client(**changes):
    config = ClientConfig(**(CLIENT | changes))
    dry = dry_step(config, target_kind="cpu")
    records, memory = recorded(build_client_step(config, check_memory=False))
    assert comparable(dry.records) == comparable(records)
    assert dry.memory.peak() == memory.peak()
    return dry


@pytest.mark.parametrize(
    "changes",
    [
        {"attention": "eager"},
        {"optimizer": "adamw-foreach", "precision": "bf16"},
        {"optimizer": "adamw-loop", "precision": "bf16-pure"},
        {"lora_rank": 4, "checkpointing": True},
        {"precision": "fp16", "clip_norm": 1.0, "padding": "dynamic"},
        {"gradient_accumulation": 2, "batch_size": 1, "clip_norm": 1.0, "attention": "eager"},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_a_client_step_is_recorded_as_it_would_run(changes):
    check_client(**changes)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", optimizer_names())
def test_every_optimizer(optimizer):
    check_client(optimizer=optimizer)


@pytest.mark.parametrize("model_type", [name for name in TINY if name not in ("mixtral", "switch_transformers")])
@pytest.mark.parametrize(("mode", "attention"), [("train", "eager"), ("train", "sdpa"), ("inference", "sdpa")])
def test_any_model_is_recorded_as_it_would_run(tmp_path, model_type, mode, attention):
    path = write_config(tmp_path, model_type)
    shape = {"batch": 2, "sequence": 16, "attention": attention}
    dry = dry_model(path, mode, target_kind="cpu", **shape)
    records, memory = recorded(build_model_step(path, mode, **shape))
    assert comparable(dry.records) == comparable(records)
    unused = (
        4488 if (model_type, mode) == ("bert", "train") else 0
    )  # gradients of the pooler, which the loss never sees
    assert sum(dry.memory.peak().values()) == sum(memory.peak().values()) + unused


def test_layers_are_never_dropped(tmp_path):
    whole = dry_model(write_config(tmp_path, "opt"), batch=2, sequence=16)
    dropping = dry_model(write_config(tmp_path, "opt", layerdrop=0.9), batch=2, sequence=16)
    products = [[r for r in dry.records if r.name == "aten::addmm"] for dry in (whole, dropping)]
    assert comparable(products[0]) == comparable(products[1])


def test_routing_of_equal_tokens_is_recorded_as_it_would_run(tmp_path):
    """All tokens are copies of one, so all go to the same experts; which ones, nobody knows before."""
    path = write_config(tmp_path, "mixtral")
    shape = {"batch": 2, "sequence": 16}
    dry = dry_model(path, "inference", target_kind="cpu", routing="alike", **shape)
    records, _ = recorded(build_model_step(path, "inference", experts="eager", **shape))

    def work(records):
        ops = ("aten::mm", "aten::bmm", "aten::index_add_", "aten::index", "aten::silu", "aten::topk")
        return [(r.name, r.module, [t.shape for t in r.outputs]) for r in records if r.name in ops]

    assert work(dry.records) == work(records)
    assert len([r for r in dry.records if r.name == "aten::silu"]) == 2


@pytest.mark.parametrize(("capacity", "rows"), [(64, 8), (3, 6)])
def test_tokens_are_spread_evenly_up_to_the_capacity(tmp_path, capacity, rows):
    path = write_config(tmp_path, "switch_transformers", expert_capacity=capacity)
    dry = dry_model(path, batch=2, sequence=16)
    expert = [
        r for r in dry.records if r.name == "aten::mm" and ".experts.expert_" in r.module and r.phase == "forward"
    ]
    assert len(expert) == 2 * 4 * 2  # layers, experts, products
    assert {r.outputs[0].shape[0] for r in expert} == {rows}
    assert {r.autograd for r in dry.records if r.phase == "backward"} >= {"backward", "accumulate"}


def test_without_an_optimizer_gradients_add_up(tmp_path):
    path = write_config(tmp_path, "bert")
    kept = dry_model(path, batch=2, sequence=16)
    fresh = dry_model(path, batch=2, sequence=16, optimizer="adamw-fused")
    accumulated = [Counter(r.name for r in dry.records if r.autograd == "accumulate") for dry in (kept, fresh)]
    assert accumulated[0]["aten::add_"] >= 40 > accumulated[1]["aten::add_"] + 30
    assert not any(r.phase == "optimizer" for r in kept.records)
    assert [r.phase for r in fresh.records if r.name == "aten::_fused_adamw_"] == ["optimizer"]


def test_on_cuda_dropout_is_one_op_with_a_byte_mask():
    dry = dry_step(ClientConfig(**CLIENT))
    dropped = [r for r in dry.records if r.name == "aten::native_dropout"]
    assert len(dropped) > 10
    assert {r.outputs[1].dtype for r in dropped} == {"bool"}
    assert not any(r.name == "aten::bernoulli_" for r in dry.records)
    backward = [r for r in dry.records if r.name == "aten::native_dropout_backward"]
    assert len(backward) == len(dropped)
    assert all(r.module for r in backward)


def attention_ops(dry):
    return {r.name.removeprefix("aten::_scaled_dot_product_") for r in dry.records if "_dot_product" in r.name}


@pytest.mark.parametrize(
    ("model_type", "precision", "capability", "kernels"),
    [
        ("bert", "fp32", None, {"efficient_attention", "efficient_attention_backward"}),
        ("bert", "bf16", (8, 7), {"flash_attention", "flash_attention_backward"}),
        ("bert", "fp16", (7, 5), {"efficient_attention", "efficient_attention_backward"}),
        ("llama", "bf16", (9, 0), {"flash_attention", "flash_attention_backward"}),
    ],
)
def test_attention_goes_to_the_kernel_that_cuda_would_take(tmp_path, model_type, precision, capability, kernels):
    path = write_config(tmp_path, model_type)
    shape = {"batch": 2, "sequence": 16, "attention": "sdpa", "precision": precision}
    dry = dry_model(path, compute_capability=capability, **shape)
    assert attention_ops(dry) == kernels
    assert all(price(r) is not None for r in dry.records if "_dot_product" in r.name)


def test_t5_adds_its_bias_in_memory_efficient_attention():
    dry = dry_step(ClientConfig(**CLIENT, precision="bf16"))
    assert attention_ops(dry) == {"efficient_attention", "efficient_attention_backward"}
    first = next(r for r in dry.records if r.name.endswith("_efficient_attention"))
    assert first.args[3].shape == (2, *first.args[0].shape[1:2], 48, 48)


def test_autocast_follows_cuda(tmp_path):
    path = write_config(tmp_path, "gpt2")
    shape = {"batch": 2, "sequence": 16, "precision": "bf16"}
    on_cuda, on_cpu = (dry_model(path, target_kind=kind, **shape) for kind in ("cuda", "cpu"))

    def dtypes(dry, name):
        return {r.outputs[0].dtype for r in dry.records if r.name == name and r.phase == "forward"}

    for name in ("aten::_softmax", "aten::native_layer_norm", "aten::pow"):
        assert dtypes(on_cuda, name) == {"fp32"}
    assert "bf16" in dtypes(on_cpu, "aten::pow")
    assert dtypes(on_cuda, "aten::addmm") == dtypes(on_cpu, "aten::addmm") == {"bf16"}


def test_what_torch_defaults_to_on_cuda():
    config = ClientConfig(**(CLIENT | {"optimizer": "adamw"}))
    names = {kind: {r.name for r in dry_step(config, target_kind=kind).records} for kind in ("cuda", "cpu")}
    assert "aten::_foreach_lerp_" in names["cuda"]
    assert "aten::_foreach_lerp_" not in names["cpu"]


def test_the_world_is_as_before_afterwards():
    dry_step(ClientConfig(**CLIENT))
    assert torch._C._len_torch_dispatch_stack() == 0
    assert type(torch.ones(2)) is torch.Tensor
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.softmax(torch.ones(2, 2, dtype=torch.bfloat16), -1).dtype == torch.bfloat16
    assert torch.nn.Linear(2, 2).to(torch.float64).weight.dtype == torch.float64


def test_it_describes_itself():
    dry = dry_step(ClientConfig(**CLIENT, precision="tf32", device="cuda"))
    assert dry.tf32
    assert dry.describe()["device"] == "cuda"
    assert dry.describe()["batch_size"] == 2
    assert dry.describe()["dry_run"] == "ops as on cuda, nothing computed"
    assert 0 < dry.tokens <= dry.padded_tokens == 2 * (48 + 16)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"mode": "dream"}, UsageError, "mode is 'dream'"),
        ({"target_kind": "tpu"}, UsageError, "target_kind is 'tpu'"),
        ({"routing": "odd"}, UsageError, "routing is 'odd'"),
        ({"head": "BertForCooking"}, UsageError, "no model class 'BertForCooking'"),
        ({"batch": 0}, UsageError, "batch_size is 0"),
        ({"precision": "fp3"}, UsageError, "precision is 'fp3'"),
        ({"optimizer": "magic"}, UsageError, "unknown optimizer"),
        ({"sequence": 5000}, UsageError, "512 positions"),
        ({"head": "BertModel"}, WorkloadError, "gives no logits"),
    ],
)
def test_nonsense_is_refused(tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        dry_model(write_config(tmp_path, "bert"), **({"batch": 2, "sequence": 16} | arguments))


def test_models_of_images_are_refused(tmp_path):
    config = tmp_path / "vit.json"
    config.write_text(json.dumps({"model_type": "vit", "num_hidden_layers": 1}))
    with pytest.raises(UsageError, match="reads pixel_values, not tokens"):
        dry_model(str(config), batch=1, sequence=16)


def test_relative_positions_have_no_limit(tmp_path):
    config = tmp_path / "xlnet.json"
    config.write_text(json.dumps({"model_type": "xlnet", "n_layer": 1, "d_model": 32, "n_head": 2, "d_inner": 64}))
    assert dry_model(str(config), "inference", batch=1, sequence=16).records  # it states -1 positions


def test_what_depends_on_values_is_refused_in_words():
    from edgeroof.profiler.dryrun import fake_tensors, record_dry

    class Choosy:
        model = torch.nn.Linear(2, 2)
        batches = (None,)

        def run(self, batch):
            return torch.rand(8).nonzero()

    with fake_tensors() as known, pytest.raises(CaptureError, match="decides by values what to run"):
        record_dry(Choosy(), None, known)


@pytest.mark.slow
def test_xl_takes_seconds_and_little_memory():
    import subprocess
    import sys

    code = (
        "import resource, time; from edgeroof.workloads import ClientConfig\n"
        "from edgeroof.workloads.dry import dry_step\n"
        "dry = dry_step(ClientConfig(model='xl', batch_size=8, optimizer='adamw-fused'))\n"
        "print(dry.workload['parameters'], time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    parameters, seconds, kilobytes = result.stdout.split()
    assert int(parameters) == 2_849_757_184
    assert float(seconds) < 60  # 20 s of CPU time on a quiet core
    assert int(kilobytes) < 2_000_000
