"""Fused cross-entropy against float64 and PyTorch, in Triton's interpreter and in torch's path."""

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.library import opcheck
from torch.utils.checkpoint import checkpoint

from edgeroof.errors import UsageError
from edgeroof.kernels.cross_entropy import cross_entropy, cross_entropy_op, register_costs
from edgeroof.kernels.cross_entropy_rows import launch_form
from edgeroof.kernels.cross_entropy_scale import cross_entropy_backward_in_place_op, cross_entropy_backward_op
from edgeroof.kernels.reference import cross_entropy_reference
from edgeroof.profiler.costs import price
from edgeroof.profiler.recorder import OpRecorder

from .operator_cases import DEVICE, check_errors, classes, normal, path, with_gradients  # noqa: F401

pytestmark = pytest.mark.usefixtures("path")

HALF = [torch.bfloat16, torch.float16]
KINDS: list[dict[str, Any]] = [
    {},
    {"reduction": "sum"},
    {"reduction": "none"},
    {"label_smoothing": 0.1},
    {"label_smoothing": 0.2, "reduction": "none", "ignore_index": 0},
]


def check(logits: Tensor, labels: Tensor, upstream: float = 1.0, **options: Any) -> None:
    def eager(scores: Tensor) -> Tensor:
        z_loss = options.get("z_loss", 0.0)
        plain = {name: value for name, value in options.items() if name != "z_loss"}
        loss = F.cross_entropy(scores, labels, **plain)
        if not z_loss:
            return loss
        return loss + z_loss * torch.logsumexp(scores, -1)[labels != -100].square().mean()

    ours = with_gradients(lambda scores: cross_entropy(scores, labels, **options), logits, upstream=upstream)
    theirs = with_gradients(eager, logits, upstream=upstream)
    truth = with_gradients(
        lambda scores: cross_entropy_reference(scores, labels, **options), logits.double(), upstream=upstream
    )
    check_errors(ours, theirs, truth)
    assert ours[0].dtype == torch.float32
    assert ours[1].dtype == logits.dtype


@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
@pytest.mark.parametrize("columns", [1, 7, 256, 8192, 8200])
def test_row_lengths(dtype: torch.dtype, columns: int) -> None:
    check(normal(3, columns, dtype=dtype, spread=3.0), classes(3, columns, ignored=[1]))


def test_the_vocabulary_of_t5() -> None:
    check(normal(2, 32128, dtype=torch.bfloat16, spread=4.0), classes(2, 32128), upstream=0.5)


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
def test_reductions_and_smoothing(dtype: torch.dtype, options: dict) -> None:
    labels = classes(5, 300, ignored=[0, 3]) if "ignore_index" not in options else classes(5, 300) * (normal(5) > 0)
    check(normal(5, 300, dtype=dtype), labels, upstream=3.0, **options)


def test_z_loss() -> None:
    check(normal(4, 300, spread=2.0), classes(4, 300, ignored=[2]), z_loss=0.01)


@given(data=st.data())
@settings(max_examples=12)
def test_any_shape_and_strides(data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(0, 6)), data.draw(st.integers(1, 600))
    dtype = data.draw(st.sampled_from([torch.float32, *HALF]))
    step = data.draw(st.integers(1, 2))
    wide = normal(rows, 2 * columns + 3, dtype=dtype, seed=rows)
    logits = wide[:, 1 : 1 + step * columns : step]
    smoothing = data.draw(st.sampled_from([0.0, 0.3]))
    ignored = data.draw(st.lists(st.integers(0, 5), max_size=3))
    reductions = ["mean", "sum", "none"] if {*range(rows)} - {*ignored} else ["sum", "none"]
    if rows:
        check(
            logits, classes(rows, columns, ignored), reduction=data.draw(st.sampled_from(reductions)),
            label_smoothing=smoothing,
        )  # fmt: skip
    else:
        assert cross_entropy(logits, classes(0, columns), reduction="sum") == 0


