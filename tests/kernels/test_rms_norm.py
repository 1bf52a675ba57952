"""Fused T5 layer norm against float64 and transformers' own, in Triton's interpreter and in torch's path."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.library import opcheck
from torch.utils.checkpoint import checkpoint
from transformers.models.t5.modeling_t5 import T5LayerNorm

from edgeroof.errors import UsageError
from edgeroof.kernels import rms_norm as ops
from edgeroof.kernels.reference import add_rms_norm_reference, rms_norm_reference
from edgeroof.kernels.rms_norm import add_rms_norm, register_costs, rms_norm
from edgeroof.kernels.rms_norm_launch import launch_form, programs_of
from edgeroof.profiler.costs import price
from edgeroof.profiler.recorder import OpRecorder

from .operator_cases import DEVICE, check_errors, normal, path  # noqa: F401

pytestmark = pytest.mark.usefixtures("path")

BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
#: (x, weight, result): both alike, autocast's mixtures, and a half model that keeps something in fp32.
DTYPES = [(FP32, FP32, FP32), (BF16, BF16, BF16), (FP16, FP16, FP16), (BF16, FP32, FP32), (FP32, BF16, BF16)]


def eager(x: Tensor, weight: Tensor) -> Tensor:
    """What transformers' module makes of a row."""
    norm = T5LayerNorm(len(weight))
    del norm.weight
    norm.weight = weight
    return norm(x)


def eager_add(residual: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    total = residual + x
    return total, eager(total, weight)


def with_gradients(run: Callable[..., Any], *inputs: Tensor) -> list[Tensor]:
    """Outputs of ``run``, then the gradients of its inputs for random gradients of the outputs."""
    leaves = [one.detach().clone().requires_grad_() for one in inputs]
    outputs = run(*leaves)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    upstream = [normal(*one.shape, seed=10 + number).to(one.dtype) for number, one in enumerate(outputs)]
    return [*(one.detach() for one in outputs), *torch.autograd.grad(outputs, leaves, upstream)]


def check(ours: Callable, theirs: Callable, true: Callable, *inputs: Tensor) -> list[Tensor]:
    found = with_gradients(ours, *inputs)
    check_errors(found, with_gradients(theirs, *inputs), with_gradients(true, *(one.double() for one in inputs)))
    assert all(one.is_contiguous() for one in found)
    assert [one.dtype for one in found[-len(inputs) :]] == [one.dtype for one in inputs]
    return found


def check_both(residual: Tensor, x: Tensor, weight: Tensor) -> None:
    check(rms_norm, eager, rms_norm_reference, x, weight)
    check(add_rms_norm, eager_add, add_rms_norm_reference, residual, x, weight)


@pytest.mark.parametrize("columns", [1, 8, 21, 512, 768, 2049])
def test_row_lengths(columns: int) -> None:
    residual, x = normal(5, columns), normal(5, columns, seed=1)
    check_both(residual, x, 1 + 0.1 * normal(columns, seed=2))


@pytest.mark.parametrize("columns", [8192, 8193])
def test_rows_as_long_as_the_kernels_take_and_longer(columns: int) -> None:
    weight = normal(columns, seed=2).to(BF16)
    tensors = [normal(1, columns, seed=seed).to(BF16) for seed in range(2)]
    check(
        lambda *rows: add_rms_norm(*rows, weight),
        lambda *rows: eager_add(*rows, weight),
        lambda *rows: add_rms_norm_reference(*rows, weight),
        *tensors,
    )


@pytest.mark.parametrize("dtypes", DTYPES)
def test_dtypes_as_in_transformers(dtypes: Sequence[torch.dtype]) -> None:
    of_x, of_weight, of_result = dtypes
    x, weight = normal(6, 96, spread=3.0).to(of_x), normal(96, seed=1).to(of_weight)
    found = check(rms_norm, eager, rms_norm_reference, x, weight)
    assert found[0].dtype == of_result == eager(x, weight).dtype
    for of_residual in (FP32, of_x):
        residual = normal(6, 96, seed=2).to(of_residual)
        total, normed, *_ = check(add_rms_norm, eager_add, add_rms_norm_reference, residual, x, weight)
        assert (total.dtype, normed.dtype) == tuple(one.dtype for one in eager_add(residual, x, weight))


@given(data=st.data())
@settings(max_examples=8)
def test_any_shape_and_strides(data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 140))
    of_x, of_weight, _ = data.draw(st.sampled_from(DTYPES))
    step = data.draw(st.integers(1, 2))
    wide = normal(rows, 2 * columns + 3, seed=rows).to(of_x)
    x = wide[:, 1 : 1 + step * columns : step]
    residual = normal(columns, rows, seed=3).to(of_x).t()
    check_both(residual, x, normal(columns, seed=4).to(of_weight))


