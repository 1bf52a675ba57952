"""The fused optimizers on a real GPU: what the CPU interpreter cannot show."""

import pytest
import torch

from edgeroof.kernels.optim import FusedAdafactor, FusedAdamW
from edgeroof.kernels.optim.errors import OptimizerError
from edgeroof.kernels.support import triton_unavailable

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
if torch.cuda.is_available():
    _REASON = triton_unavailable(torch.device("cuda", 0))
    pytestmark.append(pytest.mark.skipif(_REASON is not None, reason=f"no Triton here: {_REASON}"))

#: Shapes of a T5 layer, a bias table, a norm, and sizes that cross branches.
SHAPES = [(512, 512), (1024, 512), (384, 512), (32, 6), (512,), (1,), (4097,), (0,), (3, 5)]


def parameters(dtype: torch.dtype = torch.float32, shapes: list = SHAPES) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator).to("cuda", dtype)) for shape in shapes]


def fill_grads(params: list, seed: int) -> None:
    torch.manual_seed(seed)
    for param in params:
        grad = torch.randn(param.shape, device="cuda", dtype=torch.float32).to(param.dtype)
        if param.grad is None:
            param.grad = grad
        else:
            param.grad.copy_(grad)


@pytest.mark.parametrize("steps", [1, 16])
def test_adamw_is_as_exact_as_torchs_fused(steps: int) -> None:
    ours, theirs, exact = parameters(), parameters(), [torch.nn.Parameter(p.detach().double()) for p in parameters()]
    optimizers = [FusedAdamW(ours), torch.optim.AdamW(theirs, fused=True), torch.optim.AdamW(exact, foreach=False)]
    for step in range(steps):
        fill_grads(ours, step)
        for others in (theirs, exact):
            for param, source in zip(others, ours):
                param.grad = source.grad.to(param.dtype)
        for optimizer in optimizers:
            optimizer.step()
    for a, b, truth in zip(ours, theirs, exact):
        if a.numel():
            ulp = torch.finfo(torch.float32).eps * float(truth.abs().max())
            assert float((a - truth).abs().max()) <= 2 * float((b - truth).abs().max()) + ulp


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("state_dtype", ["fp32", "bf16", "int8"])
def test_triton_and_torch_agree(dtype: torch.dtype, state_dtype: str) -> None:
    results = []
    for backend in ("triton", "torch"):
        params = parameters(dtype)
        optimizer = FusedAdamW(params, lr=1e-2, state_dtype=state_dtype, backend=backend, max_grad_norm=5.0)
        for step in range(3):
            fill_grads(params, step)
            optimizer.step()
        results.append((params, float(optimizer.grad_norm)))
    (ours, norm), (others, expected) = results
    assert norm == pytest.approx(expected, rel=1e-5)
    for a, b in zip(ours, others):
        loose = dtype != torch.float32 or state_dtype != "fp32"
        torch.testing.assert_close(a, b, rtol=2e-2 if loose else 1e-5, atol=5e-3 if loose else 1e-6)


def test_grad_scaler_with_infinity_changes_nothing() -> None:
    params = parameters()
    optimizer = FusedAdamW(params, max_grad_norm=1.0)
    scaler = torch.amp.GradScaler("cuda", init_scale=8.0)
    scaler.scale(torch.zeros((), device="cuda"))
    fill_grads(params, 0)
    scaler.step(optimizer)
    scaler.update()
    before = [param.detach().clone() for param in params]
    fill_grads(params, 1)
    params[0].grad[0, 0] = float("inf")
    scaler.step(optimizer)
    assert all(torch.equal(a, b) for a, b in zip(params, before))
    assert float(optimizer.state[params[0]]["step"]) == 1


@pytest.mark.parametrize("kind", ["adamw", "adamw-clip-int8", "adafactor"])
def test_a_captured_step_replays_like_an_eager_one(kind: str) -> None:
    def build(params: list) -> torch.optim.Optimizer:
        if kind == "adafactor":
            return FusedAdafactor(params)
        options = {"max_grad_norm": 1.0, "state_dtype": "int8"} if "clip" in kind else {}
        return FusedAdamW(params, lr=1e-2, **options)

    captured, eager = parameters(), parameters()
    optimizers = [build(captured), build(eager)]
    for params, optimizer in zip((captured, eager), optimizers):
        fill_grads(params, 0)
        optimizer.step()
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        optimizers[0].step()
    for step in range(1, 4):
        fill_grads(captured, step)
        graph.replay()
        fill_grads(eager, step)
        optimizers[1].step()
    assert all(torch.equal(a, b) for a, b in zip(captured, eager))
    assert float(optimizers[0].state[captured[0]]["step"]) == 4


def test_a_new_rate_reaches_a_captured_step() -> None:
    params = parameters(shapes=[(64, 64)])
    optimizer = FusedAdamW(params, lr=1e-2)
    fill_grads(params, 0)
    optimizer.step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.refresh_hyperparameters()
    before = params[0].detach().clone()
    graph.replay()
    assert torch.equal(params[0], before)


def test_capturing_the_first_step_is_refused() -> None:
    params = parameters(shapes=[(64, 64)])
    fill_grads(params, 0)
    optimizer = FusedAdamW(params)
    with pytest.raises(OptimizerError, match="once"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        optimizer.step()


def test_states_beyond_two_to_the_31_elements() -> None:
    free, _ = torch.cuda.mem_get_info()
    if free < 40 * 2**30:
        pytest.skip("needs 40 GiB of free GPU memory")
    params = [torch.nn.Parameter(torch.ones(2**30 + 4096, device="cuda", dtype=torch.bfloat16)) for _ in range(3)]
    for param in params:
        param.grad = torch.ones_like(param)
    FusedAdamW(params, lr=0.25, weight_decay=0.0, state_dtype="int8").step()
    for param in params:
        assert float(param.min()) == float(param.max()) == 0.75


def test_the_step_runs_near_the_speed_of_a_copy() -> None:
    """A sanity check, not a benchmark: well above half of what a device-to-device copy moves."""
    params = [torch.nn.Parameter(torch.randn(4096, 4096, device="cuda")) for _ in range(8)]
    for param in params:
        param.grad = torch.randn_like(param)
    optimizer = FusedAdamW(params)
    numel = sum(param.numel() for param in params)
    source, target = (torch.empty(numel, device="cuda") for _ in range(2))
    copied = 8 * numel / _seconds(lambda: target.copy_(source))
    stepped = FusedAdamW.bytes_per_parameter() * numel / _seconds(optimizer.step)
    assert stepped > 0.6 * copied


def _seconds(run: object, repeats: int = 10) -> float:
    for _ in range(3):
        run()
    times = []
    for _ in range(repeats):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop) / 1e3)
    return sorted(times)[len(times) // 2]
