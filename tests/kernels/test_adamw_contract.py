"""Everything that training code does to an optimizer besides calling ``step``."""

import copy
import pickle

import pytest
import torch

from edgeroof.kernels.optim import FusedAdamW
from edgeroof.kernels.optim.errors import OptimizerError, OptimizerUsageError

from .optim_cases import DEVICE, SMALL, both_backends, fused, make_params, set_grads, train, truth, ulp, worst


@both_backends
def test_tensors_without_gradient_are_left_alone(backend: str) -> None:
    params = make_params(SMALL)
    optimizer = fused(params, backend)
    before = params[1].detach().clone()
    for step in range(2):
        set_grads(params, step)
        params[1].grad = None
        optimizer.step()
    assert torch.equal(params[1], before)
    assert params[1] not in optimizer.state or not optimizer.state[params[1]]
    set_grads(params, 2)
    optimizer.step()
    assert float(optimizer.state[params[1]]["step"]) == 1
    assert float(optimizer.state[params[0]]["step"]) == 3
    params[0].grad = None
    optimizer.step()
    assert [float(optimizer.state[p]["step"]) for p in params[:2]] == [3, 2]


@both_backends
def test_no_gradients_at_all_is_no_step(backend: str) -> None:
    params = make_params(SMALL)
    before = [param.detach().clone() for param in params]
    fused(params, backend).step()
    assert all(torch.equal(a, b) for a, b in zip(params, before))


def awkward_params() -> list[torch.nn.Parameter]:
    """A transposed one, one with gaps, a misaligned one, a permuted one."""
    base = torch.arange(600.0, device=DEVICE) / 100
    tensors = [
        base[:60].clone().view(6, 10).t(),
        base[:60].clone().view(6, 10)[:, ::2],
        base.clone()[1:302],
        base[:120].clone().view(4, 5, 6).permute(2, 0, 1),
    ]
    return [torch.nn.Parameter(tensor) for tensor in tensors]


@both_backends
@pytest.mark.parametrize("like_param", [True, False])
@pytest.mark.parametrize("state_dtype", ["fp32", "int8"])
def test_non_contiguous_and_misaligned_tensors(backend: str, like_param: bool, state_dtype: str) -> None:
    params, plain = awkward_params(), [torch.nn.Parameter(p.detach().contiguous()) for p in awkward_params()]
    optimizers = [fused(params, backend, state_dtype=state_dtype), fused(plain, backend, state_dtype="fp32")]
    for step in range(2):
        set_grads(plain, step)
        for param, other in zip(params, plain):
            param.grad = torch.empty_like(param).copy_(other.grad) if like_param else other.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    tolerance = 1e-7 if state_dtype == "fp32" else 1e-4
    for param, other in zip(params, plain):
        torch.testing.assert_close(param, other, rtol=tolerance, atol=tolerance)
        if state_dtype == "fp32":
            state, expected = optimizers[0].state[param], optimizers[1].state[other]
            torch.testing.assert_close(state["exp_avg"], expected["exp_avg"], rtol=1e-6, atol=0)


@both_backends
def test_misaligned_gradients(backend: str) -> None:
    params = make_params([(2000,)])
    values = truth(params, 1)
    set_grads(params, 0)
    shifted = torch.empty(2001, device=DEVICE)[1:]
    shifted.copy_(params[0].grad)
    params[0].grad = shifted
    fused(params, backend).step()
    assert worst(params, values) <= 2 * ulp(params)


@both_backends
def test_a_group_added_in_the_middle(backend: str) -> None:
    params = make_params(SMALL)
    optimizer = fused(params[:2], backend)
    values = truth(params[:2], 2)
    train(optimizer, params[:2], 1)
    optimizer.add_param_group({"params": params[2:], "lr": 0.1})
    train(optimizer, params, 1, first=1)
    assert worst(params[:2], values) <= 2 * ulp(params)
    assert [float(optimizer.state[param]["step"]) for param in params] == [2, 2, 1, 1]


@both_backends
def test_closure_runs_with_gradients_and_its_loss_comes_back(backend: str) -> None:
    params = make_params([(4,)])
    optimizer = fused(params, backend)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (params[0] ** 2).sum()
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(3)]
    assert losses[0] > losses[1] > losses[2]


@both_backends
@pytest.mark.parametrize("state_dtype", ["fp32", "bf16", "int8"])
def test_resuming_repeats_the_run_bit_for_bit(backend: str, state_dtype: str) -> None:
    params = make_params(SMALL)
    optimizer = fused(params, backend, state_dtype=state_dtype)
    train(optimizer, params, 2)
    saved = pickle.loads(pickle.dumps(optimizer.state_dict()))
    resumed = [torch.nn.Parameter(param.detach().clone()) for param in params]
    other = fused(resumed, backend, state_dtype=state_dtype)
    other.load_state_dict(saved)
    train(optimizer, params, 2, first=2)
    train(other, resumed, 2, first=2)
    assert all(torch.equal(a, b) for a, b in zip(params, resumed))


