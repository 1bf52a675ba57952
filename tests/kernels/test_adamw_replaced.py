"""Code that reaches into an optimizer: parameters, states and memory replaced by hand count as they do for torch's."""

import collections
import gc
import weakref
from collections.abc import Callable

import pytest
import torch

from edgeroof.kernels.optim import FusedAdafactor
from edgeroof.kernels.optim.state_watch import StateWatch

from .optim_cases import DEVICE, SMALL, both_backends, fused, make_params, train, ulp, worst

FEW = [(3,)]  # Adafactor's tiles are slow in the interpreter
Params = list[torch.nn.Parameter]
Change = Callable[[torch.optim.Optimizer, Params], None]


def assert_as_torch(backend: str, change: Change, shapes: list = SMALL, groups: int = 1) -> None:
    """Two steps, a change by hand, two steps: the parameters are torch's."""
    results = []
    for ours in (True, False):
        params = make_params(shapes)
        parts = [{"params": params[start::groups], "lr": 10.0 ** -(start + 1)} for start in range(groups)]
        optimizer = fused(parts, backend) if ours else torch.optim.AdamW(parts)
        train(optimizer, params, 2)
        change(optimizer, params)
        train(optimizer, params, 2, first=2)
        results.append(params)
    assert worst(results[0], [param.detach().double() for param in results[1]]) <= 4 * ulp(results[0])


def forget_everything(optimizer: torch.optim.Optimizer, params: Params) -> None:
    optimizer.state = collections.defaultdict(dict)


def clear(optimizer: torch.optim.Optimizer, params: Params) -> None:
    optimizer.state.clear()


def forget_one(optimizer: torch.optim.Optimizer, params: Params) -> None:
    optimizer.state[params[0]] = {}


def replace_a_moment(optimizer: torch.optim.Optimizer, params: Params) -> None:
    optimizer.state[params[0]]["exp_avg"] = torch.ones_like(params[0])


def restart_the_count(optimizer: torch.optim.Optimizer, params: Params) -> None:
    for entries in optimizer.state.values():
        entries["step"] = torch.tensor(0.0)


def change_in_place(optimizer: torch.optim.Optimizer, params: Params) -> None:
    optimizer.state[params[0]]["exp_avg"].zero_()
    optimizer.state[params[0]]["step"].fill_(1.0)


def add_a_note(optimizer: torch.optim.Optimizer, params: Params) -> None:
    optimizer.state[params[0]]["note"] = 1.0


@both_backends
@pytest.mark.parametrize(
    "change",
    [forget_everything, clear, forget_one, replace_a_moment, restart_the_count, change_in_place, add_a_note],
)
def test_states(backend: str, change: Change) -> None:
    assert_as_torch(backend, change)


@both_backends
def test_a_parameter_in_the_place_of_another(backend: str) -> None:
    def change(optimizer: torch.optim.Optimizer, params: Params) -> None:
        params[0] = optimizer.param_groups[0]["params"][0] = torch.nn.Parameter(torch.ones_like(params[0]))

    assert_as_torch(backend, change)


@both_backends
def test_a_parameter_that_goes_to_another_group(backend: str) -> None:
    def change(optimizer: torch.optim.Optimizer, params: Params) -> None:
        first, second = (group["params"] for group in optimizer.param_groups)
        second.append(first.pop())

    assert_as_torch(backend, change, groups=2)


@both_backends
def test_a_group_that_goes(backend: str) -> None:
    assert_as_torch(backend, lambda optimizer, params: optimizer.param_groups.pop(0), groups=2)


def to_channels_last(optimizer: torch.optim.Optimizer, params: Params) -> None:
    params[0].data = params[0].data.contiguous(memory_format=torch.channels_last)


def transpose_the_memory(optimizer: torch.optim.Optimizer, params: Params) -> None:
    params[1].data = params[1].data.t().contiguous().t()


@both_backends
@pytest.mark.parametrize("change", [to_channels_last, transpose_the_memory])
def test_the_order_of_a_parameters_elements(backend: str, change: Change) -> None:
    assert_as_torch(backend, change, shapes=[(4, 3, 5, 5), (6, 7)])


@both_backends
def test_a_shadow_copy_takes_the_parameters_order(backend: str) -> None:
    gaps = torch.nn.Parameter(torch.randn(6, 10, device=DEVICE)[:, ::2].t())
    params = [*make_params([(4, 3, 5, 5)]), gaps]
    optimizer = fused(params, backend, lr=0.1, shadow_dtype=torch.bfloat16)
    train(optimizer, params, 1)
    to_channels_last(optimizer, params)
    train(optimizer, params, 1, first=1)
    for param in params:
        torch.testing.assert_close(optimizer.shadow(param).float(), param.detach(), rtol=2**-7, atol=0)
    assert optimizer.shadow(gaps) is optimizer.shadow(gaps)


@both_backends
@pytest.mark.parametrize("adafactor", [False, True])
def test_gradients_are_free_after_the_step(backend: str, adafactor: bool) -> None:
    params = make_params(FEW if adafactor else SMALL)
    optimizer = FusedAdafactor(params, backend=backend) if adafactor else fused(params, backend)
    train(optimizer, params, 2)
    gradients = [weakref.ref(param.grad) for param in params]
    optimizer.zero_grad()
    gc.collect()
    assert all(gradient() is None for gradient in gradients)


@both_backends
def test_adafactors_states(backend: str) -> None:
    params, fresh = make_params(FEW), make_params(FEW)
    optimizer, other = (FusedAdafactor(tensors, backend=backend) for tensors in (params, fresh))
    train(optimizer, params, 2)
    for param, start in zip(params, fresh):
        param.data.copy_(start)
    optimizer.state = collections.defaultdict(dict)
    train(optimizer, params, 1, first=2)
    train(other, fresh, 1, first=2)
    assert all(torch.equal(a, b) for a, b in zip(params, fresh))


def test_what_users_add_makes_no_difference_and_is_looked_at_closely_once() -> None:
    param, late = make_params([(3,), (4,)])
    state: dict = {param: {"step": torch.tensor(1.0)}}
    watch = StateWatch(state, ("step",))
    state[param]["note"] = 1.0
    state[late] = {"step": torch.tensor(1.0)}
    assert watch.holds(state)
    assert watch.holds(state)
    state[late]["step"] = torch.tensor(1.0)
    assert not watch.holds(state)
