from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeroof.errors import CounterError
from edgeroof.profiler.counters import read_counters

from .ncu_csv import UNITS, moved, raw_page, write

GEMM = "void cutlass::Kernel2<cutlass_80_tensorop_s1688gemm>(T1::Params)"


#: As ``ncu --csv --metrics …`` prints it: one row a metric, with lines of the profiler in between.
DETAILS = """==PROF== Connected to process 4711
"ID","Process ID","Kernel Name","Section Name","Metric Name","Metric Unit","Metric Value"
"0","4711","first(float*)","Command line profiler metrics","dram__bytes_read.sum","Mbyte","1,000.50"
"0","4711","first(float*)","Command line profiler metrics","gpu__time_duration.sum","us","12.5"
==PROF== Profiling "second"
"1","4711","second(int)","Command line profiler metrics","dram__bytes_read.sum","Kbyte","2"
"1","4711","second(int)","Command line profiler metrics","gpu__time_duration.sum","ms","1"
"""


def read(folder, launches, **options):
    return read_counters(write(folder, raw_page(launches, **options)))


def test_units_and_thousands_separators(tmp_path):
    metrics = moved("1,234.50", "67,108.86", "3,456.7") | {"lts__t_sectors.sum": "2,000,000"}
    (launch,) = read(tmp_path, [(GEMM, metrics)])
    assert launch.name == GEMM
    assert launch.duration_us == pytest.approx(3456.7)
    assert launch.bytes_read == pytest.approx(1234.5e6)
    assert launch.bytes_written == pytest.approx(67108.86e3)
    assert launch.l2_bytes == 64e6


@pytest.mark.parametrize(
    ("unit", "us"), [("nsecond", 0.01), ("ns", 0.01), ("usecond", 10), ("ms", 1e4), ("second", 1e7)]
)
def test_time_units_of_old_and_new_releases(tmp_path, unit, us):
    (launch,) = read(tmp_path, [("k", moved(us="10"))], units=UNITS | {"gpu__time_duration.sum": unit})
    assert launch.duration_us == pytest.approx(us)


def test_missing_metrics_stay_unknown(tmp_path):
    first, second = read(tmp_path, [("a", moved()), ("b", moved(read_mb="n/a", us=""))])
    assert first.bytes_read == 1e6
    assert second.bytes_read is None
    assert second.duration_us is None
    assert second.bytes_written == 0
    assert first.total_flops is None


def test_sectors_stand_in_for_bytes(tmp_path):
    metrics = {"gpu__time_duration.sum": "1", "dram__sectors_read.sum": "1,000", "dram__sectors_write.sum": "10"}
    (launch,) = read(tmp_path, [("k", metrics)])
    assert (launch.bytes_read, launch.bytes_written) == (32_000, 320)


def test_flops_need_both_kinds_of_units(tmp_path):
    vector = {
        "smsp__sass_thread_inst_executed_op_fadd_pred_on.sum": "100",
        "smsp__sass_thread_inst_executed_op_fmul_pred_on.sum": "20",
        "smsp__sass_thread_inst_executed_op_ffma_pred_on.sum": "3",
    }
    tensor = {"sm__ops_path_tensor_src_bf16_dst_fp32.sum": "4,096"}
    (launch,) = read(tmp_path, [("k", vector)])
    assert launch.flops == {"fp32": 126}
    assert launch.total_flops is None
    (launch,) = read(tmp_path, [("k", vector | tensor)])
    assert launch.total_flops == 126 + 4096


def test_instructions_for_halves_work_on_pairs(tmp_path):
    halves = {f"smsp__sass_thread_inst_executed_op_h{name}_pred_on.sum": "10" for name in ("add", "mul", "fma")}
    (launch,) = read(tmp_path, [("k", halves)])
    assert launch.flops == {"fp16": 10 * (2 + 2 + 4)}


