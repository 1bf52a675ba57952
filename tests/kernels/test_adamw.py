"""FusedAdamW computes AdamW: against float64, at every size that crosses a branch, with all hyper-parameters."""

import pytest
import torch

from edgeroof.kernels.optim import FusedAdamW
from edgeroof.kernels.optim.columns import CHUNK, CODE_TILE, TAIL, TILE
from edgeroof.kernels.optim.errors import OptimizerError, OptimizerUsageError
from edgeroof.kernels.support import interpreting

from .optim_cases import DEVICE, SMALL, both_backends, fused, make_params, set_grads, train, truth, ulp, worst

BRANCHES = [
    0, 1, 15, 16, 17, TAIL - 1, TAIL + 1, TILE - 1, TILE, TILE + 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + TILE + 3
]  # fmt: skip


def torch_error(shapes: list, steps: int, **hyper: float) -> float:
    params = make_params(shapes)
    values = truth(params, steps, **hyper)
    train(torch.optim.AdamW(params, fused=True, **hyper), params, steps)
    return worst(params, values)


@both_backends
def test_every_size_matches_float64(backend: str) -> None:
    params = make_params([(size,) for size in BRANCHES])
    values = truth(params, 2)
    train(fused(params, backend), params, 2)
    assert worst(params, values) <= 2 * torch_error([(size,) for size in BRANCHES], 2) + ulp(params)


@both_backends
def test_the_first_step_of_every_size_with_8_bit_states(backend: str) -> None:
    """From zero states the update itself is not rounded, and the states are, by half a code at most."""
    sizes = [*BRANCHES, CODE_TILE - 1, CODE_TILE + 1, CODE_TILE + TAIL]
    params = make_params([(size,) for size in sizes])
    values = truth(params, 1, lr=1e-2)
    optimizer = fused(params, backend, lr=1e-2, state_dtype="int8")
    train(optimizer, params, 1)
    assert worst(params, values) <= 8 * ulp(params)
    entries = optimizer.unquantized_state_dict()["state"]
    for index, param in enumerate(params):
        if param.numel():
            first, second = entries[index]["exp_avg"], entries[index]["exp_avg_sq"]
            largest = float(param.grad.abs().max())
            roots = (first.abs() / (0.1 * largest)).pow(1 / 3) - (param.grad.abs() / largest).pow(1 / 3)
            assert roots.abs().max() <= 1.0 / 127  # of the tensor's largest; a block's is smaller
            assert (first.sign() == param.grad.sign()).logical_or(first == 0).all()
            halves = (second / (1e-3 * largest**2)).pow(1 / 6) - (param.grad.abs() / largest).pow(1 / 3)
            assert halves.abs().max() <= 1.01 / 255  # either neighbour


@both_backends
@pytest.mark.parametrize(("steps", "weight_decay"), [(1, 0.0), (1, 0.1), (2, 0.1), (16, 0.0), (16, 0.1), (100, 0.1)])
def test_error_is_at_most_twice_torchs(backend: str, steps: int, weight_decay: float) -> None:
    hyper = {"lr": 1e-2, "weight_decay": weight_decay}
    shapes = SMALL if steps < 100 else [(300,)]
    params = make_params(shapes)
    values = truth(params, steps, **hyper)
    train(fused(params, backend, **hyper), params, steps)
    assert worst(params, values) <= 2 * torch_error(shapes, steps, **hyper) + ulp(params)


@both_backends
@pytest.mark.parametrize(
    "hyper",
    [{"maximize": True}, {"betas": (0.0, 0.5)}, {"eps": 0.0}, {"lr": 0.0}, {"betas": (0.95, 0.9999), "eps": 1e-3}],
)
def test_hyperparameters(backend: str, hyper: dict) -> None:
    params = make_params(SMALL)
    values = truth(params, 3, **hyper)
    train(fused(params, backend, **hyper), params, 3)
    assert worst(params, values) <= 4 * ulp(params)


@both_backends
def test_groups_have_their_own_hyperparameters(backend: str) -> None:
    params = make_params(SMALL)
    settings = [{"lr": 1e-2, "weight_decay": 0.5}, {"betas": (0.5, 0.9)}, {"maximize": True}, {"eps": 1e-2}]
    values = [truth(params, 2, **setting)[index] for index, setting in enumerate(settings)]
    train(fused([{"params": [p], **s} for p, s in zip(params, settings)], backend), params, 2)
    assert worst(params, values) <= 4 * ulp(params)


