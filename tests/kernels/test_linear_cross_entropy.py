"""The loss fused with the matrix product before it: parity, chunks, memory, gradients that are not wanted, costs."""

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
from torch.utils._python_dispatch import TorchDispatchMode

from edgeroof.errors import UsageError
from edgeroof.kernels import linear_cross_entropy as module
from edgeroof.kernels.linear_cross_entropy import (
    default_chunk_rows,
    linear_cross_entropy,
    linear_cross_entropy_backward_op,
    linear_cross_entropy_op,
    register_costs,
)
from edgeroof.kernels.reference import linear_cross_entropy_reference
from edgeroof.profiler.costs import price
from edgeroof.profiler.metrics import model_flops
from edgeroof.profiler.phases import phase
from edgeroof.profiler.recorder import OpRecorder

from .operator_cases import DEVICE, check_errors, classes, normal, path, with_gradients  # noqa: F401

pytestmark = pytest.mark.usefixtures("path")

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def eager(hidden: Tensor, weight: Tensor, bias: Tensor | None = None, *, labels: Tensor, **options: Any) -> Tensor:
    return F.cross_entropy(F.linear(hidden, weight, bias), labels, **options)


def fused(hidden: Tensor, weight: Tensor, bias: Tensor | None = None, *, labels: Tensor, **options: Any) -> Tensor:
    return linear_cross_entropy(hidden, weight, labels, bias=bias, **options)


def operands(rows: int, classes_: int, features: int, dtype: torch.dtype, *, bias: bool) -> list[Tensor]:
    made = [normal(rows, features, dtype=dtype), normal(classes_, features, dtype=dtype, seed=1, spread=features**-0.5)]
    return [*made, normal(classes_, dtype=dtype, seed=2)] if bias else made


