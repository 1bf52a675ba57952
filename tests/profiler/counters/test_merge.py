from __future__ import annotations

import math

import pandas as pd
import pytest

from edgeroof import api
from edgeroof.errors import CounterError, EdgeroofError
from edgeroof.profiler.counters import Launch, merge_counters
from edgeroof.profiler.counters.names import function_name
from edgeroof.profiler.roofline import classify
from edgeroof.profiler.schema import OP_COLUMNS
from edgeroof.profiler.summary import Context, summarize

from ..kernel_tables import DEVICE, ROOF, table
from .ncu_csv import moved, raw_page, write

MM = "void cutlass::Kernel2<(int)3, cutlass::gemm<float>>(cutlass::Params)"
ADD = "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>>(int, float*)"


def run_of(*kernels, steps=1):
    placed = [{"start_us": 100.0 * i} | kernel for i, kernel in enumerate(kernels)]
    classified = classify(table(*placed), ROOF)
    ops = pd.DataFrame(columns=list(OP_COLUMNS)).astype(OP_COLUMNS)
    return summarize(classified, ops, Context("measured", "a run", "", DEVICE, steps=steps))


def kernel(name, op, moved=2e6, **more):
    return {"name": name, "op": op, "bytes_read": moved / 2, "bytes_written": moved / 2, "flops": 1e6} | more


@pytest.mark.parametrize(
    ("name", "function"),
    [
        (ADD, "vectorized_elementwise_kernel"),
        (MM, "Kernel2"),
        ("ampere_sgemm_128x64_nn", "ampere_sgemm_128x64_nn"),
        ("void (anonymous namespace)::softmax_warp<float, 5>(float*)", "softmax_warp"),
        ("std::enable_if<!(false), void>::type internal::gemvx::kernel<int, int, float>(P)", "kernel"),
        ("_fused_adamw", "_fused_adamw"),
        ("", ""),
    ],
)
def test_function_names(name, function):
    assert function_name(name) == function


def test_counters_replace_our_bytes_and_say_so():
    run = run_of(kernel(MM, "aten::mm", dur_us=40.0), kernel(ADD, "aten::add", dur_us=60.0))
    merged = merge_counters(
        run, [Launch("Kernel2", bytes_read=3e6, bytes_written=1e6), Launch("other", bytes_read=1.0)]
    )
    first, second = merged.run.kernels.to_dict("records")
    assert (first["bytes_read"], first["bytes_written"], first["flops"]) == (3e6, 1e6, 1e6)
    assert (first["provenance"], second["provenance"]) == ("counter", "exact")
    assert first["t_memory_us"] == pytest.approx(4e6 / ROOF.bandwidth * 1e6)
    assert second["bytes_read"] == 1e6
    assert merged.run.summary["ledger"]["priced_share"]["counter"] == pytest.approx(0.4)
    assert merged.run.phases["bytes"].sum() == pytest.approx(6e6)
    assert "1 of 2 kernels" in merged.describe()
    assert run.kernels["provenance"].tolist() == ["exact", "exact"]  # the run that was given is as it was


def test_kernels_match_by_name_and_order_in_every_step():
    sequence = [MM, ADD, ADD, MM]
    kernels = [
        kernel(name, "aten::x", step=step, start_us=10.0 * i) for step in (0, 1) for i, name in enumerate(sequence)
    ]
    launches = [Launch(function_name(name), bytes_read=float(i), bytes_written=0.0) for i, name in enumerate(sequence)]
    stray = Launch("warm_up", bytes_read=99.0, bytes_written=0.0)
    merged = merge_counters(run_of(*kernels, steps=2), [stray, *launches[:2], stray, *launches[2:]])
    assert merged.run.kernels["bytes_read"].tolist() == [0, 1, 2, 3] * 2
    assert (merged.matched, merged.used, merged.launches) == (8, 4, 6)


def test_a_profile_of_many_steps_and_one_of_few_kernels():
    names = [MM, ADD] * 1500
    run = run_of(*(kernel(name, "aten::x", dur_us=1.0) for name in names))
    many = [Launch(function_name(name), bytes_read=1.0, bytes_written=1.0) for name in names * 3]
    assert merge_counters(run, many).matched == len(names)
    assert merge_counters(run, many[:3]).matched == 3


def test_copies_are_no_kernels():
    run = run_of(kernel("Memcpy DtoD", "aten::copy_", kind="memcpy"))
    with pytest.raises(CounterError, match="no GPU kernels"):
        merge_counters(run, [Launch("Memcpy DtoD", bytes_read=1.0, bytes_written=1.0)])


def test_counters_of_something_else_are_refused():
    with pytest.raises(CounterError, match="not of the same step"):
        merge_counters(run_of(kernel(MM, "aten::mm")), [Launch("foo", bytes_read=1.0, bytes_written=1.0)])


def test_the_table_says_why_counts_differ():
    run = run_of(
        kernel("a", "aten::mm", unit="tensor", dtype="bf16"), kernel("b", "aten::add"), kernel("c", "aten::mul"),
        kernel("d", "aten::sum", flops=0.0),
    )  # fmt: skip
    flops = {"fp32": 0.0, "tensor bf16": 1.5e6}
    merged = merge_counters(
        run,
        [
            Launch("a", bytes_read=1e6, bytes_written=1e6, flops=flops),
            Launch("b", bytes_read=1e5, bytes_written=1e5, l2_hit_share=0.8, l2_bytes=1e6),
            Launch("c", bytes_read=4e6, bytes_written=1e6),
            Launch("d"),
        ],
    )
    rows = merged.table.set_index("op")
    assert rows.loc["aten::mm", "bytes_ratio"] == 1
    assert rows.loc["aten::mm", "flops_ratio"] == 1.5
    assert "padded" in rows.loc["aten::mm", "reason"]
    assert "80% of sectors hit" in rows.loc["aten::add", "reason"]
    assert "read again" in rows.loc["aten::mul", "reason"]
    assert "no counter" in rows.loc["aten::sum", "reason"]
    assert math.isnan(rows.loc["aten::sum", "counter_bytes"])
    assert merged.run.kernels["provenance"].tolist() == ["counter", "counter", "counter", "exact"]


def test_a_run_folder_gets_counters_from_the_command_line(tmp_path, capsys):
    from edgeroof.cli import run_command
    from edgeroof.profiler.run import save

    save(run_of(kernel(MM, "aten::mm"), kernel(ADD, "aten::add")), tmp_path / "run")
    counters = write(tmp_path, raw_page([("Kernel2", moved("3.00")), ("vectorized_elementwise_kernel", moved("1.00"))]))
    arguments = ["analyze", str(tmp_path / "run"), "--ncu", str(counters), "--out", str(tmp_path / "merged")]
    assert run_command(arguments) == 0
    shown = capsys.readouterr().out
    assert "2 of 2 kernels of the run found counters" in shown
    loaded = api.load(tmp_path / "merged")
    assert loaded.kernels["bytes_read"].tolist() == [3e6, 1e6]
    assert loaded.summary["counters"]["ops"][0]["op"] == "aten::mm"
    assert run_command(["analyze", str(tmp_path / "run")]) == 2
    assert issubclass(CounterError, EdgeroofError)
