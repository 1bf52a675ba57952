"""The float64 references are what the originals compute when they are given float64."""

import pytest
import torch

from edgeroof.kernels.reference import AdamWState, adamw_reference

from .optim_cases import DEVICE, make_params, set_grads, worst


@pytest.mark.parametrize(
    "hyper", [{}, {"lr": 0.1, "weight_decay": 0.5}, {"maximize": True, "betas": (0.5, 0.9)}, {"eps": 1e-2}]
)
def test_adamw_is_torchs_in_float64(hyper: dict) -> None:
    params = make_params([(3, 5), (40,)], torch.float64)
    values = [param.detach().clone() for param in params]
    states = [AdamWState.zeros_like(value) for value in values]
    optimizer = torch.optim.AdamW(params, foreach=False, **hyper)
    for step in range(5):
        set_grads(params, step)
        values = [adamw_reference(v, p.grad, s, **hyper) for v, p, s in zip(values, params, states)]
        optimizer.step()
    assert worst(params, values) < 1e-14


def test_the_gradient_factor_scales_the_gradient() -> None:
    param, grad = torch.ones(3, device=DEVICE), torch.full((3,), 2.0, device=DEVICE)
    scaled = adamw_reference(param, grad, AdamWState.zeros_like(param), grad_factor=0.25, eps=1.0)
    plain = adamw_reference(param, grad / 4, AdamWState.zeros_like(param), eps=1.0)
    assert torch.equal(scaled, plain)