def test_more_rows_than_programs() -> None:
    check(rms_norm, eager, rms_norm_reference, normal(2, 31, 24), normal(24, seed=2))


def test_shapes_without_rows_or_with_one() -> None:
    weight = normal(24)
    check_both(normal(24), normal(24, seed=1), weight)
    for shape in ((0, 24), (3, 0, 24)):
        total, normed, grad_residual, grad_x, grad_weight = with_gradients(
            add_rms_norm, torch.empty(shape, device=DEVICE), torch.empty(shape, device=DEVICE), weight
        )
        assert total.shape == normed.shape == grad_residual.shape == grad_x.shape == shape
        assert not grad_weight.any()
    assert rms_norm(torch.empty(3, 0, device=DEVICE), torch.empty(0, device=DEVICE)).shape == (3, 0)


def test_infinities_nan_and_zeros_as_in_transformers() -> None:
    x, weight = normal(6, 40), normal(40, seed=1)
    x[0, 3] = torch.inf
    x[1, 4] = torch.nan
    x[2] = 0.0
    x[3] = 1e30  # the square is infinite
    ours, theirs = with_gradients(rms_norm, x, weight), with_gradients(eager, x, weight)
    torch.testing.assert_close(ours[:2], theirs[:2], equal_nan=True)
    torch.testing.assert_close(ours[2].isnan(), theirs[2].isnan())


def test_eps_and_float64() -> None:
    x, weight = 1e-3 * normal(3, 9).double(), normal(9, seed=1).double()
    torch.testing.assert_close(rms_norm(x, weight, 0.5), rms_norm_reference(x, weight, 0.5))
    torch.testing.assert_close(
        rms_norm(x.float(), weight.float(), 0.5), rms_norm_reference(x, weight, 0.5).float(), rtol=1e-5, atol=1e-9
    )
    leaves = [one.requires_grad_() for one in (normal(3, 9, seed=2).double(), x, weight)]
    # Not fast_mode, which wants forward-mode gradients as well.
    assert torch.autograd.gradcheck(add_rms_norm, leaves)
    assert torch.autograd.gradcheck(rms_norm, leaves[1:])


def test_the_same_weight_gradient_every_time() -> None:
    x, weight = normal(50, 24), normal(24, seed=1)
    torch.testing.assert_close(with_gradients(rms_norm, x, weight), with_gradients(rms_norm, x, weight), rtol=0, atol=0)


def test_arguments_that_make_no_sense() -> None:
    x, weight = normal(3, 40), normal(40)
    for run, match in (
        (lambda: rms_norm(x, weight[:20]), "rows of 40"),
        (lambda: rms_norm(x.long(), weight), "floating"),
        (lambda: rms_norm(x[0, 0], weight), "floating"),
        (lambda: add_rms_norm(x[:2], x, weight), "does not fit x"),
        (lambda: add_rms_norm(x, x, weight, dropout=1.5), "between 0 and 1"),
        (lambda: add_rms_norm(x, x, weight, dropout=0.5, seed=torch.ones(1, device=DEVICE)), "one int64"),
    ):
        with pytest.raises(UsageError, match=match):
            run()


