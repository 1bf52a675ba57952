"""The kernel table of hand-built traces: op, phase, step, module, autograd side, cost."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from edgeroof.profiler.costs import is_priced
from edgeroof.profiler.ops import OpRecord, TensorMeta
from edgeroof.profiler.schema import KERNEL_COLUMNS, OP_COLUMNS
from edgeroof.profiler.traces.attribution import Attribution, attribute, dispatched_ops
from edgeroof.profiler.traces.trace import read_trace

from .trace_builder import FLOAT, TraceBuilder, training_step

SMALL = (FLOAT, [8, 4])


def analyze(builder: TraceBuilder, folder: Path, **options: Any) -> Attribution:
    return attribute(read_trace(builder.write(folder)), **options)


def column(attribution: Attribution, name: str) -> list[Any]:
    return attribution.kernels[name].tolist()


def test_tables_have_exactly_the_columns_of_the_schema(tmp_path: Path) -> None:
    found = analyze(training_step(), tmp_path)
    assert {name: str(dtype) for name, dtype in found.kernels.dtypes.items()} == KERNEL_COLUMNS
    assert {name: str(dtype) for name, dtype in found.ops.dtypes.items()} == OP_COLUMNS


def test_a_training_step_without_our_markers(tmp_path: Path) -> None:
    found = analyze(training_step(), tmp_path)
    assert column(found, "op") == [
        "aten::mm", "aten::_log_softmax", "aten::mm", "aten::add_", "aten::mul_", "aten::zero_"
    ]  # fmt: skip
    assert column(found, "phase") == ["forward", "loss", "backward", "backward", "optimizer", "zero_grad"]
    assert column(found, "autograd") == ["forward", "forward", "backward", "accumulate", "none", "none"]
    assert column(found, "kind") == ["kernel"] * 5 + ["memset"]
    assert column(found, "provenance") == ["inferred"] * 6
    assert found.kernels["linked"].all()
    first = found.kernels.iloc[0]
    assert first["flops"] == 2 * 8 * 4 * 16
    assert (first["bytes_read"], first["bytes_written"]) == (4 * (32 + 64), 4 * 128)
    assert first["shapes"] == "[8,4] [4,16]"
    assert found.ops.loc[first["op_index"], "inputs"] == "[8,4] fp32, [4,16] fp32"
    assert found.warnings == ()


def test_steps_are_numbered_from_zero(tmp_path: Path) -> None:
    builder = training_step(1, 2000, training_step(0))
    builder.annotation("ProfilerStep#3", 5, 900, tid=2)  # another thread marks a step again
    found = analyze(builder, tmp_path)
    assert found.steps == 2
    assert column(found, "step") == [0] * 6 + [1] * 6
    assert len(found.ops) == 6  # the same op in another step is the same row


def test_our_own_markers_win(tmp_path: Path) -> None:
    builder = training_step()
    builder.annotation("edgeroof.step", 0, 1000)
    builder.annotation("edgeroof.phase.forward", 0, 200).annotation("edgeroof.phase.loss", 90, 100)
    builder.annotation("edgeroof.phase.backward", 290, 300).annotation("edgeroof.phase.optimizer", 590, 400)
    found = analyze(builder, tmp_path)
    assert found.steps == 1
    assert column(found, "phase") == ["forward", "loss", "backward", "backward", "optimizer", "optimizer"]


def test_forward_inside_an_optimizers_closure_is_not_the_optimizer(tmp_path: Path) -> None:
    builder = TraceBuilder().annotation("Optimizer.step#SGD.step", 0, 100)
    builder.op("aten::relu", 10, 20, SMALL, sequence=4).launch(1, 12).kernel(1, "relu", 40, 1)
    builder.op("aten::add_", 50, 20, SMALL, SMALL).launch(2, 52).kernel(2, "add", 80, 1)
    assert column(analyze(builder, tmp_path), "phase") == ["forward", "optimizer"]


def test_recomputation_inside_backward(tmp_path: Path) -> None:
    builder = TraceBuilder().op("autograd::engine::evaluate_function: X", 0, 100, sequence=9, forward_thread=1)
    builder.op("aten::relu", 10, 20, SMALL, sequence=30).launch(1, 12).kernel(1, "relu", 40, 1)
    builder.op("aten::add", 50, 20, SMALL, SMALL).launch(2, 52).kernel(2, "sum of gradients", 80, 1)
    found = analyze(builder, tmp_path)
    assert column(found, "autograd") == ["recompute", "accumulate"]
    assert column(found, "phase") == ["backward", "backward"]


def test_collectives_are_communication(tmp_path: Path) -> None:
    builder = training_step()
    builder.op("c10d::allreduce_", 900, 50).op("record_param_comms", 910, 30)
    builder.launch(60, 915).kernel(60, "ncclDevKernel_AllReduce_Sum_f32", 920, 500)
    last = analyze(builder, tmp_path).kernels.iloc[-1]
    assert (last["phase"], last["op"], last["autograd"]) == ("communication", "c10d::allreduce_", "none")
    assert math.isnan(last["bytes_read"])


def test_an_op_is_priced_once_on_its_main_kernel(tmp_path: Path) -> None:
    builder = TraceBuilder().op("aten::mm", 0, 50, SMALL, (FLOAT, [4, 16]))
    for i, (name, dur) in enumerate([("memset", 30), ("splitk gemm", 20), ("reduction", 5)]):
        builder.launch(i + 1, 5 + i)
        if name == "memset":
            builder.copy(i + 1, "Memset (Device)", 100, dur, 64)
        else:
            builder.kernel(i + 1, name, 200 + 50 * i, dur)
    found = analyze(builder, tmp_path)
    assert column(found, "flops") == [0, 2 * 8 * 4 * 16, 0]
    assert column(found, "provenance") == ["inferred"] * 3
    assert found.kernels["bytes_written"].sum() == 4 * 128
    assert len(found.ops) == 1


def test_the_launches_of_the_main_kernel_share_the_cost(tmp_path: Path) -> None:
    builder = TraceBuilder().op("aten::mul_", 0, 50, (FLOAT, [100]), ("Scalar", []))
    for i, dur in enumerate([10, 30]):
        builder.launch(i + 1, 5 + i).kernel(i + 1, "chunk", 100 + 50 * i, dur)
    found = analyze(builder, tmp_path)
    assert column(found, "bytes_written") == [100, 300]


def test_an_op_that_cannot_be_priced_gives_way_to_one_inside(tmp_path: Path) -> None:
    builder = TraceBuilder().op("aten::_to_copy", 0, 50, SMALL, ("Scalar", []))  # its dtype was not recorded
    builder.op("aten::copy_", 10, 30, ("c10::Half", [8, 4]), SMALL).launch(1, 12).kernel(1, "cast", 60, 1)
    row = analyze(builder, tmp_path).kernels.iloc[0]
    assert (row["op"], row["bytes_read"], row["bytes_written"]) == ("aten::copy_", 128, 64)


def test_custom_ops_are_named_and_unknown(tmp_path: Path) -> None:
    builder = TraceBuilder().op("autograd::engine::evaluate_function: Y", 0, 90, sequence=1, forward_thread=1)
    builder.op("fbgemm::lookup", 10, 50, SMALL).launch(1, 12).kernel(1, "lookup", 60, 1)
    row = analyze(builder, tmp_path).kernels.iloc[0]
    assert (row["op"], row["provenance"], row["linked"], row["phase"]) == (
        "fbgemm::lookup",
        "unknown",
        True,
        "backward",
    )
    assert math.isnan(row["flops"])


def test_kernels_launched_outside_of_ops_by_an_optimizer(tmp_path: Path) -> None:
    builder = TraceBuilder().annotation("Optimizer.step#FusedAdam.step", 0, 50).launch(1, 12).kernel(1, "adam", 60, 1)
    row = analyze(builder, tmp_path).kernels.iloc[0]
    assert (row["op"], row["phase"], row["linked"]) == ("Optimizer.step#FusedAdam.step", "optimizer", True)


def test_unlinked_kernels_stay_in_a_row_of_their_own(tmp_path: Path) -> None:
    found = analyze(TraceBuilder().kernel(99, "stray", 10, 5).op("aten::mm", 0, 3), tmp_path)
    row = found.kernels.iloc[0]
    assert not row["linked"]
    assert (row["op"], row["op_index"], row["phase"], row["provenance"]) == ("", -1, "", "unknown")
    assert any("without a launch event" in warning for warning in found.warnings)


def test_replayed_graphs_are_unattributable(tmp_path: Path) -> None:
    builder = TraceBuilder().op("aten::mm", 0, 30, SMALL, (FLOAT, [4, 16])).launch(1, 5, name="cudaGraphLaunch")
    builder.kernel(1, "a", 50, 1).kernel(1, "b", 60, 1)
    found = analyze(builder, tmp_path)
    assert column(found, "op") == ["", ""]
    assert column(found, "linked") == [False, False]


@pytest.mark.parametrize(
    ("name", "read", "written"),
    [
        ("Memcpy DtoD (Device -> Device)", 1000, 1000),
        ("Memcpy HtoD (Pageable -> Device)", 0, 1000),
        ("Memcpy DtoH (Device -> Pinned)", 1000, 0),
        ("Memset (Device)", 0, 1000),
    ],
)
def test_copies_and_fills_know_their_bytes(tmp_path: Path, name: str, read: int, written: int) -> None:
    builder = TraceBuilder().op("mylib::move", 0, 30).launch(1, 5, name="cudaMemcpyAsync").copy(1, name, 50, 2, 1000)
    row = analyze(builder, tmp_path).kernels.iloc[0]
    assert (row["bytes_read"], row["bytes_written"], row["flops"]) == (read, written, 0)
    assert (row["provenance"], row["unit"]) == ("inferred", "none")


def test_a_copy_to_the_host_counts_device_memory_only(tmp_path: Path) -> None:
    builder = TraceBuilder().op("aten::copy_", 0, 30, SMALL, SMALL).launch(1, 5)
    builder.copy(1, "Memcpy DtoH (Device -> Pageable)", 50, 2, 128)
    row = analyze(builder, tmp_path).kernels.iloc[0]
    assert (row["op"], row["bytes_read"], row["bytes_written"]) == ("aten::copy_", 128, 0)


def test_fp32_products_in_tf32_are_told_by_the_kernel(tmp_path: Path) -> None:
    builder = TraceBuilder()
    for i, kernel in enumerate(["ampere_sgemm_128x64_nn", "cutlass_80_tensorop_s1688gemm_64x64"]):
        builder.op("aten::mm", 100 * i, 50, SMALL, (FLOAT, [4, 16])).launch(i + 1, 100 * i + 5)
        builder.kernel(i + 1, kernel, 300 + 50 * i, 5)
    found = analyze(builder, tmp_path)
    assert column(found, "dtype") == ["fp32", "tf32"]
    assert column(found, "unit") == ["vector", "tensor"]


def test_modules_come_from_frames_and_reach_the_backward_pass(tmp_path: Path) -> None:
    builder = training_step()
    builder.add("python_function", "nn.Module: Net_0", 5, 90).add("python_function", "nn.Module: Linear_1", 8, 60)
    found = analyze(builder, tmp_path)
    assert column(found, "module")[:3] == ["Net_0.Linear_1", "", "Net_0.Linear_1"]


def test_a_trace_without_shapes_says_what_it_cannot_know(tmp_path: Path) -> None:
    found = analyze(TraceBuilder().op("aten::mm", 0, 30).launch(1, 5).kernel(1, "gemm", 50, 2), tmp_path)
    assert column(found, "provenance") == ["unknown"]
    assert any("record_shapes=True" in warning for warning in found.warnings)


def cpu_step() -> TraceBuilder:
    builder = TraceBuilder().op("aten::linear", 0, 100, SMALL, (FLOAT, [16, 4]))
    builder.op("aten::t", 5, 10, (FLOAT, [16, 4])).op("aten::mm", 20, 70, SMALL, (FLOAT, [4, 16]))
    builder.op("aten::copy_", 30, 5, SMALL, SMALL)  # inside mm: part of it
    builder.op("mylib::fused", 110, 40, SMALL).op("aten::empty", 115, 5)
    builder.op("aten::softmax", 200, 50, SMALL).op("aten::_softmax", 210, 30, SMALL, ("Scalar", []))
    return builder.op("aten::view", 300, 2, SMALL)


def test_on_a_cpu_kernels_are_dispatched_ops(tmp_path: Path) -> None:
    found = analyze(cpu_step(), tmp_path)
    assert column(found, "name") == ["aten::mm", "mylib::fused", "aten::_softmax"]
    assert column(found, "op") == column(found, "name")
    assert column(found, "dur_us") == [70, 40, 30]
    assert column(found, "provenance") == ["inferred", "unknown", "inferred"]
    assert column(found, "kind") == ["op"] * 3
    assert column(found, "device_index") == [-1] * 3
    assert column(found, "stream") == [1] * 3


def test_dispatched_ops_are_the_outermost_that_count(tmp_path: Path) -> None:
    trace = read_trace(cpu_step().write(tmp_path))
    events = dispatched_ops(trace, lambda name: name in ("aten::mm", "aten::copy_", "aten::linear"))
    assert [event.name for event in events] == ["aten::linear"]
    events = dispatched_ops(trace, lambda name: name in ("aten::mm", "aten::copy_", "mylib::fused"))
    assert [event.name for event in events] == ["aten::mm", "mylib::fused"]
    assert events[0].shapes == ((8, 4), (4, 16))
    assert (events[0].dur_us, events[0].step) == (70, 0)


def test_records_replace_what_the_trace_tells(tmp_path: Path) -> None:
    trace = read_trace(cpu_step().write(tmp_path))
    records = [
        OpRecord("aten::relu", (TensorMeta((5,), "fp32"),), (TensorMeta((5,), "fp32"),), module="left.over"),
        OpRecord(
            "aten::mm",
            (TensorMeta((3, 3), "fp64"), TensorMeta((3, 3), "fp64")),
            (TensorMeta((3, 3), "fp64"),),
            module="encoder.block.0",
            autograd="forward",
        ),
        OpRecord("mylib::fused", (), ()),
    ]
    events = dispatched_ops(trace, lambda name: name in ("aten::mm", "mylib::fused"))
    matches = {event.index: 1 if event.name == "aten::mm" else 2 for event in events}
    found = attribute(trace, is_dispatched=is_priced, records=records, matches=matches)
    first, second, third = found.kernels.to_dict("records")
    assert (first["flops"], first["provenance"], first["module"]) == (54, "exact", "encoder.block.0")
    assert (first["op_index"], first["shapes"], first["autograd"]) == (1, "[3,3] [3,3]", "forward")
    assert (second["op"], second["provenance"], second["op_index"]) == ("mylib::fused", "unknown", 2)
    assert (third["op"], third["provenance"], third["op_index"]) == ("aten::_softmax", "inferred", 3)
    assert found.ops["op"].tolist() == ["aten::relu", "aten::mm", "mylib::fused", "aten::_softmax"]
    assert found.ops["op_index"].tolist() == [0, 1, 2, 3]


def test_sums_over_kernels_equal_sums_over_their_ops(tmp_path: Path) -> None:
    found = analyze(training_step(), tmp_path)
    for name in ("flops", "bytes_read", "bytes_written"):
        assert math.isclose(found.kernels[name].sum(), found.ops[name].sum())


def test_a_real_cpu_step_of_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop
    from torch.utils.flop_counter import FlopCounterMode

    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.GELU(), torch.nn.Linear(16, 3))
    block = torch.nn.Linear(8, 8)
    optimizer = torch.optim.SGD([*model.parameters(), *block.parameters()], lr=0.1, foreach=False)

    def step() -> None:
        hidden = checkpoint(block, torch.randn(4, 8, requires_grad=True), use_reentrant=False)
        torch.nn.functional.cross_entropy(model(hidden), torch.tensor([0, 1, 2, 0])).backward()
        optimizer.step()
        optimizer.zero_grad()

    with set_checkpoint_early_stop(False):
        step()
        with FlopCounterMode(display=False) as counter:
            step()
        with torch.profiler.profile(record_shapes=True) as profiler:
            step()
    profiler.export_chrome_trace(str(tmp_path / "trace.json.gz"))
    kernels = attribute(read_trace(tmp_path / "trace.json.gz")).kernels
    products = kernels[kernels["op"].isin(["aten::mm", "aten::addmm"])]
    assert products["flops"].sum() == counter.get_total_flops()
    assert {"forward", "loss", "backward", "optimizer"} <= set(kernels["phase"])
    assert set(kernels.loc[kernels["autograd"] == "recompute", "op"]) == {"aten::addmm"}
    assert set(kernels.loc[kernels["phase"] == "optimizer", "op"]) == {"aten::add_"}
    priced = kernels.loc[kernels["provenance"] != "unknown", "dur_us"].sum() / kernels["dur_us"].sum()
    assert priced > 0.95


def test_the_tables_survive_parquet(tmp_path: Path) -> None:
    kernels = analyze(training_step(), tmp_path).kernels
    kernels.to_parquet(tmp_path / "kernels.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "kernels.parquet"), kernels, check_categorical=False)


def test_importing_needs_no_torch() -> None:
    module = "edgeroof.profiler.traces.attribution"
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_start_times_keep_their_nanoseconds(tmp_path: Path) -> None:
    builder = TraceBuilder().op("aten::relu", 0, 50, SMALL).launch(1, 5).kernel(1, "relu", 60.125, 0.875)
    row = analyze(builder, tmp_path).kernels.iloc[0]
    assert np.isclose(row["start_us"], 60.125, atol=1e-9)
    assert row["dur_us"] == 0.875
