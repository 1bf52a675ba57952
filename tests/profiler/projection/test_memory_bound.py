"""Kernels that move data: streams, rows, strided reads, and what L2 holds between kernels."""

import numpy as np
import pytest

from edgeroof.profiler.device import load_device
from edgeroof.profiler.ops import OpRecord, TensorMeta
from edgeroof.profiler.projection.access import overfetched_bytes
from edgeroof.profiler.projection.coefficients import load_coefficients
from edgeroof.profiler.projection.hardware import describe_hardware
from edgeroof.profiler.projection.memory import layer_norm, row_seconds, softmax, streaming_seconds
from edgeroof.profiler.projection.residency import Residency

C = load_coefficients()
MIB = 2**20


def tensor(shape, stride=None, storage=1, dtype="fp32"):
    if stride is None:
        stride = tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
    return TensorMeta(tuple(shape), dtype, tuple(stride), storage)


@pytest.mark.parametrize("device", ["t4", "a100", "p4", "orin"])
def test_streams_stay_below_the_bandwidth(device):
    hardware = describe_hardware(load_device(device))
    rate = 1e9 / streaming_seconds(np.array([1e9]), hardware, C)[0]
    assert 0.6 * hardware.roof.bandwidth < rate <= hardware.roof.bandwidth


def test_what_is_in_l2_need_not_come_from_memory():
    a100 = describe_hardware(load_device("a100"))
    assert streaming_seconds(2e7, a100, C, 1e7) < streaming_seconds(2e7, a100, C)


def test_rows_that_leave_l2_are_read_again():
    t4 = describe_hardware(load_device("t4"))
    short, long = (row_seconds(4e6 / length, length, 4, layer_norm(C), t4, C) for length in (64, 8192))
    assert long > 1.1 * short


def test_backward_passes_and_long_softmax_rows_cost_more():
    v100 = describe_hardware(load_device("v100-pcie-32gb"))
    assert row_seconds(8192, 1024, 4, layer_norm(C, backward=True), v100, C) > row_seconds(
        8192, 1024, 4, layer_norm(C), v100, C
    )
    in_registers, reread = (row_seconds(8192, 1024, 4, softmax(C, row), v100, C) for row in (1024, 1025))
    assert reread > in_registers


def test_a_transposed_input_brings_a_sector_for_each_element():
    scores = tensor((1, 32, 2048, 2048), storage=1)
    bias = tensor((1, 32, 2048, 2048), stride=(0, 1, 32 * 2048, 32), storage=2)
    result = tensor((1, 32, 2048, 2048), storage=3)
    record = OpRecord("aten::add", (scores, bias, 1), (result,))
    assert overfetched_bytes(record, 4 * MIB) == pytest.approx(7 * bias.nbytes, rel=0.02)
    assert overfetched_bytes(OpRecord("aten::add", (scores, scores, 1), (result,)), 4 * MIB) == 0
    assert overfetched_bytes(record, 1e12) < 0.01 * bias.nbytes  # all of it fits in L2


def test_broadcast_inputs_bring_nothing_in_excess():
    mask = tensor((1, 1, 64, 64), stride=(0, 0, 64, 1))
    row = tensor((64, 1), stride=(1, 0))
    result = tensor((8, 16, 64, 64), storage=3)
    assert overfetched_bytes(OpRecord("aten::add", (mask, row, 1), (result,)), 0) == 0


def test_l2_remembers_what_was_touched_last():
    first, second = tensor((256, 1024), storage=1), tensor((256, 1024), storage=2)  # 1 MiB each
    big = tensor((16 * 1024, 1024), storage=3)
    cache = Residency(4 * MIB)
    assert cache.read_hits(OpRecord("aten::exp", (first,), (second,))) == 0
    assert cache.read_hits(OpRecord("aten::exp", (second,), (first,))) == MIB
    for storage in (4, 5):
        cache.read_hits(OpRecord("aten::exp", (tensor((256, 1024), storage=storage),), ()))
    assert cache.read_hits(OpRecord("aten::exp", (second,), ())) == 0  # pushed out by the two
    assert cache.read_hits(OpRecord("aten::exp", (big,), ())) == 0
    assert cache.read_hits(OpRecord("aten::exp", (big,), ())) == 0  # too large to stay
