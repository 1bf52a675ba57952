"""Fused softmax against float64 and PyTorch, in Triton's interpreter and in torch's path."""

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.library import opcheck
from torch.utils.checkpoint import checkpoint

from edgeroof.errors import UsageError
from edgeroof.kernels.operator import new_seed
from edgeroof.kernels.reference import softmax_reference
from edgeroof.kernels.softmax import plain_softmax, register_costs, softmax, softmax_backward_op, softmax_op
from edgeroof.kernels.softmax_launch import _strides, batches_of_program, launch_form
from edgeroof.profiler.costs import price
from edgeroof.profiler.recorder import OpRecorder

from .operator_cases import DEVICE, check_errors, normal, path  # noqa: F401

pytestmark = pytest.mark.usefixtures("path")

HALF = [torch.bfloat16, torch.float16]


def eager(scores: Tensor, bias: Tensor | None, mask: Tensor | None = None) -> Tensor:
    """What transformers computes; rows without anything are zero as ours."""
    value = scores if bias is None else scores + bias
    if mask is not None:
        value = value.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else value + mask
    hidden = (value == -torch.inf).all(-1, keepdim=True)
    return torch.softmax(value.masked_fill(hidden, 0.0), -1).masked_fill(hidden, 0.0).to(scores.dtype)


def seed_of(number: int = 1) -> Tensor:
    return torch.tensor([number], device=DEVICE)


def evaluate(run: Any, scores: Tensor, bias: Tensor | None, given: Tensor, kept: Tensor | None = None) -> list:
    """Result and gradients of scores and bias; ``kept`` multiplies the result, as dropout would."""
    leaves = [one.detach().requires_grad_() for one in (scores, bias) if one is not None]
    output = run(leaves[0], leaves[1] if bias is not None else None)
    output = output if kept is None else output * kept.to(output.dtype)
    return [output.detach(), *torch.autograd.grad(output, leaves, given.to(output.dtype))]


def check(scores: Tensor, bias: Tensor | None = None, mask: Tensor | None = None, dropout: float = 0.0) -> None:
    """Result and gradients follow the rule for errors; what was dropped is read off a result without small numbers."""
    given = normal(*scores.shape, dtype=scores.dtype, seed=7)
    drops = {"dropout": dropout, "seed": seed_of()}
    ours = evaluate(lambda s, b: softmax(s, bias=b, mask=mask, **drops), scores, bias, given)
    kept = None
    if dropout:
        kept = (softmax(torch.zeros_like(scores), **drops) != 0).double() / (1 - dropout)
    theirs = evaluate(partial(eager, mask=mask), scores, bias, given, kept)
    wide = None if bias is None else bias.double()
    check_errors(ours, theirs, evaluate(partial(softmax_reference, mask=mask), scores.double(), wide, given, kept))
    assert [one.dtype for one in ours] == [one.dtype for one in theirs]
    assert ours[0].is_contiguous()


