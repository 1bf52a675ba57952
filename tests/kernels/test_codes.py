"""Reduced states: bounds of a round trip, rounding without bias, and training that ends where fp32 ends."""

import pytest
import torch

from edgeroof.kernels.optim import codes
from edgeroof.kernels.optim.columns import BLOCK

from .optim_cases import DEVICE, both_backends, fused, make_params

SPREAD = torch.logspace(-6, 0, 5 * BLOCK + 17)


def shuffled(values: torch.Tensor) -> torch.Tensor:
    return values[torch.randperm(values.numel(), generator=torch.Generator().manual_seed(0))]


def test_signed_codes_stay_within_half_a_step_of_the_cube_root() -> None:
    values = shuffled(SPREAD) * torch.where(torch.arange(SPREAD.numel()) % 2 == 0, 1.0, -1.0)
    code, scale = codes.encode_signed(values)
    back = codes.decode_signed(code, scale)
    limit = scale.repeat_interleave(BLOCK)[: values.numel()]
    roots = (back.abs() / limit).pow(1 / 3) - (values.abs() / limit).pow(1 / 3)
    assert roots.abs().max() <= 0.5 / 127 * 1.001
    assert ((back == 0) | (back.sign() == values.sign())).all()


def test_unsigned_codes_stay_within_half_a_step_of_the_sixth_root() -> None:
    values = shuffled(SPREAD).square()
    code, scale = codes.encode_unsigned(values)
    back = codes.decode_unsigned(code, scale)
    limit = scale.repeat_interleave(BLOCK)[: values.numel()]
    roots = (back / limit).pow(1 / 6) - (values / limit).pow(1 / 6)
    assert roots.abs().max() <= 0.5 / 255 * 1.001


def test_a_block_keeps_its_largest_value_and_codes_repeat_themselves() -> None:
    values = shuffled(SPREAD)
    for encode, decode in ((codes.encode_signed, codes.decode_signed), (codes.encode_unsigned, codes.decode_unsigned)):
        code, scale = encode(values)
        back = decode(code, scale)
        again, same_scale = encode(back)
        assert torch.equal(code, again)
        torch.testing.assert_close(scale, same_scale)
        torch.testing.assert_close(back.max(), values.max())


def test_a_positive_second_moment_never_becomes_zero() -> None:
    values = torch.full((BLOCK,), 1e-30)
    values[0] = 1.0
    for generator in (None, torch.Generator().manual_seed(0)):
        code, scale = codes.encode_unsigned(values, generator)
        assert (codes.decode_unsigned(code, scale) > 0).all()
    code, scale = codes.encode_unsigned(torch.zeros(BLOCK))
    assert not codes.decode_unsigned(code, scale).any()


def test_values_that_are_not_finite_poison_their_block_alone() -> None:
    for bad in (float("nan"), float("inf")):
        values = torch.ones(2 * BLOCK)
        values[3] = bad
        for encode, decode in (
            (codes.encode_signed, codes.decode_signed),
            (codes.encode_unsigned, codes.decode_unsigned),
        ):
            back = decode(*encode(values))
            assert not back[:BLOCK].isfinite().any()
            assert torch.equal(back[BLOCK:], values[BLOCK:])


DRAWS = 100_000


def unbiased(rounded: torch.Tensor, value: float, step: float) -> None:
    """The mean of many draws is the value, within five standard errors of a fair coin's step."""
    assert set(torch.unique(rounded).tolist()).__len__() <= 2
    assert abs(float(rounded.double().mean()) - value) < 5 * step / 2 / DRAWS**0.5


@pytest.mark.parametrize("value", [1.001, -0.7301, 3e-5])
def test_rounding_to_bf16_is_unbiased(value: float) -> None:
    exact = float(torch.tensor(value))
    rounded = codes.round_to_bf16(torch.full((DRAWS,), exact), torch.Generator().manual_seed(1)).float()
    unbiased(rounded, exact, float(rounded.max() - rounded.min()) or 1e-9)
    assert rounded.max() - rounded.min() <= abs(exact) * 2**-7