def test_instructions_counted_by_sm_and_by_its_quarters_count_once(tmp_path):
    counted = {f"{unit}__sass_thread_inst_executed_op_ffma_pred_on.sum": "50" for unit in ("sm", "smsp")}
    (launch,) = read(tmp_path, [("k", counted)])
    assert launch.flops == {"fp32": 100}
    (launch,) = read(tmp_path, [("k", {"sm__sass_thread_inst_executed_op_ffma_pred_on.sum": "50"})])
    assert launch.flops == {"fp32": 100}


def test_the_details_page_has_one_row_a_metric(tmp_path):
    first, second = read_counters(write(tmp_path, DETAILS))
    assert (first.name, second.name) == ("first(float*)", "second(int)")
    assert (first.bytes_read, second.bytes_read) == (1000.5e6, 2e3)
    assert (first.duration_us, second.duration_us) == (12.5, 1e3)


@pytest.mark.parametrize(
    ("read_mb", "us"),
    [("1.234,50", "3.456,7"), ("1 234,50", "3456,7"), ("1\u202f234,50", "3\u202f456,7"), ("1'234.50", "3'456.7")],
)
def test_numbers_of_other_locales(tmp_path, read_mb, us):
    (launch,) = read(tmp_path, [("k", moved(read_mb, "0", us))])
    assert (launch.bytes_read, launch.duration_us) == (pytest.approx(1234.5e6), pytest.approx(3456.7))


def test_one_telling_number_decides_for_a_file(tmp_path):
    german = [("a", moved("27.595.520", us="117.344")), ("b", moved("1,5", us="2"))]
    first, second = read(tmp_path, german)
    assert (first.duration_us, first.bytes_read) == (117_344, 27_595_520e6)
    assert second.bytes_read == 1.5e6
    (english,) = read(tmp_path, [("a", moved("27.5", us="117.344"))])
    assert english.duration_us == 117.344


def test_launches_keep_their_order(tmp_path):
    names = [f"kernel_{i}" for i in range(5)]
    assert [launch.name for launch in read(tmp_path, [(name, moved()) for name in names])] == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no header with ID and Kernel Name"),
        ("hello\nworld\n", "no header"),
        ('"ID","Kernel Name","Metric Name","Metric Value"\n', "details page of ncu without Metric Unit"),
        (DETAILS.replace("gpu__time_duration.sum", "Duration").replace("dram__", "DRAM "), "none of the metrics"),
        (DETAILS.splitlines()[1] + "\n", "no launches"),
        ('"ID","Kernel Name","sm__x.sum"\n"","","inst"\n', "none of the metrics"),
        (raw_page([("k", moved())]).replace('"us"', '"furlong"'), "'furlong', a unit"),
        (
            raw_page([("k", moved(us="1.234,56"))]),
            "line 4: gpu__time_duration.sum is '1.234,56', which is not a number",
        ),
        (raw_page([("k", moved(us="-1"))]), "no counter can be"),
        (raw_page([("k", moved(us="1e999"))]), "no counter can be"),
        (raw_page([("k", moved())])[:-8] + "\n", "values under|not a number|not a CSV"),
        ("\n".join(raw_page([("k", moved())]).splitlines()[:3]) + "\n", "no launches"),
        ("\n".join(raw_page([("k", moved())]).splitlines()[:2]) + "\n", "no row of units"),
        ("\x00\x01" * 100, "no header|not a CSV"),
    ],
)
def test_what_is_no_raw_page_is_refused(tmp_path, text, message):
    with pytest.raises(CounterError, match=message):
        read_counters(write(tmp_path, text))


def test_a_missing_file_and_a_report_without_its_package(tmp_path):
    with pytest.raises(CounterError, match="cannot read"):
        read_counters(tmp_path / "nothing.csv")
    report = tmp_path / "x.ncu-rep"
    report.write_bytes(b"NVR\x00damaged")
    with pytest.raises(CounterError, match=r"ncu-report"):
        read_counters(report)


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("ncu") / "ncu.csv"
    path.write_bytes(b'"ID","Kernel Name","dram__bytes_read.sum"\n"","","byte"\n' + data)
    try:
        launches = read_counters(path)
    except CounterError:
        return
    assert launches