def padding(batches: int, columns: int, hidden: int | None = None) -> Tensor:
    """Boolean mask [B, 1, 1, K]: later batches are shorter, and one is hidden altogether."""
    length = torch.arange(columns, 0, -max(1, columns // batches))[:batches].view(-1, 1, 1, 1)
    mask = torch.arange(columns) < length
    if hidden is not None:
        mask[hidden] = False
    return mask.to(DEVICE)


def causal(queries: int, columns: int, dtype: torch.dtype, lowest: float) -> Tensor:
    allowed = torch.ones(queries, columns).tril(columns - queries)
    return torch.where(allowed > 0, 0.0, lowest).to(DEVICE, dtype)[None, None]


@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
@pytest.mark.parametrize("columns", [8, 37, 96])
def test_types(dtype: torch.dtype, columns: int) -> None:
    scores = normal(2, 2, 5, columns, dtype=dtype, spread=2.0)
    check(scores, normal(1, 2, 5, columns, dtype=dtype, seed=1), padding(2, columns), dropout=0.25)


@pytest.mark.parametrize("columns", [1, 7, 511, 512, 520])
def test_row_lengths(columns: int) -> None:
    check(normal(2, 1, 2, columns), normal(1, 1, 2, columns, seed=1), padding(2, columns), dropout=0.25)


@pytest.mark.parametrize("columns", [4096, 8192, 8200])
def test_long_rows(columns: int) -> None:
    check(normal(1, 1, 1, columns), normal(1, 1, 1, columns, seed=1), dropout=0.25)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["none", "bool", "hidden", "added", "infinite", "lowest"])
def test_masks(kind: str, dropout: float) -> None:
    scores, bias = normal(3, 2, 6, 40), normal(1, 2, 6, 40, seed=1)
    mask = {
        "none": None,
        "bool": padding(3, 40),
        "hidden": padding(3, 40, hidden=1),
        "added": normal(3, 1, 6, 40, seed=2),
        "infinite": causal(6, 40, torch.float32, -torch.inf),
        "lowest": causal(6, 40, torch.float32, torch.finfo(torch.float32).min),
    }[kind]
    check(scores, bias, mask, dropout)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("shape", [(3, 2, 4, 24), (3, 1, 4, 24), (1, 1, 4, 24), (1, 2, 1, 24), (1, 2, 4, 1)])
def test_bias_shapes(shape: tuple[int, ...], dropout: float) -> None:
    check(normal(3, 2, 4, 24), normal(*shape, seed=1), dropout=dropout)


def test_types_may_differ() -> None:
    """Under autocast scores are bf16, the bias is fp32."""
    scores, bias = normal(2, 2, 3, 40, dtype=torch.bfloat16), normal(1, 2, 3, 40, seed=1)
    for dropout in (0.0, 0.2):
        output, slope, bias_slope = evaluate(
            lambda s, b, dropout=dropout: softmax(s, bias=b, dropout=dropout, dtype=torch.float32),
            scores, bias, normal(2, 2, 3, 40, seed=3),
        )  # fmt: skip
        assert (output.dtype, slope.dtype, bias_slope.dtype) == (torch.float32, torch.bfloat16, torch.float32)
        torch.testing.assert_close(slope.float().sum(0, keepdim=True), bias_slope, rtol=0.05, atol=0.02)


@given(data=st.data())
@settings(max_examples=10)
def test_any_shape_and_strides(data: st.DataObject) -> None:
    batches, heads, queries = (data.draw(st.integers(1, 4)) for _ in range(3))
    columns = data.draw(st.integers(1, 150))
    dtype = data.draw(st.sampled_from([torch.float32, *HALF]))
    step = data.draw(st.integers(1, 2))
    whole = normal(batches, queries, heads, 2 * columns + 3, dtype=dtype, seed=columns)
    scores = whole.transpose(1, 2)[..., 1 : 1 + step * columns : step]
    bias = normal(1, queries, heads, columns, dtype=dtype).transpose(1, 2) if data.draw(st.booleans()) else None
    mask = data.draw(st.sampled_from([None, "bool", "added"]))
    if mask is not None:
        mask = normal(data.draw(st.sampled_from([1, batches])), 1, data.draw(st.sampled_from([1, queries])), columns)
        mask = mask > -1 if data.draw(st.booleans()) else mask
    check(scores, bias, mask, data.draw(st.sampled_from([0.0, 0.1, 0.5])))


def test_few_rows_share_out_the_batch() -> None:
    """More batches than a program takes, and partial sums of the bias's gradient."""
    assert batches_of_program(9, 1, sums=True) == 1
    check(normal(9, 1, 2, 8), normal(1, 1, 2, 8, seed=1), dropout=0.2)


def test_a_program_may_take_several_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeroof.kernels.softmax_launch.PROGRAMS", 2)
    monkeypatch.setattr("edgeroof.kernels.softmax_launch.BIAS_PROGRAMS", 2)
    for bias in (normal(1, 1, 5, 40, seed=1), normal(7, 1, 5, 40, seed=1)):
        check(normal(7, 1, 5, 40), bias, padding(7, 40), dropout=0.2)


def test_a_bias_gradient_is_the_same_each_time() -> None:
    runs = [
        evaluate(lambda s, b: softmax(s, bias=b), normal(5, 1, 3, 40), normal(1, 1, 3, 40), normal(5, 1, 3, 40))[2]
        for _ in range(2)
    ]
    assert torch.equal(*runs)


def test_empty_tensors() -> None:
    for shape in ((0, 2, 3, 8), (2, 0, 3, 8), (2, 2, 0, 8), (2, 2, 3, 0)):
        output, slope, bias_slope = evaluate(
            lambda s, b: softmax(s, bias=b, dropout=0.5), normal(*shape), normal(1, *shape[1:]), normal(*shape)
        )
        assert output.shape == slope.shape == shape
        assert bias_slope.shape == (1, *shape[1:])
        assert not bias_slope.any()


@pytest.mark.filterwarnings("ignore:All-NaN slice:RuntimeWarning")
def test_infinities_and_nan_as_in_pytorch() -> None:
    scores = normal(1, 1, 4, 40)
    scores[..., 0, 3] = torch.inf
    scores[..., 1, :] = torch.nan
    scores[..., 2, 5] = torch.nan
    scores[..., 3, 7] = -torch.inf
    given = normal(1, 1, 4, 40, seed=1)
    ours = evaluate(lambda s, b: softmax(s), scores, None, given)
    torch.testing.assert_close(ours, evaluate(lambda s, b: torch.softmax(s, -1), scores, None, given), equal_nan=True)
    allowed = torch.ones(1, 1, 4, 40, dtype=torch.bool, device=DEVICE)
    allowed[..., 2, 5] = False
    assert softmax(scores, mask=allowed)[..., 2, :].isfinite().all()


def test_float64_takes_torchs_path_and_passes_gradcheck() -> None:
    scores = normal(2, 2, 3, 5, dtype=torch.float64).requires_grad_()
    bias = normal(1, 2, 3, 5, dtype=torch.float64, seed=1).requires_grad_()
    for dropout in (0.0, 0.4):
        assert torch.autograd.gradcheck(
            lambda s, b, dropout=dropout: softmax(
                s, bias=b, mask=padding(2, 5, hidden=1), dropout=dropout, seed=seed_of()
            ),
            (scores, bias),
        )


def test_plain_softmax() -> None:
    for shape, dim in (((7,), 0), ((3, 5, 4), 1), ((3, 40), -1), ((0, 4), 1)):
        x = normal(*shape)
        given = normal(*shape, seed=1)
        ours = evaluate(lambda s, b, dim=dim: plain_softmax(s, dim), x, None, given)
        torch.testing.assert_close(ours, evaluate(lambda s, b, dim=dim: torch.softmax(s, dim), x, None, given))


# -------------------------------------------------------------------- dropout


def test_dropout_drops_its_share_everywhere() -> None:
    zeros = torch.zeros(4, 3, 16, 96, device=DEVICE)
    kept = softmax(zeros, dropout=0.3, seed=seed_of()) != 0
    deviation = (0.3 * 0.7) ** 0.5
    for dims in ((0, 1, 2), (0, 1, 3), (1, 2, 3), (0, 2, 3), (0, 1, 2, 3)):
        share = 1 - kept.double().mean(dims)
        bound = 5 * deviation / (kept.numel() / share.numel()) ** 0.5
        assert ((share - 0.3).abs() < bound).all()
    flat = kept.double().flatten() - 0.7
    for lag in (1, 2, 8, 96, 16 * 96):  # neighbours in every dimension are independent
        assert abs((flat[lag:] * flat[:-lag]).mean()) < 5 * deviation**2 / flat.numel() ** 0.5


def test_a_seed_replays_and_another_does_not() -> None:
    scores = normal(2, 2, 8, 40)
    first, again = (softmax(scores, dropout=0.5, seed=seed_of(5)) for _ in range(2))
    assert torch.equal(first, again)
    for other in (6, 2**40 + 5):
        kept = softmax(scores, dropout=0.5, seed=seed_of(other)) != 0
        assert 0.35 < ((first != 0) == kept).double().mean() < 0.65
    torch.manual_seed(0)
    drawn = softmax(scores, dropout=0.5)
    assert not torch.equal(drawn, softmax(scores, dropout=0.5))
    torch.manual_seed(0)
    assert torch.equal(drawn, softmax(scores, dropout=0.5))


def test_the_extremes_of_dropout() -> None:
    scores = normal(1, 1, 3, 40)
    output, slope = evaluate(lambda s, b: softmax(s, dropout=1.0), scores, None, scores)
    assert not output.any()
    assert not slope.any()
    assert torch.equal(softmax(scores, dropout=0.0, seed=seed_of()), softmax(scores))


def test_checkpoint_replays_dropout() -> None:
    scores = normal(2, 2, 6, 40)

    def run(s: Tensor, b: Tensor | None) -> Tensor:
        return softmax(s * 2, dropout=0.5)

    torch.manual_seed(3)
    plain = evaluate(run, scores, None, normal(2, 2, 6, 40, seed=1))
    torch.manual_seed(3)
    again = evaluate(partial(checkpoint, run, use_reentrant=False), scores, None, normal(2, 2, 6, 40, seed=1))
    torch.testing.assert_close(again, plain, rtol=0, atol=0)


def test_under_autocast() -> None:
    query, key = normal(1, 2, 4, 8), normal(1, 2, 40, 8, seed=1)
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        scores = query @ key.mT
        output = softmax(scores, bias=normal(1, 2, 4, 40))
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output, torch.softmax(scores.float() + normal(1, 2, 4, 40), -1).bfloat16())


