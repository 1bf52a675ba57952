"""Bytes are those of distinct memory: views, expanded, transposed and repeated tensors, in place and out."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeroof.profiler.costs import Cost, price, with_kernel_dtype
from edgeroof.profiler.costs.cost import footprint
from edgeroof.profiler.ops import OpRecord, TensorMeta
from edgeroof.profiler.recorder import OpRecorder, tensor_meta


def cost_of(run) -> Cost:
    with OpRecorder(torch.nn.Identity()) as recorder:
        run()
    (record,) = recorder.records
    return price(record)


A = torch.ones(100, 10)
B = torch.ones(100, 10)


@pytest.mark.parametrize(
    ("run", "read", "written"),
    [
        (lambda: A + B, 8000, 4000),
        (lambda: A * A, 4000, 4000),  # the same tensor twice is read once
        (lambda: A @ A.t(), 4000, 40000),  # a transposed view is the same memory
        (lambda: A + B[:1].expand(100, 10), 4040, 4000),  # ten elements, read again and again
        (lambda: A[:50] + B[50:], 4000, 2000),
        (lambda: A.clone().add_(B), None, None),
        (lambda: A.sum(), 4000, 4),
        (lambda: A > B, 8000, 1000),  # a bool is a byte
        (lambda: A.to(torch.bfloat16), 4000, 2000),
        (lambda: torch.zeros(100, 10), 0, 4000),
        (lambda: torch.cat([A, B]), 8000, 8000),
    ],
)
def test_bytes(run, read: int | None, written: int | None) -> None:
    if read is None:
        with OpRecorder(torch.nn.Identity()) as recorder:
            run()
        added = price(recorder.records[-1])
        assert (added.bytes_read, added.bytes_written) == (8000, 4000)
        return
    cost = cost_of(run)
    assert (cost.bytes_read, cost.bytes_written) == (read, written)


def test_copy_reads_only_the_source() -> None:
    target = torch.empty(100, 10, dtype=torch.float64)
    cost = cost_of(lambda: target.copy_(A))
    assert (cost.bytes_read, cost.bytes_written) == (4000, 8000)


def test_fill_in_place_reads_nothing() -> None:
    target = torch.empty(100, 10)
    assert cost_of(target.zero_)[1:3] == (0, 4000)
    assert cost_of(lambda: target.bernoulli_(0.5))[1:3] == (0, 4000)


def test_out_argument_is_written_not_read() -> None:
    target = torch.empty(100, 10)
    cost = cost_of(lambda: torch.add(A, B, out=target))
    assert (cost.bytes_read, cost.bytes_written) == (8000, 4000)


def test_embedding_reads_the_rows_it_gathers() -> None:
    table, rows = torch.ones(32128, 16), torch.arange(10)
    cost = cost_of(lambda: torch.nn.functional.embedding(rows, table))
    assert (cost.bytes_read, cost.bytes_written) == (10 * 16 * 4 + 80, 10 * 16 * 4)


def test_embedding_backward_writes_the_whole_table() -> None:
    rows, grad = torch.arange(10), torch.ones(10, 16)
    cost = cost_of(lambda: torch.ops.aten.embedding_dense_backward(grad, rows, 1000, -1, False))
    assert cost.bytes_written == 1000 * 16 * 4 + 10 * 16 * 4


def test_unknown_op_has_no_price() -> None:
    assert price(OpRecord("custom::op", (), ())) is None


def test_lost_shapes_have_no_price() -> None:
    assert price(OpRecord("aten::mm", (None, None), ())) is None
    assert price(OpRecord("aten::_fused_adamw_", ((), ()), ())) is None


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.randoms())
def test_a_permuted_or_flattened_view_has_the_same_footprint(shape: list[int], random) -> None:
    tensor = torch.empty(shape)
    order = list(range(len(shape)))
    random.shuffle(order)
    assert footprint(tensor_meta(tensor.permute(order))) == footprint(tensor_meta(tensor))
    assert footprint(tensor_meta(tensor.flatten())) == footprint(tensor_meta(tensor))


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 7)), min_size=1, max_size=4))
def test_distinct_is_never_less_than_the_memory_that_is_touched(dims: list[tuple[int, int]]) -> None:
    shape, stride = tuple(size for size, _ in dims), tuple(step for _, step in dims)
    storage = torch.arange(1 + sum((size - 1) * step for size, step in dims))
    touched = len(torch.as_strided(storage, shape, stride).unique())
    meta = TensorMeta(shape, "int64", stride)
    assert touched <= meta.distinct <= meta.numel


def test_tf32_is_read_off_the_kernel_name() -> None:
    cost = Cost(1e9, 1, 1, "vector", "fp32")
    assert with_kernel_dtype(cost, "cutlass_80_tensorop_s1688gemm_128x128_16x5_nn_align4").dtype == "tf32"
    assert with_kernel_dtype(cost, "ampere_sgemm_128x64_nn").dtype == "fp32"
    half = Cost(1e9, 1, 1, "tensor", "fp16")
    assert with_kernel_dtype(half, "ampere_fp16_s1688gemm_fp16_128x128_ldg8_f2f_nn").dtype == "fp16"
