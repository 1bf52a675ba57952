"""Clipping and GradScaler inside the step: the norm, the skip, and gradients that stay as they were."""

import pytest
import torch

from .optim_cases import DEVICE, SMALL, both_backends, fused, make_params, set_grads, snapshot, train, truth, ulp, worst


@both_backends
@pytest.mark.parametrize("limit", [0.5, 1e6])
def test_clipping_is_clip_grad_norm_before_the_step(backend: str, limit: float) -> None:
    params = make_params([*SMALL, (5000,)])
    norms = []
    copies = [param.detach().clone() for param in params]
    for step in range(2):
        set_grads(copies, step)
        norms.append(float(torch.cat([copy.grad.flatten().double() for copy in copies]).norm()))
    values = truth(params, 2, factor=lambda step: min(1.0, limit / (norms[step] + 1e-6)))
    optimizer = fused(params, backend, max_grad_norm=limit)
    set_grads(params, 0)
    gradients = [param.grad.clone() for param in params]
    optimizer.step()
    assert all(torch.equal(param.grad, before) for param, before in zip(params, gradients))
    assert float(optimizer.grad_norm) == pytest.approx(norms[0], rel=1e-5)
    train(optimizer, params, 1, first=1)
    assert worst(params, values) <= 8 * ulp(params)


@both_backends
def test_clipping_spans_all_dtypes_and_groups(backend: str) -> None:
    params = make_params(SMALL) + make_params(SMALL, torch.bfloat16)
    optimizer = fused([{"params": params[:3]}, {"params": params[3:], "lr": 0.0}], backend, max_grad_norm=1.0)
    set_grads(params, 0)
    expected = torch.cat([param.grad.flatten().double() for param in params]).norm()
    optimizer.step()
    assert float(optimizer.grad_norm) == pytest.approx(float(expected), rel=1e-5)


@both_backends
def test_the_limit_may_change(backend: str) -> None:
    params, others = make_params(SMALL), make_params(SMALL)
    optimizer = fused(params, backend, max_grad_norm=1e6)
    optimizer.max_grad_norm = 0.1
    train(optimizer, params, 2)
    train(fused(others, backend, max_grad_norm=0.1), others, 2)
    assert all(torch.equal(a, b) for a, b in zip(params, others))


@both_backends
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_norm_that_is_not_finite_skips_when_asked(backend: str, bad: float) -> None:
    params = make_params(SMALL)
    optimizer = fused(params, backend, skip_nonfinite=True, shadow_dtype=torch.bfloat16)
    train(optimizer, params, 1)
    before = snapshot(optimizer, params)
    set_grads(params, 1)
    params[3].grad[-1] = bad
    optimizer.step()
    assert not torch.isfinite(optimizer.grad_norm)
    assert all(torch.equal(a, b) for a, b in zip(before, snapshot(optimizer, params)))


@both_backends
@pytest.mark.parametrize("options", [{}, {"max_grad_norm": 1.0}, {"state_dtype": "int8"}])
def test_grad_scaler_unscales_and_skips(backend: str, options: dict) -> None:
    params, plain = make_params(SMALL), make_params(SMALL)
    optimizer, reference = fused(params, backend, **options), fused(plain, backend, **options)
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
    params[0].grad[0, 0] = float("inf")
    scaler.step(optimizer)
    scaler.update()
    assert all(torch.equal(a, b) for a, b in zip(before, snapshot(optimizer, params)))
    assert scaler.get_scale() == 512.0
    set_grads(params, 3)
    scaler.step(optimizer)
    assert float(optimizer.state[params[0]]["step"]) == 3


@pytest.mark.parametrize("options", [{"max_grad_norm": 1.0}, {"state_dtype": "int8"}, {"state_dtype": "bf16"}])
def test_the_cpu_path_does_not_depend_on_its_stretches(monkeypatch: pytest.MonkeyPatch, options: dict) -> None:
    results = []
    for stretch in (512, 1 << 18):
        for name in ("STRETCH", "SCALED_STRETCH"):
            monkeypatch.setattr(f"edgeroof.kernels.optim.adamw_torch.{name}", stretch)
        params = make_params([(1700,), (30, 40), (100,), (200,), (300,)])
        train(fused(params, "torch", **options), params, 1)
        results.append(params)
    for whole, cut in zip(*results):
        assert torch.equal(whole, cut)