@both_backends
def test_a_scheduler_changes_the_rate(backend: str) -> None:
    ours, theirs = make_params(SMALL), make_params(SMALL)
    optimizers = [fused(ours, backend, lr=0.1), torch.optim.AdamW(theirs, lr=0.1)]
    schedulers = [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5) for optimizer in optimizers]
    for step in range(3):
        for params, optimizer, scheduler in zip((ours, theirs), optimizers, schedulers):
            set_grads(params, step)
            optimizer.step()
            scheduler.step()
    assert worst(ours, [p.double() for p in theirs]) <= 4 * ulp(ours)


@both_backends
def test_the_rate_may_be_a_tensor(backend: str) -> None:
    params = make_params(SMALL)
    rate = torch.tensor(1e-2, device=DEVICE)
    optimizer = fused(params, backend, lr=rate)
    values = truth(params, 1, lr=1e-2)
    train(optimizer, params, 1)
    assert worst(params, values) <= 4 * ulp(params)
    rate.zero_()
    before = [param.detach().clone() for param in params]
    train(optimizer, params, 1)
    assert all(torch.equal(a, b) for a, b in zip(params, before))


@both_backends
def test_bf16_and_fp16_parameters_with_fp32_states(backend: str) -> None:
    params = make_params(SMALL[:2], torch.bfloat16) + make_params(SMALL[2:], torch.float16)
    values = truth(params, 1, lr=0.1)
    train(fused(params, backend, lr=0.1), params, 1)
    allowed = 1.01 if backend == "triton" and interpreting() else 0.51  # of a step: the interpreter truncates to bf16
    assert all(worst([param], [value]) <= allowed * ulp([param]) for param, value in zip(params, values))


@both_backends
def test_mixed_dtypes_in_one_optimizer(backend: str) -> None:
    params = [
        *make_params(SMALL[:2]), *make_params(SMALL[:2], torch.bfloat16), *make_params(SMALL[:2], torch.float64)
    ]  # fmt: skip
    optimizer = fused(params, backend)
    values = truth(params, 1)
    train(optimizer, params, 1)
    assert all(worst([param], [value]) <= ulp([param]) for param, value in zip(params, values))
    assert optimizer.state[params[-1]]["exp_avg"].dtype == torch.float64


@both_backends
def test_shadow_copies_follow_every_step(backend: str) -> None:
    params = make_params([*SMALL, (CHUNK + 5,)])
    optimizer = fused(params, backend, shadow_dtype=torch.bfloat16)
    copies = [optimizer.shadow(param) for param in params]
    assert all(torch.equal(copy, param.bfloat16()) for copy, param in zip(copies, params))
    train(optimizer, params, 2)
    for copy, param in zip(copies, params):
        if backend == "triton" and interpreting():  # which truncates where hardware rounds
            torch.testing.assert_close(copy.float(), param.detach(), rtol=2**-7, atol=0)
        else:
            assert torch.equal(copy, param.bfloat16())
    with pytest.raises(OptimizerError, match="shadow_dtype"):
        fused(params, backend).shadow(params[0])


@pytest.mark.parametrize(
    "options",
    [
        {"lr": -1.0}, {"betas": (1.0, 0.9)}, {"eps": -1e-8}, {"weight_decay": -0.1}, {"amsgrad": True},
        {"state_dtype": "int4"}, {"max_grad_norm": 0.0}, {"shadow_dtype": torch.float64}, {"backend": "cuda"},
        {"lr": torch.ones(2)},
    ],
)  # fmt: skip
def test_senseless_options_are_refused(options: dict) -> None:
    with pytest.raises(OptimizerUsageError):
        FusedAdamW(make_params(SMALL), **options)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("fp32",), 28), (("fp32", "bf16"), 20), (("fp32", "int8"), 16.0625), (("bf16",), 22), (("bf16", "bf16"), 14),
        (("bf16", "int8"), 10.0625),
    ],
)  # fmt: skip
def test_documented_bytes_per_parameter(arguments: tuple, expected: float) -> None:
    param_dtype, state_dtype = (*arguments, "fp32")[:2]
    assert FusedAdamW.bytes_per_parameter(param_dtype, state_dtype=state_dtype) == expected
    clipped = FusedAdamW.bytes_per_parameter(param_dtype, state_dtype=state_dtype, clip=True, shadow=True)
    assert clipped == expected + (4 if param_dtype == "fp32" else 2) + 2