def check(inputs: list[Tensor], labels: Tensor, upstream: float = 1.0, chunk_rows: int = 4, **options: Any) -> None:
    ours = with_gradients(partial(fused, labels=labels, chunk_rows=chunk_rows, **options), *inputs, upstream=upstream)
    theirs = with_gradients(partial(eager, labels=labels, **options), *inputs, upstream=upstream)

    def reference(hidden: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return linear_cross_entropy_reference(hidden, weight, labels, bias, **options)

    truth = with_gradients(reference, *[one.double() for one in inputs], upstream=upstream)
    check_errors(ours, theirs, truth)
    assert ours[0].dtype == torch.float32
    assert [gradient.dtype for gradient in ours[1:]] == [one.dtype for one in inputs]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("bias", [False, True])
def test_parity(dtype: torch.dtype, reduction: str, bias: bool) -> None:
    inputs = operands(40, 200, 32, dtype, bias=bias)
    check(inputs, classes(40, 200, ignored=[2, 9]), upstream=0.5, chunk_rows=15, reduction=reduction)


@given(data=st.data())
@settings(max_examples=10)
def test_any_shape_and_chunk(data: st.DataObject) -> None:
    rows, columns, features = (data.draw(st.integers(1, top)) for top in (9, 300, 20))
    inputs = operands(rows, columns, features, torch.float32, bias=data.draw(st.booleans()))
    ignored = data.draw(st.lists(st.integers(1, 8), max_size=3))
    check(
        inputs, classes(rows, columns, ignored), upstream=3.0, chunk_rows=data.draw(st.integers(1, 10)),
        reduction=data.draw(st.sampled_from(["mean", "sum", "none"])),
        label_smoothing=data.draw(st.sampled_from([0.0, 0.2])),
    )  # fmt: skip


def test_z_loss_leading_dimensions_and_transposed_hidden() -> None:
    hidden, weight = normal(4, 2, 8).transpose(0, 1), normal(30, 8)
    labels = classes(8, 30, ignored=[3]).view(2, 4)
    options: dict[str, Any] = {"z_loss": 0.01, "reduction": "none"}
    losses = linear_cross_entropy(hidden, weight, labels, chunk_rows=3, **options)
    expected = linear_cross_entropy_reference(hidden.reshape(8, 8), weight, labels.view(-1), **options)
    torch.testing.assert_close(losses.double(), expected.view(2, 4), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_rows_and_all_ignored(dtype: torch.dtype) -> None:
    weight, empty = normal(30, 8, dtype=dtype).requires_grad_(), normal(0, 8, dtype=dtype)
    loss = linear_cross_entropy(empty, weight, classes(0, 30))
    loss.backward()
    assert loss.isnan()
    assert linear_cross_entropy(empty, weight, classes(0, 30), reduction="sum") == 0
    hidden = normal(2, 8, dtype=dtype).requires_grad_()
    loss = linear_cross_entropy(hidden, weight, classes(2, 30, ignored=[0, 1]))
    weight.grad = None
    loss.backward()
    assert loss.isnan()
    assert not weight.grad.any()
    assert not hidden.grad.any()


@pytest.mark.parametrize("chunk_rows", [70, 32])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_sums_over_many_fp16_rows_do_not_overflow_before_their_mean(chunk_rows: int, reduction: str) -> None:
    """70 rows of 1000 sum up to 70000, which is no fp16 number; their mean is one."""
    hidden = torch.full((70, 16), 1000.0, device=DEVICE, dtype=torch.float16)
    weight, bias = normal(64, 16, dtype=torch.float16, seed=1, spread=1e-4), normal(64, dtype=torch.float16, spread=0.1)
    labels = torch.full((70,), 3, device=DEVICE)
    upstream = 1.0 if reduction == "mean" else 1.0 / 70
    check([hidden, weight, bias], labels, upstream, chunk_rows, reduction=reduction)


def test_labels_that_are_no_classes(path: str) -> None:  # noqa: F811
    hidden, weight, labels = normal(2, 8), normal(30, 8), torch.tensor([1, 30], device=DEVICE)
    if path == "torch" and DEVICE.type == "cpu":
        with pytest.raises(UsageError, match="label 30"):
            linear_cross_entropy(hidden, weight, labels)
    else:
        assert linear_cross_entropy(hidden, weight, labels).isnan()


def test_arguments_that_make_no_sense() -> None:
    fitting: dict[str, Any] = {"hidden": normal(3, 8), "weight": normal(30, 8), "labels": classes(3, 30)}
    for wrong, match in (
        ({"weight": normal(30, 9)}, r"\[V, D\]"),
        ({"bias": normal(29)}, "30 classes"),
        ({"weight": normal(30, 8, dtype=torch.bfloat16)}, "use autocast"),
        ({"labels": classes(4, 30)}, "one label a row"),
        ({"chunk_rows": 0}, "chunk_rows"),
        ({"reduction": "no"}, "'no'"),
    ):
        with pytest.raises(UsageError, match=match):
            linear_cross_entropy(**fitting | wrong)


# -------------------------------------------------------------------- memory


class _Largest(TorchDispatchMode):
    """Sizes of all tensors that ops make, in elements."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for one in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(one, Tensor):
                self.sizes.append((one.untyped_storage().nbytes(), tuple(one.shape)))
        return result


@pytest.mark.parametrize("wanted", [[True, True, False], [True, False, False], [False] * 3])
def test_full_logits_never_exist(wanted: list[bool]) -> None:
    rows, columns, features, chunk = 64, 512, 16, 8
    hidden, weight = operands(rows, columns, features, torch.bfloat16, bias=False)
    arguments = (hidden, weight, None, classes(rows, columns), chunk, -100, 0.0, 0.0, "mean", wanted, True)
    with _Largest() as largest:
        module._forward(*arguments)
    biggest = max(size for size, _ in largest.sizes)
    fp32_chunk, fp32_weight = chunk * columns * 4, columns * features * 4
    assert biggest <= max(fp32_chunk, fp32_weight) < rows * columns * 2
    buffers = [shape for _, shape in largest.sizes if shape == (chunk, columns)]
    assert buffers  # the mode saw the chunks


def test_the_memory_rule() -> None:
    assert default_chunk_rows(768, 2) == 1536
    assert default_chunk_rows(768, 4) == 768
    assert default_chunk_rows(16, 4) == 256
    for features, item in ((512, 4), (2048, 2)):
        assert default_chunk_rows(features, item) * 32128 * item <= 32128 * features * 4


# -------------------------------------------------------------------- which gradients


def seen(run: Any) -> list:
    register_costs()
    with OpRecorder(torch.nn.Module()) as recorder:
        run()
    return [record for record in recorder.records if record.name.startswith("edgeroof::linear")]


@pytest.mark.parametrize(("train_hidden", "train_weight"), [(True, False), (False, True)])
def test_only_wanted_gradients_are_computed(train_hidden: bool, train_weight: bool) -> None:
    hidden, weight = operands(6, 50, 16, torch.float32, bias=False)
    hidden.requires_grad_(train_hidden)
    weight.requires_grad_(train_weight)
    labels = classes(6, 50)
    (record,) = seen(lambda: linear_cross_entropy(hidden, weight, labels))
    assert record.outputs[1].numel == (hidden.numel() if train_hidden else 0)
    assert record.outputs[2].numel == (weight.numel() if train_weight else 0)
    linear_cross_entropy(hidden, weight, labels).backward()
    leaf = hidden if train_hidden else weight
    ours, leaf.grad = leaf.grad, None
    eager(hidden, weight, labels=labels).backward()
    torch.testing.assert_close(ours, leaf.grad)


def test_a_tied_weight_gets_both_gradients() -> None:
    words, labels = torch.tensor([3, 4, 4, 9], device=DEVICE), classes(4, 30)

    def run(table: Tensor, loss: Any) -> Tensor:
        return loss(F.embedding(words, table) * 0.5, table, labels=labels)

    table = normal(30, 8)
    ours = with_gradients(lambda one: run(one, partial(fused, chunk_rows=3)), table)
    torch.testing.assert_close(ours, with_gradients(lambda one: run(one, eager), table))


def test_autocast_multiplies_in_bf16_and_keeps_fp32_gradients() -> None:
    inputs, labels = operands(10, 50, 16, torch.float32, bias=True), classes(10, 50)

    def under_autocast(run: Any) -> list[Tensor]:
        def inside(*leaves: Tensor) -> Tensor:
            with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
                return run(*leaves, labels=labels)

        return with_gradients(inside, *inputs)

    ours, theirs = under_autocast(partial(fused, chunk_rows=4)), under_autocast(eager)
    truth = with_gradients(
        lambda hidden, weight, bias: linear_cross_entropy_reference(hidden, weight, labels, bias),
        *[one.double() for one in inputs],
    )
    check_errors(ours, theirs, truth)
    assert {one.dtype for one in ours} == {torch.float32}


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_kept_graph_runs_backward_again(reduction: str) -> None:
    hidden, weight = operands(6, 50, 16, torch.float32, bias=False)
    hidden.requires_grad_()
    weight.requires_grad_()
    loss = linear_cross_entropy(hidden, weight, classes(6, 50), chunk_rows=4, reduction=reduction)
    first = torch.autograd.grad(3 * loss.sum(), (hidden, weight), retain_graph=True)
    again = torch.autograd.grad(3 * loss.sum(), (hidden, weight))
    torch.testing.assert_close(again, first, rtol=0, atol=0)


def test_a_second_derivative_is_refused() -> None:
    hidden = normal(3, 8).requires_grad_()
    for reduction in ("mean", "none"):
        loss = linear_cross_entropy(hidden, normal(30, 8), classes(3, 30), reduction=reduction).sum()
        with pytest.raises(UsageError, match="second derivative"):
            torch.autograd.grad(loss, hidden, create_graph=True)


def test_gradcheck_in_float64() -> None:
    hidden, weight, bias = (normal(*shape, dtype=torch.float64).requires_grad_() for shape in ((3, 4), (7, 4), (7,)))
    labels = classes(3, 7, ignored=[1])
    for reduction in ("sum", "none"):
        run = partial(fused, labels=labels, chunk_rows=2, label_smoothing=0.1, z_loss=0.1, reduction=reduction)
        assert torch.autograd.gradcheck(run, (hidden, weight, bias))


# -------------------------------------------------------------------- the operator and its costs


def test_opcheck() -> None:
    labels = classes(5, 50, ignored=[1])
    hidden, weight, bias = (one.requires_grad_() for one in operands(5, 50, 16, torch.float16, bias=True))
    options = (2, -100, 0.1, 0.01)
    opcheck(linear_cross_entropy_op, (hidden, weight, bias, labels, *options, "mean", [True] * 3, False))
    opcheck(linear_cross_entropy_op, (hidden, weight, None, labels, *options, "none", [True, True, False], False))
    arguments = (normal(5), hidden.detach(), weight.detach(), None, labels, *options, [True, False, False])
    opcheck(linear_cross_entropy_backward_op, arguments)


def test_fake_tensors() -> None:
    with FakeTensorMode():
        hidden = torch.empty(4, 6, 512, device=DEVICE, requires_grad=True)
        weight = torch.empty(32128, 512, device=DEVICE, requires_grad=True)
        labels = torch.zeros(4, 6, dtype=torch.long, device=DEVICE)
        for reduction, shape in (("mean", ()), ("none", (4, 6))):
            loss = linear_cross_entropy(hidden, weight, labels, reduction=reduction)
            assert (loss.shape, loss.dtype) == (shape, torch.float32)
            loss.sum().backward()
            assert hidden.grad.shape == hidden.shape
            assert weight.grad.shape == weight.shape


def test_compiled() -> None:
    hidden, weight = operands(6, 50, 16, torch.float32, bias=False)
    labels = classes(6, 50)
    compiled = torch.compile(lambda h, w: 3 * linear_cross_entropy(h * 2, w, labels), backend="aot_eager")
    ours = with_gradients(compiled, hidden, weight)
    torch.testing.assert_close(ours, with_gradients(lambda h, w: 3 * eager(h * 2, w, labels=labels), hidden, weight))


@pytest.mark.parametrize(
    ("options", "trained", "products"),
    [({}, (True, True), 3), ({}, (True, False), 2), ({}, (False, False), 1), ({"reduction": "none"}, (True, True), 4)],
)
def test_model_flops_are_those_of_the_plain_products(
    options: dict[str, Any], trained: tuple[bool, bool], products: int
) -> None:
    """Not reduced, the loss computes its logits twice."""
    hidden, weight = operands(6, 50, 16, torch.bfloat16, bias=False)
    hidden.requires_grad_(trained[0])
    weight.requires_grad_(trained[1])

    def step() -> None:
        with phase("forward"):
            loss = linear_cross_entropy(hidden, weight, classes(6, 50), **options).sum()
        if loss.requires_grad:
            with phase("backward"):
                loss.backward()

    records = seen(step)
    costs = [price(record) for record in records]
    assert {(cost.unit, cost.dtype) for cost in costs} == {("tensor", "bf16")}
    one = 2.0 * 6 * 50 * 16
    assert model_flops(records, costs) == (products * one, products * one, "bf16")


def test_bytes_are_compulsory() -> None:
    hidden, weight = (one.requires_grad_() for one in operands(6, 50, 16, torch.bfloat16, bias=False))
    (record,) = seen(lambda: linear_cross_entropy(hidden, weight, classes(6, 50), chunk_rows=2))
    cost = price(record)
    assert cost.bytes_read == (6 * 16 + 50 * 16) * 2 + 6 * 8
    assert cost.bytes_written == (6 * 16 + 50 * 16) * 2 + 4