# -------------------------------------------------------------------- dropout


def factors_of(shape: Sequence[int], seed: Tensor, dropout: float, dtype: torch.dtype = FP32) -> Tensor:
    """What dropout multiplies by, which depends on the seed and on places alone."""
    ones, weight = torch.ones(*shape, device=DEVICE, dtype=dtype), torch.ones(shape[-1], device=DEVICE, dtype=dtype)
    return add_rms_norm(torch.zeros_like(ones), ones, weight, dropout=dropout, seed=seed)[0]


@pytest.mark.parametrize(("dtype", "columns"), [(FP32, 21), (FP32, 96), (BF16, 96)])
def test_dropout_is_the_same_backward(dtype: torch.dtype, columns: int) -> None:
    seed = torch.tensor([2**40 + 3], device=DEVICE)
    inputs = [normal(9, columns, seed=number).to(dtype) for number in range(2)] + [normal(columns, seed=2).to(dtype)]
    kept = (factors_of((9, columns), seed, 0.25) != 0).double() / 0.75
    check(
        lambda residual, x, weight: add_rms_norm(residual, x, weight, dropout=0.25, seed=seed),
        lambda residual, x, weight: eager_add(residual, x * kept.to(x.dtype), weight),
        lambda residual, x, weight: add_rms_norm_reference(residual, x, weight, factors=kept),
        *inputs,
    )


def test_dropout_depends_on_seed_and_place_alone(path: str) -> None:  # noqa: F811
    one, other = (torch.tensor([number], device=DEVICE) for number in (1, 2**33 + 1))
    factors = factors_of((64, 160), one, 0.5)
    torch.testing.assert_close(factors_of((64, 160), one, 0.5, BF16), factors.to(BF16))
    assert 0.4 < (factors_of((64, 160), other, 0.5) == factors).double().mean() < 0.6
    if path == "triton":  # whatever the number of rows that a program takes
        torch.testing.assert_close(factors_of((3, 160), one, 0.5), factors[:3])


@pytest.mark.parametrize("dropout", [0.1, 0.5])
def test_dropout_drops_its_share_independently(dropout: float) -> None:
    shape = (250, 160)
    dropped = (factors_of(shape, torch.tensor([7], device=DEVICE), dropout) == 0).double().cpu()
    deviation = (dropout * (1 - dropout)) ** 0.5
    assert abs(dropped.mean() - dropout) < 5 * deviation / dropped.numel() ** 0.5
    centred = (dropped - dropout) / deviation
    for rows, columns in ((0, 1), (0, 2), (0, 3), (0, 4), (0, 8), (1, 0), (4, 0), (8, 4)):
        product = centred[rows:, columns:] * centred[: shape[0] - rows, : shape[1] - columns]
        assert abs(product.mean()) < 5 / product.numel() ** 0.5, (rows, columns)


def test_dropout_of_everything_and_of_nan() -> None:
    x, weight = normal(3, 40), normal(40)
    total, _ = add_rms_norm(x, x, weight, dropout=1.0)
    torch.testing.assert_close(total, x)
    x[0] = torch.nan
    assert add_rms_norm(torch.zeros_like(x), x, weight, dropout=0.5)[0][0].isnan().all()