def test_leading_dimensions_and_transposed_logits() -> None:
    logits, labels = normal(2, 3, 40), classes(6, 40).view(2, 3)
    losses = cross_entropy(logits, labels, reduction="none")
    assert losses.shape == (2, 3)
    torch.testing.assert_close(losses, F.cross_entropy(logits.transpose(1, 2), labels, reduction="none"))
    turned = normal(40, 6).t()
    torch.testing.assert_close(cross_entropy(turned, labels.view(-1).int()), F.cross_entropy(turned, labels.view(-1)))


def test_float64_takes_torchs_path_and_passes_gradcheck() -> None:
    logits = normal(3, 9, dtype=torch.float64).requires_grad_()
    labels = classes(3, 9, ignored=[1])
    for reduction in ("mean", "none"):
        # Not fast_mode, which wants forward-mode gradients as well.
        assert torch.autograd.gradcheck(
            lambda scores, reduction=reduction: cross_entropy(
                scores, labels, label_smoothing=0.1, z_loss=0.1, reduction=reduction
            ),
            logits,
        )


def test_infinities_and_nan_as_in_pytorch() -> None:
    logits = normal(5, 40)
    logits[0, 3] = torch.inf
    logits[1] = -torch.inf
    logits[2, 5] = torch.nan
    logits[3, 7] = -torch.inf
    labels = torch.tensor([1, 2, 3, 4, 7], device=DEVICE)
    for smoothing in (0.0, 0.1):
        options = {"reduction": "none", "label_smoothing": smoothing}
        ours = with_gradients(partial(cross_entropy, labels=labels, **options), logits)
        theirs = with_gradients(partial(F.cross_entropy, target=labels, **options), logits)
        torch.testing.assert_close(ours, theirs, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
def test_all_ignored_or_no_rows(dtype: torch.dtype) -> None:
    logits = normal(3, 40, dtype=dtype).requires_grad_()
    labels = classes(3, 40, ignored=[0, 1, 2])
    loss = cross_entropy(logits, labels)
    assert loss.isnan()
    loss.backward()
    assert not logits.grad.any()
    assert cross_entropy(logits, labels, reduction="sum") == 0
    empty = normal(0, 40, dtype=dtype)
    assert cross_entropy(empty, classes(0, 40)).isnan()
    assert cross_entropy(empty, classes(0, 40), reduction="none").shape == (0,)


def test_ignored_rows_are_not_read() -> None:
    logits = normal(3, 40)
    logits[1] = torch.nan
    loss, gradient = with_gradients(lambda scores: cross_entropy(scores, classes(3, 40, ignored=[1])), logits)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    assert not gradient[1].any()


def test_labels_that_are_no_classes(path: str) -> None:  # noqa: F811
    logits = normal(4, 40)
    for bad in (40, -1, 2**40):
        labels = torch.tensor([1, bad, 3, -100], device=DEVICE)
        if path == "torch" and DEVICE.type == "cpu":
            with pytest.raises(UsageError, match=f"label {bad} .* 40 classes"):
                cross_entropy(logits, labels)
        else:
            losses, gradient = with_gradients(partial(cross_entropy, labels=labels, reduction="none"), logits)
            assert losses.isnan().tolist() == [False, True, False, False]
            assert gradient.isnan().any(1).tolist() == [False, True, False, False]


def test_arguments_that_make_no_sense() -> None:
    logits, labels = normal(3, 40), classes(3, 40)
    for wrong, match in (
        ({"reduction": "median"}, "'median'"),
        ({"label_smoothing": 1.5}, "between 0 and 1"),
        ({"labels": labels.float()}, "int64"),
        ({"labels": labels[:2]}, "one label a row"),
        ({"logits": logits.long()}, "floating"),
        ({"logits": logits[:, :0]}, "floating"),
    ):
        with pytest.raises(UsageError, match=match):
            cross_entropy(**{"logits": logits, "labels": labels, **wrong})


# -------------------------------------------------------------------- autograd


def seen(run: Any) -> list:
    register_costs()
    with OpRecorder(torch.nn.Module()) as recorder:
        run()
    return [record for record in recorder.records if record.name.startswith("edgeroof::")]


def test_without_a_gradient_none_is_written() -> None:
    logits, labels = normal(3, 40).requires_grad_(), classes(3, 40)
    with torch.no_grad():
        (record,) = seen(lambda: cross_entropy(logits, labels))
    assert record.outputs[1].numel == 0
    assert price(record).bytes == 3 * 40 * 4 + 3 * 8 + 4
    assert not cross_entropy(logits.detach(), labels).requires_grad
    assert cross_entropy(logits, labels).requires_grad


def test_costs_are_one_read_and_one_write() -> None:
    logits = normal(3, 40, dtype=torch.bfloat16).requires_grad_()
    forward, backward = seen(lambda: cross_entropy(logits, classes(3, 40)).backward())
    assert (forward.name, backward.name) == ("edgeroof::cross_entropy", "edgeroof::cross_entropy_backward_")
    cost = price(forward)
    assert (cost.bytes_read, cost.bytes_written) == (3 * 40 * 2 + 3 * 8, 3 * 40 * 2 + 4)
    assert (cost.flops, cost.unit, cost.dtype) == (6 * 3 * 40, "vector", "fp32")
    assert price(backward).estimated
    assert price(backward).bytes == 4


def test_the_weight_of_an_fp16_mean_is_priced_exactly() -> None:
    logits = normal(3, 40, dtype=torch.float16).requires_grad_()
    for reduction, estimated, moved in (("mean", False, 2 * 3 * 40 * 2 + 4), ("sum", True, 4)):
        _, backward = seen(lambda how=reduction: cross_entropy(logits, classes(3, 40), reduction=how).backward())
        assert (price(backward).estimated, price(backward).bytes) == (estimated, moved)


def test_a_kept_graph_runs_backward_again() -> None:
    logits = normal(3, 40).requires_grad_()
    loss = cross_entropy(logits, classes(3, 40))
    records = seen(lambda: (3 * loss).backward(retain_graph=True))
    assert [record.name for record in records] == ["edgeroof::cross_entropy_backward"]
    assert price(records[0]).bytes == 2 * 3 * 40 * 4 + 4
    first = logits.grad.clone()
    logits.grad = None
    (3 * loss).backward()
    torch.testing.assert_close(logits.grad, first, rtol=0, atol=0)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_a_loss_used_twice_gets_the_sum_of_its_gradients() -> None:
    logits, labels = normal(3, 40), classes(3, 40)
    ours = with_gradients(lambda scores: (lambda loss: loss * loss + 2 * loss)(cross_entropy(scores, labels)), logits)
    theirs = with_gradients(
        lambda scores: (lambda loss: loss * loss + 2 * loss)(F.cross_entropy(scores, labels)), logits
    )
    torch.testing.assert_close(ours, theirs)


def test_a_second_derivative_is_refused() -> None:
    logits = normal(3, 40).requires_grad_()
    with pytest.raises(UsageError, match="second derivative"):
        torch.autograd.grad(cross_entropy(logits, classes(3, 40)), logits, create_graph=True)
    loss = cross_entropy_op(logits, classes(3, 40), -100, 0.0, 0.0, "mean", False, False)[0]
    with pytest.raises(UsageError, match="gradient=True"):
        loss.backward()


def test_fp16_gradients_do_not_vanish_before_the_loss_scale() -> None:
    """A mean over many rows makes gradients below the smallest fp16 number; a loss scale lifts them again."""
    rows, scale = 40, 2.0**16
    logits = normal(rows, 8192, dtype=torch.float16)
    labels = classes(rows, 8192)
    ours, true = (
        with_gradients(lambda scores, run=run: run(scores, labels), scores, upstream=scale)[1].double()
        for run, scores in ((cross_entropy, logits), (cross_entropy_reference, logits.double()))
    )
    assert ((ours - true).abs() <= 2e-3 * true.abs() + 1e-4).all()


def test_checkpoint_and_autocast() -> None:
    weight, source, labels = normal(40, 8), normal(3, 8), classes(3, 40)

    def loss(parameter: Tensor) -> Tensor:
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
            return cross_entropy(F.linear(source, parameter), labels)

    plain = with_gradients(loss, weight)
    again = with_gradients(lambda parameter: checkpoint(loss, parameter, use_reentrant=False), weight)
    torch.testing.assert_close(again, plain, rtol=0, atol=0)

    def eager(parameter: Tensor) -> Tensor:
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
            return F.cross_entropy(F.linear(source, parameter), labels)

    torch.testing.assert_close(plain, with_gradients(eager, weight), rtol=2e-2, atol=1e-3)
    assert plain[0].dtype == torch.float32


# -------------------------------------------------------------------- the operator


def test_opcheck() -> None:
    labels = classes(3, 40, ignored=[1])
    for dtype, reduction in ((torch.float16, "mean"), (torch.float32, "none")):
        logits = normal(3, 40, dtype=dtype).requires_grad_()
        opcheck(cross_entropy_op, (logits, labels, -100, 0.1, 0.01, reduction, True, False))
    gradient, factor = normal(3, 40), torch.tensor(2.0, device=DEVICE)
    opcheck(cross_entropy_backward_op, (gradient, factor))
    opcheck(cross_entropy_backward_in_place_op, (gradient.clone(), factor, False))


def test_fake_tensors() -> None:
    with FakeTensorMode():
        logits = torch.empty(4, 6, 32128, device=DEVICE, dtype=torch.bfloat16, requires_grad=True)
        labels = torch.zeros(4, 6, dtype=torch.long, device=DEVICE)
        loss = cross_entropy(logits, labels)
        loss.backward()
        assert (loss.shape, loss.dtype) == ((), torch.float32)
        assert logits.grad.shape == logits.shape
        assert cross_entropy(logits, labels, reduction="none").shape == (4, 6)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_compiled(scale: float) -> None:
    compiled = torch.compile(lambda scores, labels: scale * cross_entropy(scores * 2, labels), backend="aot_eager")
    logits, labels = normal(3, 40), classes(3, 40)
    ours = with_gradients(lambda scores: compiled(scores, labels), logits)
    theirs = with_gradients(lambda scores: scale * F.cross_entropy(scores * 2, labels), logits)
    torch.testing.assert_close(ours, theirs)


def test_in_place_scaling_skips_ones_and_spans_tiles() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        gradient = normal(3, 3000, dtype=dtype)
        for factors in (
            torch.ones((), device=DEVICE),
            torch.full((), 0.3, device=DEVICE),
            normal(3),
            normal(3, 2)[:, 0],
        ):
            expected = (gradient.float() * (factors[:, None] if factors.dim() else factors)).to(dtype)
            torch.testing.assert_close(cross_entropy_backward_op(gradient, factors), expected)
            scaled = gradient.clone()
            cross_entropy_backward_in_place_op(scaled, factors, False)
            torch.testing.assert_close(scaled, expected)


def test_launches_keep_accesses_wide_and_rows_few() -> None:
    for itemsize, threads in ((2, 512), (4, 1024)):
        width, vectors, warps = launch_form(32128, itemsize)
        assert width * itemsize == 16
        assert warps * 32 == threads
        assert width * vectors == 8192
        assert launch_form(1, itemsize)[2] == 1
        assert launch_form(10**6, itemsize)[1] == vectors


@pytest.mark.parametrize("path", ["triton"], indirect=True)
def test_rows_may_start_beyond_32_bits() -> None:
    """Untouched memory between the rows costs nothing."""
    stride = 2**31 + 16
    logits = torch.empty(stride + 300, dtype=torch.bfloat16, device=DEVICE).as_strided((2, 300), (stride, 1))
    logits.copy_(normal(2, 300))
    labels = classes(2, 300)
    ours = cross_entropy(logits, labels)
    torch.testing.assert_close(ours, F.cross_entropy(logits.float(), labels))