def test_rounding_to_bf16_keeps_what_bf16_can_hold() -> None:
    kept = torch.tensor([0.0, 1.0, -2.5, float("inf"), -float("inf")])
    assert torch.equal(codes.round_to_bf16(kept, torch.Generator()).float(), kept)
    every_nan = torch.tensor([0x7FFFFFFF, -1, 0x7F800001], dtype=torch.int32).view(torch.float32)
    assert codes.round_to_bf16(every_nan, torch.Generator()).isnan().all()


@pytest.mark.parametrize("share", [0.5, 1e-3, 1e-7])
def test_rounding_of_the_second_moment_is_unbiased(share: float) -> None:
    values = torch.full((DRAWS,), share)
    values[::BLOCK] = 1.0
    code, scale = codes.encode_unsigned(values, torch.Generator().manual_seed(2))
    drawn = codes.decode_unsigned(code, scale)[torch.arange(DRAWS) % BLOCK != 0]
    unbiased(drawn, float(torch.tensor(share)), float(drawn.max() - drawn.min()))


@both_backends
def test_stochastic_rounding_of_parameters_is_unbiased_and_repeats(backend: str) -> None:
    """A tiny step: rounded to nearest nothing would move; in the mean over 10⁵ elements, it arrives exactly."""

    def stepped(seed: int, count: int = 2000) -> torch.Tensor:
        param = torch.nn.Parameter(torch.ones(count, dtype=torch.bfloat16, device=DEVICE))
        optimizer = fused([param], backend, lr=1e-4, weight_decay=0.0, stochastic_rounding=True, seed=seed)
        param.grad = torch.ones_like(param)
        optimizer.step()
        return param.detach().float().cpu()

    unbiased(stepped(0, DRAWS), 1 - 1e-4, 2**-8)
    assert torch.equal(stepped(0), stepped(0))
    assert not torch.equal(stepped(0), stepped(1))


@both_backends
@pytest.mark.parametrize("state_dtype", ["bf16", "int8"])
def test_reduced_second_moments_follow_small_gradients(backend: str, state_dtype: str) -> None:
    """An average that moves by a thousandth a step must move though that is less than half a step of its grid."""
    param = torch.nn.Parameter(torch.zeros(4096, device=DEVICE))
    optimizer = fused([param], backend, state_dtype=state_dtype, lr=0.0)
    for step in range(12):
        size = 1.0 if step == 0 else 0.0  # the average only decays after the first step
        param.grad = torch.full_like(param, size)
        param.grad[::BLOCK] = 1.0  # while the largest of every block stays
        optimizer.step()
    entries = optimizer.unquantized_state_dict()["state"][0]
    mean = float(entries["exp_avg_sq"].double().cpu()[torch.arange(4096) % BLOCK != 0].mean())
    assert mean == pytest.approx(1e-3 * 0.999**11, rel=0.02)


def final_loss(backend: str, dtype: torch.dtype = torch.float32, steps: int = 30, **options: object) -> float:
    """Loss of a small regression after training."""
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(128, 16, generator=generator)
    target = torch.tanh(inputs @ torch.randn(16, 8, generator=generator)).to(DEVICE)
    inputs = inputs.to(DEVICE)
    weights = [torch.nn.Parameter(p.detach() / 4) for p in make_params([(16, 24), (24, 8)], dtype)]
    optimizer = fused(weights, backend, lr=2e-2, **options)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (torch.tanh(inputs @ weights[0].float()) @ weights[1].float() - target).square().mean()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


@both_backends
@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        (torch.float32, {"state_dtype": "bf16"}),
        (torch.float32, {"state_dtype": "int8"}),
        (torch.bfloat16, {"state_dtype": "bf16", "stochastic_rounding": True}),
        (torch.bfloat16, {"state_dtype": "int8", "stochastic_rounding": True}),
    ],
)
def test_training_with_reduced_states_reaches_the_loss_of_fp32(backend: str, dtype: torch.dtype, options: dict) -> None:
    expected = final_loss("torch")
    assert expected < 0.2 * final_loss("torch", steps=1)
    assert final_loss(backend, dtype, **options) == pytest.approx(expected, rel=0.1)