# -------------------------------------------------------------------- the operator


def seen(run: Any) -> list:
    register_costs()
    with OpRecorder(torch.nn.Module()) as recorder:
        run()
    return [record for record in recorder.records if record.name.startswith("edgeroof::")]


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_costs(dropout: float) -> None:
    scores = normal(3, 2, 5, 40, dtype=torch.bfloat16).requires_grad_()
    bias = normal(1, 2, 5, 40, dtype=torch.bfloat16).requires_grad_()
    mask = padding(3, 40)
    forward, backward = seen(lambda: softmax(scores, bias=bias, mask=mask, dropout=dropout).sum().backward())
    assert (forward.name, backward.name) == ("edgeroof::softmax", "edgeroof::softmax_backward")
    size, shared, small = 3 * 2 * 5 * 40, 2 * 5 * 40, 3 * 40 + (8 if dropout else 0)
    cost = price(forward)
    assert (cost.bytes_read, cost.bytes_written) == (2 * size + 2 * shared + small, 2 * size)
    assert (cost.flops, cost.unit, cost.dtype) == ((9 if dropout else 7) * size, "vector", "fp32")
    cost = price(backward)
    given = 2 if scores.grad is not None else 0  # the gradient of a sum is one number, expanded
    again = 2 * shared + small if dropout else 0
    assert (cost.bytes_read, cost.bytes_written) == (2 * size + given + again, 2 * size + 2 * shared)
    assert cost.flops == (14 if dropout else 5) * size


