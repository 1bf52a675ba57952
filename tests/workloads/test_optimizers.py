from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from edgeroof.errors import UsageError, WorkloadError
from edgeroof.workloads import optimizers
from edgeroof.workloads.optimizers import OptimizerSettings, build_optimizer, optimizer_names, register_optimizer

ADAMW = ("adamw", "adamw-loop", "adamw-foreach", "adamw-fused")


def train(name, steps=3):
    weight = torch.nn.Parameter(torch.linspace(-1, 1, 12).reshape(3, 4))
    optimizer = build_optimizer(name, [weight], OptimizerSettings(learning_rate=0.1))
    for _ in range(steps):
        optimizer.zero_grad()
        (weight**2).sum().backward()
        optimizer.step()
    return weight.detach()


@pytest.mark.parametrize("name", optimizer_names())
def test_every_optimizer_goes_downhill(name):
    start = torch.linspace(-1, 1, 12)
    assert train(name).square().sum() < start.square().sum()


@pytest.mark.parametrize("name", ADAMW[1:])
def test_kinds_of_adamw_agree(name):
    torch.testing.assert_close(train(name), train("adamw"))


@pytest.mark.parametrize(
    ("name", "op"),
    [("adamw-fused", "aten::_fused_adamw_"), ("adamw-foreach", "aten::_foreach_addcdiv_"), ("adamw", "aten::addcdiv_")],
)
def test_the_named_kind_is_the_one_that_runs(name, op):
    with torch.profiler.profile() as profiler:
        train(name, steps=1)
    assert op in {event.key for event in profiler.key_averages()}


def test_states_are_as_declared():
    for name in optimizer_names():
        weight = torch.nn.Parameter(torch.ones(64, 64))
        optimizer = build_optimizer(name, [weight], OptimizerSettings())
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        kept = sum(
            value.nbytes for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)
        )
        assert kept / weight.nbytes == pytest.approx(optimizers.optimizer_spec(name).states, abs=0.05), name


def test_settings_reach_the_optimizer():
    weight = torch.nn.Parameter(torch.ones(2))
    for name in optimizer_names():
        group = build_optimizer(name, [weight], OptimizerSettings(0.5, 0.25)).param_groups[0]
        assert (group["lr"], group["weight_decay"]) == (0.5, 0.25), name


def test_registering_another(monkeypatch):
    monkeypatch.setattr(optimizers, "_registry", dict(optimizers._registry))

    @register_optimizer("mine", "for a test", unavailable=lambda device: "no GPU" if device == "cpu" else None)
    def build(parameters, settings):
        return torch.optim.SGD(parameters, lr=settings.learning_rate)

    weight = torch.nn.Parameter(torch.ones(2))
    assert "mine" in optimizer_names()
    assert isinstance(build_optimizer("mine", [weight], OptimizerSettings(device="cuda:0")), torch.optim.SGD)
    with pytest.raises(WorkloadError, match="'mine' cannot be used on cpu: no GPU"):
        build_optimizer("mine", [weight], OptimizerSettings(device="cpu"))
    with pytest.raises(ValueError, match="registered already"):
        register_optimizer("mine", "again")(build)


def test_unknown_name_and_nothing_to_train():
    with pytest.raises(UsageError, match="optimizers are adamw, adamw-loop"):
        build_optimizer("adam", [], OptimizerSettings())
    with pytest.raises(WorkloadError, match="no trainable parameters"):
        build_optimizer("sgd", [], OptimizerSettings())


def test_names_and_configurations_do_not_load_torch():
    code = (
        "import sys; from edgeroof.workloads import ClientConfig, optimizer_names, known_models\n"
        "ClientConfig(); optimizer_names(); known_models(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("typed", ["fused_adamw", "fusedadamw", "FUSED-ADAMW"])
def test_a_slip_in_a_name_is_helped(typed):
    with pytest.raises(UsageError, match=r"did you mean 'fused-adamw'\? optimizers are adamw, .*fused-adafactor"):
        build_optimizer(typed, [], OptimizerSettings())
