"""Fused gated GELU against float64 and transformers' own, in Triton's interpreter and in torch's path."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.library import opcheck
from torch.utils.checkpoint import checkpoint
from transformers.activations import NewGELUActivation

from edgeroof.errors import UsageError
from edgeroof.kernels.gated_gelu import (
    gated_gelu,
    gated_gelu_backward_op,
    gated_gelu_op,
    launch_form,
    register_costs,
)
from edgeroof.kernels.reference import gated_gelu_reference
from edgeroof.profiler.costs import price
from edgeroof.profiler.recorder import OpRecorder

from .operator_cases import DEVICE, check_errors, normal, path, with_gradients  # noqa: F401

pytestmark = pytest.mark.usefixtures("path")

BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32


def eager(a: Tensor, b: Tensor) -> Tensor:
    """What transformers' feed-forward layer makes of its two halves."""
    return NewGELUActivation()(a) * b


def check(a: Tensor, b: Tensor) -> None:
    found = with_gradients(gated_gelu, a, b)
    theirs = with_gradients(eager, a, b)
    check_errors(found, theirs, with_gradients(gated_gelu_reference, a.double(), b.double()))
    assert [one.dtype for one in found] == [one.dtype for one in theirs]


@pytest.mark.parametrize("dtype", [FP32, BF16, FP16])
@pytest.mark.parametrize("shape", [(1,), (), (3, 21), (2, 5, 512), (2047,), (2049,)])
def test_sizes(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    check(normal(*shape, dtype=dtype, spread=2.0), normal(*shape, dtype=dtype, seed=1))


@given(data=st.data())
@settings(max_examples=12)
def test_any_shape_strides_and_dtypes(data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(0, 9)), data.draw(st.integers(0, 300))
    first, second = (data.draw(st.sampled_from([FP32, BF16, FP16])) for _ in range(2))
    a = normal(rows, 2 * columns + 1, dtype=first, spread=3.0)[:, : 2 * columns : 2]
    b = normal(columns, rows, dtype=second, seed=1).t()
    if a.numel():
        check(a, b)
    else:
        assert gated_gelu(a, b).shape == a.shape


def test_halves_of_one_matmul() -> None:
    check(*normal(4, 6, 64).chunk(2, -1))


def test_large_numbers_as_in_pytorch() -> None:
    a = torch.tensor([-1e15, -300.0, -40.0, -12.0, -0.0, 0.0, 1e-30, 12.0, 40.0, 300.0, 1e15], device=DEVICE)
    b = torch.full_like(a, 2.0)
    ours, theirs = with_gradients(gated_gelu, a, b), with_gradients(eager, a, b)
    assert all(one.isfinite().all() for one in ours)
    torch.testing.assert_close(ours, theirs)


def test_infinities_and_nan_as_in_pytorch(path: str) -> None:  # noqa: F811
    a = torch.tensor([-torch.inf, torch.inf, torch.nan, 1.0, 1.0, 0.0], device=DEVICE)
    b = torch.tensor([1.0, 1.0, 1.0, torch.nan, torch.inf, torch.inf], device=DEVICE)
    torch.testing.assert_close(gated_gelu(a, b), eager(a, b), equal_nan=True)
    if path == "triton":  # where PyTorch's own slope is no number, because the square overflows
        a = torch.tensor([-1e30, 1e30], device=DEVICE)
        torch.testing.assert_close(with_gradients(gated_gelu, a, torch.ones_like(a))[1].tolist(), [0.0, 1.0])


def test_float64_takes_torchs_path_and_passes_gradcheck() -> None:
    leaves = [normal(3, 9, dtype=torch.float64, seed=seed).requires_grad_() for seed in range(2)]
    assert torch.autograd.gradcheck(gated_gelu, leaves)


def test_arguments_that_make_no_sense() -> None:
    a = normal(3, 40)
    for run, match in (
        (lambda: gated_gelu(a, a[:2]), "differ in shape"),
        (lambda: gated_gelu(a.long(), a.long()), "floating"),
        (lambda: gated_gelu(a, a, dropout=-0.1), "between 0 and 1"),
        (lambda: gated_gelu(a, a, dropout=0.1, seed=torch.ones(2, dtype=torch.int64, device=DEVICE)), "one int64"),
    ):
        with pytest.raises(UsageError, match=match):
            run()


# -------------------------------------------------------------------- dropout


@pytest.mark.parametrize("dtype", [FP32, BF16])
def test_dropout_is_the_same_backward(dtype: torch.dtype) -> None:
    a, b = normal(9, 300, dtype=dtype), normal(9, 300, dtype=dtype, seed=1)
    seed = torch.tensor([2**40 + 3], device=DEVICE)
    big = torch.full_like(a, 4.0)
    kept = gated_gelu(big, big, dropout=0.25, seed=seed) != 0

    def ours(*factors: Tensor) -> Tensor:
        return gated_gelu(*factors, dropout=0.25, seed=seed)

    check_errors(
        with_gradients(ours, a, b),
        with_gradients(lambda *factors: eager(*factors) * kept / 0.75, a, b),
        with_gradients(lambda *factors: gated_gelu_reference(*factors) * kept / 0.75, a.double(), b.double()),
    )


def test_dropout_drops_its_share_and_follows_torchs_generator() -> None:
    ones = torch.ones(100, 100, device=DEVICE)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(gated_gelu(ones, ones, dropout=0.1))
    share = (results[0] == 0).double().mean()
    assert abs(share - 0.1) < 5 * (0.09 / ones.numel()) ** 0.5
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert not gated_gelu(ones, ones, dropout=1.0).any()


def test_a_checkpoint_replays_dropout() -> None:
    a, b = normal(9, 100), normal(9, 100, seed=1)

    def run(*factors: Tensor) -> Tensor:
        return gated_gelu(*factors, dropout=0.5)

    results = []
    for one in (run, lambda *factors: checkpoint(run, *factors, use_reentrant=False)):
        torch.manual_seed(5)
        results.append(with_gradients(one, a, b))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


def test_random_numbers_are_those_of_the_place(path: str) -> None:  # noqa: F811
    if path == "torch":
        pytest.skip("this is about the kernel")
    from .kernel_probes import factors

    for first in (0, 2**31 + 6):
        assert torch.equal(factors(5, first, 8, 8), factors(5, 2 * first, 16, 4))
    drawn = [factors(seed, first, 128, 8) for seed in (5, 5 + 2**32) for first in (0, 128, 2**32, 2**33)]
    for number, one in enumerate(drawn):
        assert 0.4 < one.mean() < 0.6
        for other in drawn[:number]:
            assert 0.4 < (one == other).double().mean() < 0.6


# -------------------------------------------------------------------- autograd and the operators


def seen(run: Callable[[], object]) -> list:
    register_costs()
    with OpRecorder(torch.nn.Module()) as recorder:
        run()
    return [record for record in recorder.records if record.name.startswith("edgeroof::")]


def test_costs() -> None:
    a, b = (normal(6, 40, dtype=BF16, seed=seed).requires_grad_() for seed in range(2))
    forward, backward = seen(lambda: (gated_gelu(a, b) ** 2).sum().backward())
    assert (forward.name, backward.name) == ("edgeroof::gated_gelu", "edgeroof::gated_gelu_backward")
    cost = price(forward)
    assert (cost.flops, cost.bytes_read, cost.bytes_written) == (10 * 240, 2 * 480, 480)
    assert (cost.unit, cost.dtype, cost.estimated) == ("vector", "fp32", False)
    cost = price(backward)
    assert (cost.flops, cost.bytes_read, cost.bytes_written) == (20 * 240, 3 * 480, 2 * 480)
    forward, backward = seen(lambda: (gated_gelu(a, b, dropout=0.1) ** 2).sum().backward())
    assert (price(forward).flops, price(backward).flops) == (12 * 240, 22 * 240)
    assert price(forward).bytes == 3 * 480 + 8


def test_nothing_else_is_kept() -> None:
    a, b = (normal(6, 40, seed=seed).requires_grad_() for seed in range(2))
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        gated_gelu(a, b, dropout=0.1)
    assert {tensor.data_ptr() for tensor in kept if tensor.numel() > 1} == {a.data_ptr(), b.data_ptr()}


def test_a_second_derivative_is_refused() -> None:
    a = normal(3, 40).requires_grad_()
    with pytest.raises(UsageError, match="second derivative"):
        torch.autograd.grad(gated_gelu(a, a).sum(), a, create_graph=True)


def test_autocast() -> None:
    """Under autocast PyTorch widens the product on some devices; the matmul that follows narrows it again."""
    dense = normal(40, 40, seed=2)

    def step(run: Callable[..., Tensor]) -> Callable[..., Any]:
        def made(a: Tensor, b: Tensor) -> Tensor:
            with torch.autocast(DEVICE.type, dtype=BF16):
                halves = (torch.nn.functional.linear(one, dense) for one in (a, b))
                return torch.nn.functional.linear(run(*halves), dense)

        return made

    a, b = normal(6, 40), normal(6, 40, seed=1)
    ours, theirs = with_gradients(step(gated_gelu), a, b), with_gradients(step(eager), a, b)
    assert [one.dtype for one in ours] == [one.dtype for one in theirs]
    for mine, other in zip(ours, theirs):
        assert (mine - other).abs().max() < 0.03 * other.abs().max()


def test_opcheck() -> None:
    a, b = normal(5, 24).requires_grad_(), normal(5, 24, dtype=BF16, seed=1).requires_grad_()
    seed = torch.tensor([3], device=DEVICE)
    for given_seed, dropout in ((None, 0.0), (seed, 0.5)):
        opcheck(gated_gelu_op, (a, b, given_seed, dropout))
        opcheck(gated_gelu_backward_op, (normal(5, 24), a.detach(), b.detach(), given_seed, dropout))


def test_fake_tensors() -> None:
    with FakeTensorMode():
        a = torch.empty(4, 6, 5120, device=DEVICE, dtype=BF16, requires_grad=True)
        gated_gelu(a, a, dropout=0.1).sum().backward()
        assert (a.grad.shape, a.grad.dtype) == (a.shape, BF16)


def test_compiled() -> None:
    def run(a: Tensor, b: Tensor) -> Tensor:
        return gated_gelu(2 * a, b) + 1

    a, b = normal(6, 40), normal(6, 40, seed=1)
    torch.testing.assert_close(with_gradients(torch.compile(run, backend="aot_eager"), a, b), with_gradients(run, a, b))


# -------------------------------------------------------------------- launches


def test_a_thread_has_two_whole_accesses_in_flight() -> None:
    for itemsize in (2, 4):
        block, vector = launch_form(itemsize)
        assert vector * itemsize == 16
        assert block == 128 * 2 * vector


def test_places_beyond_32_bits(path: str) -> None:  # noqa: F811
    if path == "torch":
        pytest.skip("this is about the kernel")
    from .kernel_probes import flat_places

    places, inside = flat_places(program=2_000_000, numel=4_096_000_005, block=2048)
    assert places.tolist() == list(range(4_096_000_000, 4_096_002_048))
    assert inside.sum() == 5