def test_a_checkpoint_replays_dropout() -> None:
    inputs = [normal(3, 40, seed=number) for number in range(2)] + [normal(40, seed=2)]

    def run(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        return add_rms_norm(*tensors, dropout=0.5)

    def again(*tensors: Tensor) -> Any:
        return checkpoint(run, *tensors, use_reentrant=False)

    results = []
    for one in (run, again):
        torch.manual_seed(5)
        results.append(with_gradients(one, *inputs))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
    assert not torch.equal(run(*inputs)[0], run(*inputs)[0])


# -------------------------------------------------------------------- autograd and the operators


def seen(run: Callable[[], object]) -> list:
    register_costs()
    with OpRecorder(torch.nn.Module()) as recorder:
        run()
    return [record for record in recorder.records if record.name.startswith("edgeroof::")]


def test_costs() -> None:
    x, weight = normal(6, 40).to(BF16).requires_grad_(), normal(40).to(BF16).requires_grad_()
    forward, backward = seen(lambda: rms_norm(x, weight).sum().backward())
    assert (forward.name, backward.name) == ("edgeroof::rms_norm", "edgeroof::rms_norm_backward")
    cost = price(forward)
    assert (cost.flops, cost.bytes_read, cost.bytes_written) == (4 * 240, 480 + 80, 480 + 24)
    assert (cost.unit, cost.dtype, cost.estimated) == ("vector", "fp32", False)
    cost = price(backward)
    assert (cost.flops, cost.bytes_written) == (9 * 240, 480 + 80)
    assert cost.bytes_read == 2 + 480 + 80 + 24  # the gradient of a sum is one number, expanded

    def step() -> None:
        total, normed = add_rms_norm(x, normal(6, 40).to(BF16), weight, dropout=0.1)
        (total * normed).sum().backward()

    forward, backward = seen(step)
    assert price(forward).flops == 7 * 240
    assert price(forward).bytes == 4 * 480 + 80 + 24 + 8
    assert price(backward).flops == 12 * 240
    assert price(backward).bytes == 5 * 480 + 2 * 80 + 24 + 8


def test_a_frozen_weight_gets_no_gradient() -> None:
    x, weight = normal(6, 40).requires_grad_(), normal(40)
    _, backward = seen(lambda: rms_norm(x, weight).sum().backward())
    assert price(backward).flops == 7 * 240
    assert backward.outputs[1].numel == 0
    _, backward = seen(lambda: add_rms_norm(x, x, weight)[1].sum().backward())
    assert backward.outputs[2].numel == 0


def test_the_sum_or_its_norm_alone() -> None:
    inputs = [normal(6, 40, seed=number) for number in range(2)] + [normal(40, seed=2)]
    for chosen in (0, 1):
        ours, theirs = (
            with_gradients(lambda *tensors, run=run: run(*tensors)[chosen] + 0 * tensors[2].sum(), *inputs)  # noqa: B023
            for run in (add_rms_norm, eager_add)
        )
        torch.testing.assert_close(ours, theirs)


def test_gradients_of_residual_and_x_are_told_apart() -> None:
    """Without dropout the operator returns one tensor for both, which must not be added to twice."""
    shared = normal(6, 40).requires_grad_()
    weight = normal(40, seed=1)
    add_rms_norm(shared, shared, weight)[1].square().sum().backward()
    other = shared.detach().clone().requires_grad_()
    eager_add(other, other, weight)[1].square().sum().backward()
    torch.testing.assert_close(shared.grad, other.grad)
    pair = [normal(6, 40, seed=number).requires_grad_() for number in range(2)]
    for _ in range(2):
        add_rms_norm(*pair, weight)[1].square().sum().backward()
    torch.testing.assert_close(pair[0].grad, pair[1].grad)
    assert pair[0].grad.data_ptr() != pair[1].grad.data_ptr()


def test_a_second_derivative_is_refused() -> None:
    x, weight = normal(3, 40).requires_grad_(), normal(40)
    for run in (lambda: rms_norm(x, weight), lambda: add_rms_norm(x, x, weight)[0]):
        with pytest.raises(UsageError, match="second derivative"):
            torch.autograd.grad(run().sum(), x, create_graph=True)


def test_autocast_as_in_transformers() -> None:
    weight, dense = normal(40), normal(40, 40, seed=1)
    residual, x = normal(6, 40, seed=2), normal(6, 40, seed=3)

    def step(run: Callable[..., Any]) -> Callable[..., Any]:
        def made(*leaves: Tensor) -> Any:
            with torch.autocast(DEVICE.type, dtype=BF16):
                total, normed = run(leaves[0], torch.nn.functional.linear(leaves[1], dense), leaves[2])
                return total, torch.nn.functional.linear(normed, dense)

        return made

    ours, theirs = (with_gradients(step(run), residual, x, weight) for run in (add_rms_norm, eager_add))
    assert [one.dtype for one in ours] == [one.dtype for one in theirs]
    torch.testing.assert_close(ours, theirs, rtol=3e-2, atol=3e-2)


def test_opcheck() -> None:
    x, weight = normal(1, 8).requires_grad_(), normal(8, seed=1).requires_grad_()
    residual = normal(1, 8, seed=2).to(BF16).requires_grad_()
    seed = torch.tensor([3], device=DEVICE)
    opcheck(ops.rms_norm_op, (x, weight, 1e-6))
    opcheck(ops.add_rms_norm_op, (residual, x, weight, seed, 1e-6, 0.5))
    grad, total, rstd = normal(1, 8), normal(1, 8, seed=3), normal(1).abs()
    plain = weight.detach()
    opcheck(ops.rms_norm_backward_op, (grad, total, plain, rstd, True))
    opcheck(ops.add_rms_norm_backward_op, (grad, None, total, plain, rstd, None, 0.0, FP32, FP32, True))
    opcheck(ops.add_rms_norm_backward_op, (grad, total, total, plain, rstd, seed, 0.5, BF16, FP32, False))


def test_fake_tensors() -> None:
    with FakeTensorMode():
        x = torch.empty(4, 6, 2048, device=DEVICE, dtype=BF16, requires_grad=True)
        weight = torch.empty(2048, device=DEVICE, requires_grad=True)
        total, normed = add_rms_norm(x, x, weight, dropout=0.1)
        assert (total.dtype, normed.dtype, normed.shape) == (BF16, FP32, x.shape)
        (rms_norm(total, weight) + normed).sum().backward()
        assert (x.grad.dtype, weight.grad.shape) == (BF16, weight.shape)


def test_compiled() -> None:
    def run(residual: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        total, normed = add_rms_norm(residual, 2 * x, weight)
        return total, rms_norm(normed, weight)

    inputs = [normal(6, 40, seed=number) for number in range(2)] + [normal(40, seed=2)]
    torch.testing.assert_close(
        with_gradients(torch.compile(run, backend="aot_eager"), *inputs), with_gradients(run, *inputs)
    )


# -------------------------------------------------------------------- launches


def test_blocks_are_as_wide_as_rows_and_busy() -> None:
    for columns, itemsize, threads in ((512, 2, 64), (768, 2, 128), (1024, 4, 256), (2048, 4, 256), (8192, 2, 512)):
        form = launch_form(1 << 20, columns, itemsize, 4, 132)
        assert (form.warps * 32, form.vector * itemsize) == (threads, 16)
        assert form.rows * form.width == 4 * threads * form.vector
    assert launch_form(1, 2048, 2, 4, 132).rows == 1
    assert launch_form(1 << 20, 1, 2, 4, 132).warps == 1


@given(rows=st.integers(1, 10**6), columns=st.integers(1, 8192), processors=st.integers(1, 132))
def test_programs_have_equally_much_to_do(rows: int, columns: int, processors: int) -> None:
    form = launch_form(rows, columns, 2, 2, processors)
    programs, tiles = programs_of(rows, form), -(-rows // form.rows)
    assert form.width >= columns
    assert 1 <= programs <= min(tiles, form.programs)
    assert -(-tiles // programs) == -(-tiles // form.programs)


def test_places_beyond_32_bits(path: str) -> None:  # noqa: F811
    if path == "torch":
        pytest.skip("this is about the kernel")
    from .kernel_probes import row_places

    assert row_places(row=3_000_000, columns=2048, width=32).tolist() == [
        [row * 2048 + column for column in range(32)] for row in (3_000_000, 3_000_001)
    ]