@both_backends
@pytest.mark.parametrize("torch_first", [True, False])
def test_states_move_between_torchs_adamw_and_ours(backend: str, torch_first: bool) -> None:
    params = make_params(SMALL)
    values = truth(params, 4)

    def ours() -> torch.optim.Optimizer:
        return fused(params, backend)

    def theirs() -> torch.optim.Optimizer:
        return torch.optim.AdamW(params)

    first, second = (theirs(), ours()) if torch_first else (ours(), theirs())
    train(first, params, 2)
    second.load_state_dict(first.state_dict())
    train(second, params, 2, first=2)
    assert worst(params, values) <= 4 * ulp(params)
    assert float(second.state[params[0]]["step"]) == 4
    assert second.param_groups[0]["decoupled_weight_decay"] is True


@both_backends
def test_bf16_parameters_keep_their_fp32_states_when_loaded(backend: str) -> None:
    params = make_params(SMALL, torch.bfloat16)
    optimizer = fused(params, backend)
    train(optimizer, params, 1)
    other = fused([torch.nn.Parameter(param.detach().clone()) for param in params], backend)
    other.load_state_dict(optimizer.state_dict())
    for mine, loaded in zip(params, other.param_groups[0]["params"]):
        assert torch.equal(other.state[loaded]["exp_avg"], optimizer.state[mine]["exp_avg"])


@both_backends
def test_8_bit_states_go_to_torch_through_values(backend: str) -> None:
    params = make_params(SMALL)
    optimizer = fused(params, backend, state_dtype="int8")
    train(optimizer, params, 2)
    theirs = torch.optim.AdamW(params)
    theirs.load_state_dict(optimizer.unquantized_state_dict())
    train(theirs, params, 1, first=2)
    again = fused(params, backend, state_dtype="int8")
    again.load_state_dict(optimizer.unquantized_state_dict())
    train(again, params, 1, first=2)
    assert "exp_avg_q8" in again.state[params[0]]
    assert float(again.state[params[0]]["step"]) == 3


@both_backends
def test_a_deep_copy_is_independent(backend: str) -> None:
    params = make_params(SMALL)
    optimizer = fused(params, backend, max_grad_norm=1.0)
    train(optimizer, params, 1)
    twin = copy.deepcopy(optimizer)
    copies = twin.param_groups[0]["params"]
    assert twin.max_grad_norm == 1.0
    train(twin, copies, 1, first=1)
    assert float(twin.state[copies[0]]["step"]) == 2
    assert float(optimizer.state[params[0]]["step"]) == 1
    train(optimizer, params, 1, first=1)
    assert all(torch.equal(a, b) for a, b in zip(params, copies))


@both_backends
def test_new_memory_behind_a_parameter_is_found(backend: str) -> None:
    params = make_params(SMALL)
    values = truth(params, 2)
    optimizer = fused(params, backend)
    train(optimizer, params, 1)
    for param in params:
        param.data = param.data.clone()
    train(optimizer, params, 1, first=1)
    assert worst(params, values) <= 2 * ulp(params)


@both_backends
def test_a_parameter_may_change_its_type(backend: str) -> None:
    params = make_params(SMALL)
    optimizer = fused(params, backend)
    train(optimizer, params, 1)
    first = optimizer.state[params[0]]["exp_avg"].clone()
    for param in params:
        param.grad = None
        param.data = param.data.bfloat16()
    optimizer.step()
    assert torch.equal(optimizer.state[params[0]]["exp_avg"], first)
    train(optimizer, params, 1, first=1)
    assert float(optimizer.state[params[0]]["step"]) == 2


@both_backends
def test_nan_and_infinite_gradients_poison_their_elements_only(backend: str) -> None:
    params, theirs = make_params([(40,)]), make_params([(40,)])
    for tensors, optimizer in ((params, fused(params, backend)), (theirs, torch.optim.AdamW(theirs))):
        set_grads(tensors, 0)
        tensors[0].grad[3], tensors[0].grad[5] = float("nan"), float("inf")
        optimizer.step()
    assert torch.equal(params[0].isnan(), theirs[0].isnan())
    torch.testing.assert_close(params[0], theirs[0], equal_nan=True)


@both_backends
@pytest.mark.parametrize("eps", [0.0, 1e-8])
def test_subnormal_gradients(backend: str, eps: float) -> None:
    params = make_params([(64,)])
    values = truth(params, 0)
    params[0].grad = torch.full_like(params[0], 1e-40)
    fused(params, backend, eps=eps, weight_decay=0.0).step()
    assert params[0].isfinite().all() or eps == 0.0  # 0 / 0 for torch as well: the square underflows
    if eps:
        assert worst(params, values) <= 2 * ulp(params)


@both_backends
def test_sparse_gradients_are_refused(backend: str) -> None:
    table = torch.nn.Embedding(10, 4, sparse=True, device=DEVICE)
    optimizer = fused(table.parameters(), backend)
    table(torch.tensor([1, 2], device=DEVICE)).sum().backward()
    with pytest.raises(OptimizerError, match="sparse"):
        optimizer.step()


def test_complex_parameters_are_refused() -> None:
    param = torch.nn.Parameter(torch.zeros(3, dtype=torch.complex64))
    param.grad = torch.ones_like(param)
    with pytest.raises(OptimizerError, match="complex64"):
        FusedAdamW([param]).step()


def test_an_amsgrad_state_is_refused() -> None:
    params = make_params(SMALL)
    theirs = torch.optim.AdamW(params, amsgrad=True)
    with pytest.raises(OptimizerUsageError, match="amsgrad"):
        FusedAdamW(params).load_state_dict(theirs.state_dict())