def test_without_a_gradient_of_the_bias_none_is_written() -> None:
    scores = normal(3, 2, 5, 40).requires_grad_()
    records = seen(lambda: softmax(scores, bias=normal(1, 2, 5, 40), dropout=0.1).sum().backward())
    assert records[1].outputs[1].numel == 0
    with torch.no_grad():
        assert len(seen(lambda: softmax(scores))) == 1


def test_opcheck() -> None:
    scores, bias = normal(2, 1, 2, 8).requires_grad_(), normal(1, 1, 2, 8).requires_grad_()
    for seed, dropout in ((None, 0.0), (seed_of(), 0.2)):
        opcheck(softmax_op, (scores, bias, padding(2, 8), seed, dropout, torch.float32))
    grad = normal(2, 1, 2, 8)
    for bias_dtype in (None, torch.bfloat16):
        opcheck(softmax_backward_op, (grad, grad, None, None, None, 0.0, torch.bfloat16, bias_dtype))


def test_fake_tensors() -> None:
    with FakeTensorMode():
        scores = torch.empty(4, 12, 512, 512, device=DEVICE, dtype=torch.bfloat16, requires_grad=True)
        bias = torch.empty(1, 12, 512, 512, device=DEVICE, requires_grad=True)
        output = softmax(scores, bias=bias, dropout=0.1)
        output.sum().backward()
        assert (output.shape, output.dtype) == (scores.shape, torch.bfloat16)
        assert (scores.grad.shape, bias.grad.shape, bias.grad.dtype) == (scores.shape, bias.shape, torch.float32)


