"""A profile sees a fused step as one op, priced at its documented bytes; unwatched, nothing is added."""

import time
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from edgeroof.kernels.optim import FusedAdafactor, FusedAdamW
from edgeroof.kernels.optim.costs import register_costs
from edgeroof.profiler.costs import price
from edgeroof.profiler.recorder import OpRecorder

from .optim_cases import both_backends, make_params, needs_triton, set_grads, train

MATRIX = [(64, 256), (256, 64)]
NUMEL = 2 * 64 * 256


def recorded(optimizer: torch.optim.Optimizer, params: list, names: tuple[str, ...] = ("edgeroof::",)) -> list:
    train(optimizer, params, 1)
    set_grads(params, 1)
    with OpRecorder(torch.nn.Module()) as recorder:
        optimizer.step()
    return [record for record in recorder.records if record.name.startswith(names)]


@both_backends
@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        (torch.float32, {"state_dtype": "int8"}),
        (torch.float32, {"state_dtype": "bf16", "shadow_dtype": torch.bfloat16}),
        (torch.bfloat16, {"state_dtype": "int8", "max_grad_norm": 1.0}),
    ],
)
def test_adamw_is_priced_at_its_documented_bytes(backend: str, dtype: torch.dtype, options: dict) -> None:
    register_costs()
    params = make_params(MATRIX, dtype)
    records = recorded(FusedAdamW(params, backend=backend, **options), params)
    assert {record.name for record in records} <= {"edgeroof::fused_adamw_", "edgeroof::gradient_norm"}
    costs = [price(record) for record in records]
    expected = FusedAdamW.bytes_per_parameter(
        {torch.float32: "fp32", torch.bfloat16: "bf16"}[dtype],
        state_dtype=options["state_dtype"],
        clip="max_grad_norm" in options,
        shadow="shadow_dtype" in options,
    )
    assert sum(cost.bytes for cost in costs) == expected * NUMEL


@pytest.mark.parametrize(
    ("make", "unscale_first", "expected"),
    [
        (lambda params: torch.optim.AdamW(params, foreach=True), False, 88),
        (lambda params: torch.optim.AdamW(params, foreach=True), True, 100),
        (lambda params: torch.optim.AdamW(params, fused=True), False, 40),
        (lambda params: torch.optim.AdamW(params, fused=True), True, 48),
        (lambda params: FusedAdamW(params), False, 36),
        (lambda params: FusedAdamW(params, max_grad_norm=1.0), False, 40),
    ],
)
def test_bytes_of_a_step_under_grad_scaler(make: Any, unscale_first: bool, expected: int) -> None:
    """GradScaler reads and rewrites the gradients to look for infinities; torch's fused step writes them again."""
    register_costs()
    params = make_params(MATRIX)
    optimizer = make(params)
    scaler = torch.amp.GradScaler(params[0].device.type, init_scale=2.0)
    scaler.scale(torch.zeros((), device=params[0].device))
    train(optimizer, params, 1)
    set_grads(params, 1)
    with OpRecorder(torch.nn.Module()) as recorder:
        if unscale_first:
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(params, 1.0)
        scaler.step(optimizer)
    costs = [price(record) for record in recorder.records]
    assert sum(cost.bytes for cost in costs if cost is not None) == pytest.approx(expected * NUMEL, rel=0.001)


@both_backends
@pytest.mark.parametrize("limit", [None, 1.0])
def test_adafactor_is_priced_near_its_documented_bytes(backend: str, limit: float | None) -> None:
    register_costs()
    params = make_params(MATRIX)
    records = recorded(FusedAdafactor(params, max_grad_norm=limit, backend=backend), params)
    assert {record.name for record in records} <= {"edgeroof::fused_adafactor_", "edgeroof::gradient_norm"}
    factors = 2 * 2 * 4 * (64 + 256)
    expected = FusedAdafactor.bytes_per_parameter(clip=limit is not None) * NUMEL + factors
    assert sum(price(record).bytes for record in records) == expected


def test_a_plain_step_on_cpu_is_torchs_own_op() -> None:
    params = [torch.nn.Parameter(param.detach().cpu()) for param in make_params(MATRIX)]
    optimizer = FusedAdamW(params)
    train(optimizer, params, 1)
    with OpRecorder(torch.nn.Module()) as recorder:
        optimizer.step()
    names = [record.name for record in recorder.records]
    assert names.count("aten::_fused_adamw_") == 1
    assert len(names) <= 2


def test_plain_and_other_tensors_of_one_step_are_both_seen() -> None:
    """fp32 goes to torch's own op though bf16 parameters, with fp32 states, do not; each is told once."""
    plain, other = make_params(MATRIX), make_params(MATRIX, torch.bfloat16)
    params = [torch.nn.Parameter(param.detach().cpu()) for param in (*plain, *other)]
    records = recorded(FusedAdamW(params), params, names=("edgeroof::", "aten::_fused_adamw_"))
    assert [record.name for record in records] == ["aten::_fused_adamw_", "edgeroof::fused_adamw_"]
    assert [len(record.args[0]) for record in records] == [2, 2]


@pytest.mark.parametrize("options", [{}, {"state_dtype": "int8"}, {"max_grad_norm": 1.0}])
def test_a_dry_run_with_fake_tensors(options: dict) -> None:
    with FakeTensorMode():
        params = [torch.nn.Parameter(torch.zeros(32, 64)) for _ in range(2)]
        optimizer = FusedAdamW(params, **options)
        for param in params:
            param.grad = torch.ones_like(param)
        with OpRecorder(torch.nn.Module()) as recorder:
            optimizer.step()
    fused = [record for record in recorder.records if "fused_adamw_" in record.name]
    assert len(fused) == 1


@needs_triton
def test_a_step_costs_the_host_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """FLAN-T5-base has 282 tensors. Launches are left out: what is ours is looking at pointers."""
    from edgeroof.kernels.optim import adamw_triton

    params = make_params([(8,)] * 282)
    optimizer = FusedAdamW(params, backend="triton")
    set_grads(params, 0)
    for name in ("launch_prepare", "launch_update"):
        monkeypatch.setattr(adamw_triton.AdamWBucket, name, lambda *args, **kwargs: None)
    optimizer.step()
    fastest = min(_timed(optimizer) for _ in range(20))
    assert fastest < 1e-3  # about 0.1 ms on a server core


def _timed(optimizer: torch.optim.Optimizer) -> float:
    start = time.perf_counter()
    optimizer.step()
    return time.perf_counter() - start
