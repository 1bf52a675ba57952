"""A step's model in other forms: the same weights, checked, and compared with the plain one."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from edgeroof.kernels import operator
from edgeroof.kernels.ab import Settings, run
from edgeroof.kernels.patch import fused_parts
from edgeroof.profiler.device import Device, Roof
from edgeroof.workloads import ClientConfig, build_client_step
from edgeroof.workloads.step_models import FORMS, check_form, sharing_copy, step_with
from edgeroof.workloads.step_suite import step_suite

DEVICE = Device("cpu", "a CPU", "cpu", measured=Roof("measured", 20e9, {"vector": {"fp32": 1e11}}, 1.0))


@pytest.fixture(autouse=True)
def _torch_path(monkeypatch):
    monkeypatch.setattr(operator, "use_triton", lambda tensor: False)


def tiny_step(**changes):
    values = {"model": "tiny", "batch_size": 2, "source_length": 24, "target_length": 8, "dialogues": 8, **changes}
    return build_client_step(ClientConfig(**values), check_memory=False)


def test_a_copy_shares_weights_and_gradients_and_nothing_else():
    model = tiny_step().model
    other = sharing_copy(model)
    assert all(a is b for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert not {id(module) for module in model.modules()} & {id(module) for module in other.modules()}


def test_a_step_with_a_fused_model_trains_the_same_weights():
    step = tiny_step(dropout=0.0)
    fused = step_with(step, "fused-model")
    assert fused_parts(step.model) == ()
    assert fused_parts(fused.model)
    assert fused.describe()["fused"]
    assert not step.describe()["fused"]
    batch = step.batches[0]
    before = step.model.shared.weight.detach().clone()
    first = fused.run(batch).loss
    assert not torch.equal(step.model.shared.weight, before)
    with torch.no_grad():
        step.model.shared.weight.copy_(before)
    assert step.run(batch).loss < first  # all other weights have been trained by the fused model


@pytest.mark.parametrize("form", [form for form in FORMS if form != "compiled-model"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_forms_are_as_exact_as_eager(form, precision):
    check = check_form(form, "tiny", precision, "cpu", seed=0)
    assert check.passed
    assert check.detail.endswith("weight")


def test_a_wrong_form_is_found(monkeypatch):
    def twice(model):
        model.lm_head.register_forward_hook(lambda head, inputs, output: output * 1.01)
        return model

    monkeypatch.setitem(FORMS, "fused-model", ("off by one percent", twice))
    assert not check_form("fused-model", "tiny", "fp32", "cpu", seed=0).passed


def test_the_suite_compares_the_fused_model_with_the_plain_one():
    suite = step_suite(batch_size=1, source_length=16, target_length=8)
    small = suite.problems["small"]
    config = dataclasses.replace(small.config, model="tiny")
    tiny = dataclasses.replace(small, name="tiny", parameters=1000, tensors=4, config=config)
    settings = Settings(pairs=6, seconds=0.0, most_seconds=0.5, warmup=1)
    result = run(suite, [tiny], DEVICE, providers=["adamw+fused-model", "adamw+eager-attention"], settings=settings)
    base, *others = result["problems"][0]["results"]
    assert base["provider"] == "adamw"
    assert [entry["status"] for entry in others] == ["measured"] * 2
    assert all(set(entry["comparisons"]) == {"wall", "optimizer", "rest"} for entry in others)


def test_precisions_that_cannot_be_checked_are_left_out_with_a_reason():
    suite = step_suite(precision="bf16-pure")
    provider = next(provider for provider in suite.providers if provider.name == "adamw+fused-model")
    assert "not in bf16-pure" in provider.unavailable(suite.problems["small"], "cpu")
