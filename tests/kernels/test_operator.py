"""What the fused operators share: definition, choice of path, seeds."""

import pytest
import torch

from edgeroof.errors import UsageError
from edgeroof.kernels import operator
from edgeroof.kernels.support import interpreting

from .optim_cases import DEVICE


def test_a_defined_operator_runs_on_every_device_and_on_fake_tensors() -> None:
    double = operator.define("test_double(Tensor x) -> Tensor", lambda x: 2 * x, torch.empty_like)
    operator.differentiate(
        "test_double", lambda ctx, grad: 2 * grad, lambda ctx, inputs, output: ctx.save_for_backward()
    )
    x = torch.ones(3, device=DEVICE, requires_grad=True)
    double(x).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0, 2.0]
    torch.library.opcheck(double, (x,))
    assert double(torch.empty(5, device="meta")).shape == (5,)


def test_seeds_follow_torchs_generator() -> None:
    torch.manual_seed(1)
    first, second = operator.new_seed(DEVICE), operator.new_seed(DEVICE)
    torch.manual_seed(1)
    assert torch.equal(operator.new_seed(DEVICE), first)
    assert not torch.equal(first, second)
    assert (first.dtype, first.shape, first.device) == (torch.int64, (1,), DEVICE)


def test_a_seed_gives_the_same_mask_again() -> None:
    seed = torch.tensor([2**62 - 1], device=DEVICE)
    mask = operator.keep_mask(seed, (40, 100), 0.25)
    assert torch.equal(mask, operator.keep_mask(seed, (40, 100), 0.25))
    for other in (seed - 1, seed - 2**40):
        assert not torch.equal(mask, operator.keep_mask(other, (40, 100), 0.25))
    assert mask.dtype == torch.bool
    assert abs(float(mask.double().mean()) - 0.75) < 0.04


def test_triton_takes_what_it_can() -> None:
    assert operator.use_triton(torch.empty(1)) == (interpreting() and operator.triton_unavailable(DEVICE) is None)
    assert not operator.use_triton(torch.empty(1, device="meta"))


def test_a_second_derivative_is_refused() -> None:
    with torch.no_grad():
        operator.refuse_second_derivative("thing", "torch.thing")
    with pytest.raises(UsageError, match=r"fused thing .* torch\.thing"):
        operator.refuse_second_derivative("thing", "torch.thing")