def test_compiled() -> None:
    compiled = torch.compile(lambda s, b: softmax(s * 2, bias=b, mask=padding(2, 40)), backend="aot_eager")
    scores, bias, given = normal(2, 2, 3, 40), normal(1, 2, 3, 40, seed=1), normal(2, 2, 3, 40, seed=2)
    theirs = evaluate(lambda s, b: eager(s * 2, b, padding(2, 40)), scores, bias, given)
    torch.testing.assert_close(evaluate(compiled, scores, bias, given), theirs)


def test_a_second_derivative_is_refused() -> None:
    scores = normal(1, 1, 3, 40).requires_grad_()
    with pytest.raises(UsageError, match="second derivative"):
        torch.autograd.grad(softmax(scores).sum(), scores, create_graph=True)


def test_arguments_that_make_no_sense() -> None:
    scores, mask = normal(2, 2, 3, 40), normal(2, 1, 3, 40)
    for wrong, match in (
        ({"scores": scores[0]}, r"\[B, H, Q, K\]"),
        ({"scores": scores.long()}, "floating"),
        ({"bias": normal(2, 3, 3, 40)}, "bias of shape"),
        ({"bias": mask > 0}, "bias is floating"),
        ({"mask": mask[0]}, "mask of shape"),
        ({"mask": mask.long()}, "boolean"),
        ({"mask": mask.requires_grad_()}, "no gradient"),
        ({"dropout": 1.5}, "between 0 and 1"),
        ({"dropout": 0.5, "seed": torch.zeros(2, dtype=torch.int64)}, "seed is one int64"),
    ):
        with pytest.raises(UsageError, match=match):
            softmax(**{"scores": scores, **wrong})
    with pytest.raises(UsageError, match="single number"):
        plain_softmax(normal(1)[0])


# -------------------------------------------------------------------- launches


def test_launches_keep_a_row_within_a_warp() -> None:
    assert launch_form(512, 512) == (1, 512, 1)
    assert launch_form(96, 96) == (4, 128, 1)
    assert launch_form(1, 1) == (1, 8, 1)
    assert launch_form(96, 4096) == (1, 4096, 8)
    assert batches_of_program(32, 6144, sums=False) == 8
    assert batches_of_program(32, 288, sums=False) == 1
    assert batches_of_program(32, 6144, sums=True) == 32


def test_strides_say_what_they_are_divisible_by() -> None:
    one = torch.empty(2, 3, 5, 96)
    assert _strides([one, None], 96) == ([180, 60, 12, 0, 0, 0], 8)
    assert _strides([one[..., :92]], 92)[1] == 4
    assert _strides([torch.empty(2, 3, 5, 37)], 37)[1] == 1


@pytest.mark.parametrize("path", ["triton"], indirect=True)
def test_batches_may_start_beyond_32_bits() -> None:
    """Untouched memory between the batches costs nothing."""
    stride = 2**31 + 16
    scores = torch.empty(stride + 400, dtype=torch.bfloat16, device=DEVICE).as_strided(
        (2, 1, 3, 40), (stride, 0, 40, 1)
    )
    scores.copy_(normal(2, 1, 3, 40))
    check(scores, dropout=0.2)
    assert new_seed(DEVICE).shape == (1,)
