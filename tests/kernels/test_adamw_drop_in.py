"""FusedAdamW in the place of ``torch.optim.AdamW``: its arguments, hooks, schedulers, checkpoints and wrappers."""

import copy
import io
from typing import Any

import numpy as np
import pytest
import torch

from edgeroof.kernels.optim import FusedAdamW
from edgeroof.kernels.optim.errors import OptimizerError, OptimizerUsageError

from .optim_cases import SMALL, both_backends, fused, make_params, set_grads, train, truth, ulp, worst


@both_backends
@pytest.mark.parametrize(
    "arguments",
    [
        {"foreach": True}, {"foreach": False}, {"fused": True}, {"fused": False}, {"capturable": True},
        {"differentiable": False, "amsgrad": False, "maximize": False}, {"lr": np.float32(1e-3)},
        {"betas": (torch.tensor(0.9), torch.tensor(0.999))}, {"betas": [0.9, 0.999]},
    ],
)  # fmt: skip
def test_torchs_arguments_are_taken(backend: str, arguments: dict) -> None:
    params = make_params(SMALL[:2])
    values = truth(params, 1)
    train(fused(params, backend, **arguments), params, 1)
    assert worst(params, values) <= 4 * ulp(params)


def test_torchs_positional_arguments_have_their_places() -> None:
    params = make_params(SMALL)
    optimizer = FusedAdamW(params, 1e-2, (0.8, 0.9), 1e-6, 0.5, False)
    theirs = torch.optim.AdamW(params, 1e-2, (0.8, 0.9), 1e-6, 0.5, False)
    names = ("lr", "betas", "eps", "weight_decay", "amsgrad")
    assert [optimizer.defaults[name] for name in names] == [theirs.defaults[name] for name in names]
    assert set(optimizer.defaults) == set(theirs.defaults)


@pytest.mark.parametrize("asked", ["amsgrad", "differentiable"])
def test_what_a_group_asks_for_in_vain_is_refused(asked: str) -> None:
    first, second = make_params(SMALL[:2])
    with pytest.raises(OptimizerUsageError, match=f"{asked}=True is not supported"):
        FusedAdamW([{"params": [first], asked: True}])
    optimizer = FusedAdamW([first])
    with pytest.raises(OptimizerUsageError, match=f"{asked}=True is not supported"):
        optimizer.add_param_group({"params": [second], asked: True})
    with pytest.raises(OptimizerUsageError, match=f"{asked}=True is not supported"):
        FusedAdamW([first], **{asked: True})


@both_backends
def test_named_parameters(backend: str) -> None:
    model = torch.nn.Linear(3, 4)
    optimizer = fused(model.named_parameters(), backend)
    train(optimizer, list(model.parameters()), 1)
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]


@both_backends
def test_a_scheduler_may_cycle_the_betas(backend: str) -> None:
    results = []
    for ours in (True, False):
        params = make_params(SMALL[:2])
        optimizer = fused(params, backend, lr=1e-2) if ours else torch.optim.AdamW(params, lr=1e-2)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=6)
        betas = set()
        for step in range(4):
            train(optimizer, params, 1, first=step)
            scheduler.step()
            betas.add(optimizer.param_groups[0]["betas"][0])
        results.append(params)
    assert len(betas) > 2
    assert worst(results[0], [param.detach().double() for param in results[1]]) <= 4 * ulp(results[0])


@both_backends
def test_gradients_set_to_zero_and_closures_without_a_loss(backend: str) -> None:
    params = make_params(SMALL)
    values = truth(params, 2)
    optimizer = fused(params, backend)
    train(optimizer, params, 1)
    optimizer.zero_grad(set_to_none=False)
    assert not any(param.grad.any() for param in params)
    assert optimizer.step(lambda: set_grads(params, 1)) is None
    assert worst(params, values) <= 2 * ulp(params)


