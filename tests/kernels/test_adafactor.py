"""FusedAdafactor computes transformers' Adafactor: against float64 at every kind of shape, and against the original."""

import copy

import pytest
import torch
from transformers.optimization import Adafactor

from edgeroof.kernels.optim import FusedAdafactor
from edgeroof.kernels.optim.errors import OptimizerError, OptimizerUsageError
from edgeroof.kernels.reference import AdafactorState, adafactor_reference

from .optim_cases import DEVICE, both_backends, make_params, set_grads, train, ulp, worst

SHAPES = [(0,), (), (1,), (17,), (300,), (3, 5), (1, 40), (64, 128), (65, 129), (130, 200), (2, 1, 70, 8), (0, 4)]
FEW = [(17,), (3, 5), (2, 4, 6)]
CASES = [
    {},
    {"lr": 1e-2, "relative_step": False, "scale_parameter": False},
    {"lr": 1e-2, "relative_step": False, "weight_decay": 0.1},
    {"beta1": 0.9, "weight_decay": 0.1},
    {"warmup_init": True, "clip_threshold": 0.5},
    {"decay_rate": -0.5, "eps": (1e-10, 0.1)},
]


def truth(params: list, steps: int, **hyper: object) -> list[torch.Tensor]:
    copies = [param.detach().clone() for param in params]
    values = [one.double() for one in copies]
    states = [AdafactorState() for _ in copies]
    for step in range(steps):
        set_grads(copies, step)
        values = [adafactor_reference(v, c.grad, s, **hyper) for v, c, s in zip(values, copies, states)]
    return values


def test_the_reference_is_transformers_adafactor() -> None:
    for hyper in CASES:
        params = make_params(FEW, torch.float64)
        values = truth(params, 3, **hyper)
        train(Adafactor(params, **hyper), params, 3)
        assert worst(params, values) < 1e-9


@both_backends
def test_every_shape_matches_float64(backend: str) -> None:
    params, hyper = make_params(SHAPES), CASES[3]
    values = truth(params, 2, **hyper)
    train(FusedAdafactor(params, backend=backend, **hyper), params, 2)
    assert worst(params, values) <= 4 * ulp(params)


@both_backends
@pytest.mark.parametrize(("hyper", "steps"), [*((case, 2) for case in CASES), (CASES[0], 1), (CASES[1], 6)])
def test_error_is_at_most_twice_that_of_transformers(backend: str, hyper: dict, steps: int) -> None:
    params, theirs = make_params(FEW), make_params(FEW)
    values = truth(params, steps, **hyper)
    train(FusedAdafactor(params, backend=backend, **hyper), params, steps)
    train(Adafactor(theirs, **hyper), theirs, steps)
    assert worst(params, values) <= 2 * worst(theirs, values) + ulp(params)


@both_backends
def test_groups_and_types_mix(backend: str) -> None:
    params = make_params(FEW) + make_params(FEW, torch.float64)
    groups = [{"params": params[:2]}, {"params": params[2:], "lr": 1e-2, "relative_step": False, "beta1": 0.5}]
    values = truth(params, 2)[:2] + truth(params, 2, lr=1e-2, relative_step=False, beta1=0.5)[2:]
    optimizer = FusedAdafactor(groups, backend=backend)
    train(optimizer, params, 2)
    assert worst(params, values) <= 4 * ulp(params[:3])
    assert "exp_avg" in optimizer.state[params[2]]
    assert "exp_avg" not in optimizer.state[params[0]]


@both_backends
def test_bf16_parameters(backend: str) -> None:
    params = make_params(FEW, torch.bfloat16)
    values = truth(params, 1)
    optimizer = FusedAdafactor(params, backend=backend)
    train(optimizer, params, 1)
    assert worst(params, values) <= 1.01 * ulp(params)
    assert optimizer.state[params[1]]["exp_avg_sq_row"].dtype == torch.float32


@both_backends
@pytest.mark.parametrize(("first_theirs", "hyper"), [(True, CASES[0]), (False, CASES[3])])
def test_states_move_between_transformers_and_ours(backend: str, first_theirs: bool, hyper: dict) -> None:
    params = make_params(FEW)
    values = truth(params, 4, **hyper)
    pair = [Adafactor(params, **hyper), FusedAdafactor(params, backend=backend, **hyper)]
    first, second = pair if first_theirs else reversed(pair)
    train(first, params, 2)
    second.load_state_dict(first.state_dict())
    train(second, params, 2, first=2)
    assert worst(params, values) <= 8 * ulp(params)
    assert float(second.state[params[0]]["step"]) == 4


