"""The suite ``step``: one model, optimizers exchanged, the optimizer phase by itself."""

from __future__ import annotations

import dataclasses
import gc
import weakref

import pytest
import torch

from edgeroof.errors import UsageError
from edgeroof.kernels.ab import Settings, run
from edgeroof.profiler.device import Device, Roof
from edgeroof.workloads.client_config import ClientConfig
from edgeroof.workloads.optimizers import optimizer_names
from edgeroof.workloads.step_suite import reference_of, step_suite

DEVICE = Device("cpu", "a CPU", "cpu", measured=Roof("measured", 20e9, {"vector": {"fp32": 1e11}}, 1.0))


def tiny_suite(**settings):
    suite = step_suite(batch_size=1, source_length=16, target_length=8, **settings)
    small = suite.problems["small"]
    tiny = dataclasses.replace(small, name="tiny", config=dataclasses.replace(small.config, model="tiny"))
    return dataclasses.replace(suite, problems={"tiny": tiny})


def test_whole_step_and_optimizer_phase_are_compared():
    suite = tiny_suite()
    settings = Settings(pairs=12, seconds=0.0, most_seconds=2.0, warmup=1)
    result = run(suite, [suite.problems["tiny"]], DEVICE, providers=["adamw-fused"], settings=settings)
    (problem,) = result["problems"]
    base, fused = problem["results"]
    assert base["provider"] == "adamw"
    assert set(fused["comparisons"]) == {"wall", "optimizer", "rest"}
    assert fused["comparisons"]["optimizer"]["ratio"] > 1.2
    times = fused["times_us"]
    assert times["optimizer"]["median"] < times["wall"]["median"]
    for key in ("optimizer", "rest"):
        assert len(fused["samples"][key]["us"]) == len(fused["samples"]["wall"]["us"]) >= 12


def test_every_call_trains_the_shared_model_with_its_own_optimizer():
    suite = tiny_suite()
    problem = suite.problems["tiny"]
    inputs = suite.inputs(problem, "cpu")
    works = {p.name: p.build(problem, inputs) for p in suite.providers if p.name in ("adamw-loop", "sgd")}
    parameter = next(inputs.step.model.parameters())
    for name, work in works.items():
        before = parameter.detach().clone()
        work.call()
        assert not torch.equal(before, parameter), name
    states = weakref.ref(works["adamw-loop"].call._optimizer)
    assert type(works["sgd"].call._optimizer).__name__ == "SGD"
    assert type(states()).__name__ == "AdamW"
    del works, work
    gc.collect()
    assert states() is None  # the shared step does not keep what is built anew in another place


def test_edgeroofs_optimizers_clip_as_part_of_their_step():
    suite = tiny_suite(clip_norm=0.01)
    problem = suite.problems["tiny"]
    inputs = suite.inputs(problem, "cpu")
    norms = {}
    for provider in suite.providers:
        if provider.name in ("adamw-fused", "fused-adamw", "fused-adafactor"):
            work = provider.build(problem, inputs)
            work.call()
            gradients = [parameter.grad.norm() for parameter in inputs.step.model.parameters()]
            norms[provider.name] = float(torch.stack(gradients).norm())
    assert norms.pop("adamw-fused") == pytest.approx(0.01, rel=1e-3)
    assert min(norms.values()) > 0.1  # clipped where they are read, and not rewritten


@pytest.mark.parametrize("name", optimizer_names())
def test_every_registered_optimizer_is_checked_against_float64(name):
    suite = tiny_suite()
    provider = next(p for p in suite.providers if p.name == name)
    reason = provider.unavailable(suite.problems["tiny"], "cpu")
    if reason:
        pytest.skip(reason)
    check = suite.check(provider, suite.problems["tiny"], "cpu", 0)
    assert check.passed, check


def test_families():
    assert reference_of("adamw-fused") is reference_of("fused-adamw") is not None
    assert reference_of("sgd") is not reference_of("sgd-momentum")
    assert reference_of("lion") is None


def test_defaults_suit_the_device():
    on_cpu, on_gpu = step_suite(kind="cpu"), step_suite(kind="cuda")
    assert on_cpu.problems["small"].config.micro_batch == 1
    config = on_gpu.problems["base"].config
    assert (config.model, config.micro_batch, config.source_length, config.device) == ("base", 32, 512, "cuda")
    assert on_cpu.problems["lora-small"].config.lora_rank == 8
    assert on_cpu.problems["lora-small"].parameters == 344_064
    assert step_suite(batch_size=4, source_length=None).problems["small"].config.micro_batch == 4
    assert isinstance(config, ClientConfig)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(UsageError, match="batch_size is 0"):
        step_suite(batch_size=0)
    with pytest.raises(UsageError, match="precision"):
        step_suite(precision="int3")
