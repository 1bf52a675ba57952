"""Clipping and GradScaler inside Adafactor's step: the norm, the skip, and gradients that stay as they were."""

import pytest
import torch

from edgeroof.kernels.optim import FusedAdafactor
from edgeroof.kernels.optim.errors import OptimizerUsageError
from edgeroof.kernels.reference import AdafactorState, adafactor_reference

from .optim_cases import DEVICE, both_backends, make_params, set_grads, snapshot, train, ulp, worst

SHAPES = [(17,), (3, 5), (2, 4, 6), (65, 140)]
#: With relative steps and a clipped update, Adafactor hardly sees how long a gradient is; with this epsilon it does.
HYPER = {"lr": 1e-2, "relative_step": False, "scale_parameter": False, "eps": (0.1, 1e-3)}


def total_norm(params: list) -> float:
    return float(torch.cat([param.grad.flatten().double() for param in params]).norm())


def test_the_gradients_length_matters_here() -> None:
    """Else the tests below would pass without any clipping."""
    params, others = make_params(SHAPES), make_params(SHAPES)
    train(FusedAdafactor(params, **HYPER), params, 1)
    train(FusedAdafactor(others, max_grad_norm=0.5, **HYPER), others, 1)
    assert all(worst([a], [b.double()]) > 100 * ulp(params) for a, b in zip(params, others))


@both_backends
@pytest.mark.parametrize("limit", [0.5, 1e6])
def test_clipping_is_clip_grad_norm_before_the_step(backend: str, limit: float) -> None:
    params = make_params(SHAPES)
    values = [param.detach().double() for param in params]
    states = [AdafactorState() for _ in params]
    optimizer = FusedAdafactor(params, max_grad_norm=limit, backend=backend, **HYPER)
    for step in range(2):
        set_grads(params, step)
        norm = total_norm(params)
        factor = min(1.0, limit / (norm + 1e-6))
        gradients = [param.grad.clone() for param in params]
        values = [
            adafactor_reference(value, gradient.double() * factor, state, **HYPER)
            for value, gradient, state in zip(values, gradients, states)
        ]
        optimizer.step()
        assert float(optimizer.grad_norm) == pytest.approx(norm, rel=1e-5)
        assert all(torch.equal(param.grad, before) for param, before in zip(params, gradients))
    assert worst(params, values) <= 8 * ulp(params)


@both_backends
def test_clipping_spans_dtypes_and_groups_and_its_limit_may_change(backend: str) -> None:
    params = make_params(SHAPES[:2]) + make_params(SHAPES[:2], torch.bfloat16)
    groups = [{"params": params[:3]}, {"params": params[3:], "lr": 0.0}]
    optimizer = FusedAdafactor(groups, max_grad_norm=1e6, backend=backend, **HYPER)
    others = [torch.nn.Parameter(param.detach().clone()) for param in params]
    set_grads(params, 0)
    optimizer.max_grad_norm = 0.1
    optimizer.step()
    assert float(optimizer.grad_norm) == pytest.approx(total_norm(params), rel=1e-5)
    train(FusedAdafactor([{"params": others[:3]}, {"params": others[3:], "lr": 0.0}], max_grad_norm=0.1,
                         backend=backend, **HYPER), others, 1)  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(params, others))


@both_backends
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_norm_that_is_not_finite_skips_when_asked(backend: str, bad: float) -> None:
    params = make_params(SHAPES)
    optimizer = FusedAdafactor(params, skip_nonfinite=True, beta1=0.9, backend=backend)
    train(optimizer, params, 1)
    before = snapshot(optimizer, params)
    set_grads(params, 1)
    params[3].grad[-1, -1] = bad
    optimizer.step()
    assert not torch.isfinite(optimizer.grad_norm)
    assert all(torch.equal(a, b) for a, b in zip(before, snapshot(optimizer, params)))


@both_backends
@pytest.mark.parametrize(
    "options",
    [
        {"max_grad_norm": 1.0, **HYPER},
        pytest.param(HYPER, marks=pytest.mark.slow),
        pytest.param({"beta1": 0.9}, marks=pytest.mark.slow),
    ],
)
def test_grad_scaler_unscales_and_skips(backend: str, options: dict) -> None:
    params, plain = make_params(SHAPES), make_params(SHAPES)
    optimizer = FusedAdafactor(params, backend=backend, **options)
    reference = FusedAdafactor(plain, backend=backend, **options)
    scaler = torch.amp.GradScaler(DEVICE.type, init_scale=1024.0, growth_interval=1000)
    for step in range(2):
        set_grads(params, step)
        set_grads(plain, step)
        for param in params:
            param.grad *= 1024
        scaler.scale(torch.zeros((), device=DEVICE))  # creates the scale, as scaling a loss does
        scaler.step(optimizer)
        scaler.update()
        reference.step()
    assert worst(params, [param.double() for param in plain]) <= 2 * ulp(params)

    before = snapshot(optimizer, params)
    set_grads(params, 2)
    params[1].grad[0, 0] = float("inf")
    scaler.step(optimizer)
    scaler.update()
    assert all(torch.equal(a, b) for a, b in zip(before, snapshot(optimizer, params)))
    assert scaler.get_scale() == 512.0
    set_grads(params, 3)
    scaler.step(optimizer)
    assert float(optimizer.state[params[0]]["step"]) == 3


def test_a_senseless_limit_is_refused() -> None:
    with pytest.raises(OptimizerUsageError, match="max_grad_norm"):
        FusedAdafactor(make_params(SHAPES), max_grad_norm=-1.0)


def test_documented_bytes_count_the_norms_read() -> None:
    assert FusedAdafactor.bytes_per_parameter(scale_parameter=False, clip=True) == 24
    assert FusedAdafactor.bytes_per_parameter("bf16", clip=True) == 14