@both_backends
def test_hooks_around_steps_and_state_dicts(backend: str) -> None:
    params, others = make_params(SMALL), make_params(SMALL)
    optimizer, loading, seen = fused(params, backend), fused(others, backend), []
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    train(optimizer, params, 1)
    assert seen == ["before", "after"]

    def exchange(_: Any, state_dict: dict) -> dict:
        changed = copy.deepcopy(state_dict)
        changed["state"][0]["exp_avg"].fill_(7.0)
        return changed

    loading.register_load_state_dict_pre_hook(exchange)
    loading.register_load_state_dict_post_hook(lambda opt: opt.state[others[1]]["exp_avg"].fill_(5.0))
    loading.load_state_dict(optimizer.state_dict())
    train(loading, others, 1, first=1)
    first = 0.9 * 7.0 + 0.1 * others[0].grad
    torch.testing.assert_close(loading.state[others[0]]["exp_avg"], first)
    torch.testing.assert_close(loading.state[others[1]]["exp_avg"], 0.9 * 5.0 + 0.1 * others[1].grad)
    assert len(loading._optimizer_load_state_dict_pre_hooks) == 1  # ours are gone


@both_backends
def test_a_checkpoint_goes_through_a_file_read_safely(backend: str) -> None:
    params, others = make_params(SMALL), make_params(SMALL)
    optimizer, resumed = fused(params, backend), fused(others, backend)
    train(optimizer, params, 2)
    file = io.BytesIO()
    torch.save({"model": params, "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True)["optimizer"])
    for param, other in zip(params, others):
        other.data.copy_(param.data)
    train(optimizer, params, 1, first=2)
    train(resumed, others, 1, first=2)
    assert all(torch.equal(a, b) for a, b in zip(params, others))


@both_backends
def test_old_checkpoints_count_steps_in_numbers_and_lack_later_options(backend: str) -> None:
    params = make_params(SMALL)
    values = truth(params, 3)
    theirs = torch.optim.AdamW(params)
    train(theirs, params, 2)
    saved = theirs.state_dict()
    for entries in saved["state"].values():
        entries["step"] = 2
    saved["param_groups"][0] = {
        key: saved["param_groups"][0][key] for key in ("params", "lr", "betas", "eps", "weight_decay")
    }
    optimizer = fused(params, backend)
    optimizer.load_state_dict(saved)
    train(optimizer, params, 1, first=2)
    assert worst(params, values) <= 4 * ulp(params)
    assert float(optimizer.state[params[0]]["step"]) == 3


@both_backends
def test_a_limit_that_comes_late_still_needs_one_norm(backend: str) -> None:
    params = make_params(SMALL[:2]) + make_params(SMALL[:2], torch.float64)
    optimizer = fused(params, backend)
    train(optimizer, params, 1)
    if backend == "torch":
        optimizer.max_grad_norm = 1.0
        train(optimizer, params, 1, first=1)
        expected = torch.cat([param.grad.double().flatten() for param in params]).norm()
        assert float(optimizer.grad_norm) == pytest.approx(float(expected), rel=1e-5)
        return
    with pytest.raises(OptimizerError, match="one norm over all gradients"):
        optimizer.max_grad_norm = 1.0
    assert optimizer.max_grad_norm is None


@both_backends
def test_a_compiled_training_step_calls_the_plain_one(backend: str) -> None:
    params = make_params(SMALL[:2])
    values = truth(params, 2)
    optimizer = fused(params, backend)
    step = torch.compile(lambda: optimizer.step(), backend="eager")
    for number in range(2):
        set_grads(params, number)
        step()
    assert worst(params, values) <= 4 * ulp(params)


@both_backends
def test_accelerate_wraps_it(backend: str) -> None:
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    model = torch.nn.Linear(4, 3)
    params = list(model.parameters())
    values = truth(params, 2)
    accelerator = accelerate.Accelerator(cpu=True)
    scheduler_of = torch.optim.lr_scheduler.ConstantLR
    optimizer = fused(params, backend)
    model, wrapped, scheduler = accelerator.prepare(model, optimizer, scheduler_of(optimizer, factor=1.0))
    for step in range(2):
        wrapped.zero_grad()
        set_grads(params, step)
        accelerator.clip_grad_norm_(params, 1e6)
        wrapped.step()
        scheduler.step()
    assert worst(params, values) <= 4 * ulp(params)
    wrapped.load_state_dict(wrapped.state_dict())
    assert float(optimizer.state[params[0]]["step"]) == 2