@both_backends
def test_awkward_layouts(backend: str) -> None:
    base = torch.arange(600.0, device=DEVICE) / 100
    tensors = [
        base[:60].clone().view(6, 10).t(),
        base[:60].clone().view(6, 10)[:, ::2],
        base.clone()[1:301].view(30, 10),
    ]
    params = [torch.nn.Parameter(tensor) for tensor in tensors]
    values = truth(params, 2)
    optimizer = FusedAdafactor(params, backend=backend)
    for step in range(2):
        set_grads(params, step)
        params[0].grad = params[0].grad.t().contiguous().t()
        optimizer.step()
    assert worst(params, values) <= 4 * ulp(params)


@both_backends
def test_missing_gradients_new_groups_closures_and_copies(backend: str) -> None:
    params = make_params(FEW)
    optimizer = FusedAdafactor(params[:2], backend=backend)
    train(optimizer, params[:2], 1)
    optimizer.add_param_group({"params": params[2:]})
    params[0].grad = None
    before = params[0].detach().clone()

    def closure() -> float:
        set_grads(params[1:], 1)
        return 2.5

    assert optimizer.step(closure) == 2.5
    assert torch.equal(params[0], before)
    assert [float(optimizer.state[param]["step"]) for param in params] == [1, 2, 1]
    twin = copy.deepcopy(optimizer)
    copies = [param for group in twin.param_groups for param in group["params"]]
    train(twin, copies, 1, first=2)
    train(optimizer, params, 1, first=2)
    assert all(torch.equal(a, b) for a, b in zip(params, copies))


@both_backends
def test_a_scheduler_changes_the_rate(backend: str) -> None:
    params, theirs = make_params(FEW), make_params(FEW)
    hyper = CASES[1]
    for tensors, optimizer in (
        (params, FusedAdafactor(params, backend=backend, **hyper)),
        (theirs, Adafactor(theirs, **hyper)),
    ):
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.1)
        for step in range(2):
            set_grads(tensors, step)
            optimizer.step()
            scheduler.step()
    assert worst(params, [param.double() for param in theirs]) <= 4 * ulp(params)


@both_backends
def test_nan_gradients_poison_their_tensor_as_in_transformers(backend: str) -> None:
    params, theirs = make_params(FEW), make_params(FEW)
    for tensors, optimizer in (
        (params, FusedAdafactor(params, backend=backend)),
        (theirs, Adafactor(theirs)),
    ):
        set_grads(tensors, 0)
        tensors[1].grad[0, 0] = float("nan")
        optimizer.step()
    assert all(torch.equal(a.isnan(), b.isnan()) for a, b in zip(params, theirs))


@both_backends
def test_a_sparse_gradient_is_refused(backend: str) -> None:
    table = torch.nn.Embedding(10, 4, sparse=True, device=DEVICE)
    optimizer = FusedAdafactor(table.parameters(), backend=backend)
    table(torch.tensor([1, 2], device=DEVICE)).sum().backward()
    with pytest.raises(OptimizerError, match="sparse"):
        optimizer.step()


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 1e-3},
        {"relative_step": False},
        {"lr": 1e-3, "relative_step": False, "warmup_init": True},
        {"backend": "x"},
    ],
)
def test_contradictions_are_refused(options: dict) -> None:
    with pytest.raises(OptimizerUsageError):
        FusedAdafactor(make_params(FEW), **options)


def test_documented_bytes_per_parameter() -> None:
    assert FusedAdafactor.bytes_per_parameter(scale_parameter=False) == 20
    assert FusedAdafactor.bytes_per_parameter() == 24
    assert FusedAdafactor.bytes_per_parameter("bf16", scale_parameter=False, first_moment=True) == 18


def test_the_cpu_path_does_not_depend_on_its_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeroof.kernels.optim.adafactor_torch.STRETCH", 64)
    params = make_params([(300,), (50, 30), (2, 9, 100)])
    values = truth(params, 2, beta1=0.9)
    train(FusedAdafactor(params, backend="torch", beta1=0.9), params, 2)
    assert worst(params, values) <= 4 * ulp(params)
