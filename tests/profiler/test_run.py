import gzip
import json
from pathlib import Path

import pandas as pd
import pytest

from edgeroof.errors import RunError
from edgeroof.profiler.roofline import classify
from edgeroof.profiler.run import Run, load, save
from edgeroof.profiler.schema import OP_COLUMNS, SCHEMA_VERSION
from edgeroof.profiler.summary import Context, summarize

from .kernel_tables import DEVICE, ROOF, table


@pytest.fixture
def run() -> Run:
    context = Context(kind="imported", title="toy", command="edgeroof analyze toy.json", device=DEVICE)
    return summarize(
        classify(table({"bytes_read": 9e6}, {"flops": 1e7}), ROOF),
        pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in OP_COLUMNS.items()}),
        context,
    )


def test_round_trip(run: Run, tmp_path: Path) -> None:
    trace = tmp_path / "toy.json"
    trace.write_text('{"traceEvents": []}')
    saved = save(run, tmp_path / "runs" / "toy", trace=trace, write_report=lambda run, path: path.write_text("report"))
    again = load(saved.path)
    assert again.summary == run.summary
    pd.testing.assert_frame_equal(again.kernels, run.kernels, check_dtype=False, check_categorical=False)
    assert json.loads(gzip.decompress(again.trace_path.read_bytes())) == {"traceEvents": []}
    assert sorted(path.name for path in saved.path.iterdir()) == [
        "kernels.parquet", "ops.parquet", "phases.parquet", "report.html", "run.json", "trace.json.gz",
    ]  # fmt: skip


def test_an_older_run_is_replaced_whole(run: Run, tmp_path: Path) -> None:
    save(run, tmp_path / "toy")
    (tmp_path / "toy" / "old").write_text("")
    save(run, tmp_path / "toy")
    assert not (tmp_path / "toy" / "old").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


def test_a_linked_folder_stays_linked(run: Run, tmp_path: Path) -> None:
    save(run, tmp_path / "toy")
    (tmp_path / "latest").symlink_to("toy")
    (tmp_path / "toy" / "old").write_text("")
    save(run, tmp_path / "latest")
    assert (tmp_path / "latest").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "toy"]
    assert not (tmp_path / "toy" / "old").exists()


def test_failure_while_writing_leaves_the_older_run_and_no_litter(run: Run, tmp_path: Path) -> None:
    save(run, tmp_path / "toy")

    def full_disk(run: Run, path: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match="No space left on device"):
        save(run, tmp_path / "toy", write_report=full_disk)
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]
    load(tmp_path / "toy")


def test_interruption_leaves_nothing(run: Run, tmp_path: Path) -> None:
    def interrupt(run: Run, path: Path) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save(run, tmp_path / "toy", write_report=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_never_overwritten(run: Run, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match="not a run folder"):
        save(run, tmp_path)
    with pytest.raises(RunError, match="is a file"):
        save(run, tmp_path / "thesis.tex")


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "damaged"), ("[]", "damaged"), ("{}", "damaged"), ('{"schema_version": 99}', "schema version 99")],
)
def test_damaged_summaries(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError, match=message):
        load(tmp_path)


@pytest.mark.parametrize(
    ("place", "value", "named"),
    [
        ("profiled_steps", 0, "profiled_steps"),
        ("kind", "\x1b[31mred", "kind"),
        ("device", None, "device"),
        ("bounds", [{}], r"bounds\[0\]"),
        ("headroom", [5], r"headroom\[0\]"),
        ("warnings", "one", "warnings"),
        ("ledger", {"kernel_us": "long"}, "kernel_us"),
        ("title", float("nan"), "damaged"),
        ("profiled_steps", float("inf"), "damaged"),
    ],
)
def test_summaries_with_a_wrong_entry(place: str, value: object, named: str, run: Run, tmp_path: Path) -> None:
    save(run, tmp_path / "toy")
    (tmp_path / "toy" / "run.json").write_text(json.dumps(run.summary | {place: value}))
    with pytest.raises(RunError, match=named):
        load(tmp_path / "toy")


@pytest.mark.parametrize("change", [{"dur_us": "long"}, {"bound": None}])
def test_tables_with_a_wrong_column(change: dict[str, str | None], run: Run, tmp_path: Path) -> None:
    save(run, tmp_path / "toy")
    (column, value) = next(iter(change.items()))
    damaged = run.kernels.drop(columns=column) if value is None else run.kernels.assign(**{column: value})
    damaged.to_parquet(tmp_path / "toy" / "kernels.parquet")
    with pytest.raises(RunError, match=rf"kernels\.parquet is damaged: .*{column}"):
        load(tmp_path / "toy")


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("kernels", "dur_us", float("nan")),
        ("kernels", "dur_us", float("inf")),
        ("kernels", "dur_us", -1.0),
        ("kernels", "module", None),
        ("phases", "device_ms", float("inf")),
    ],
)
def test_tables_with_senseless_values(table: str, column: str, value: float | None, run: Run, tmp_path: Path) -> None:
    save(run, tmp_path / "toy")
    getattr(run, table).assign(**{column: value}).to_parquet(tmp_path / "toy" / f"{table}.parquet")
    with pytest.raises(RunError, match=rf"{table}\.parquet is damaged: column '{column}'"):
        load(tmp_path / "toy")


def test_damaged_table(run: Run, tmp_path: Path) -> None:
    save(run, tmp_path / "toy")
    (tmp_path / "toy" / "kernels.parquet").write_bytes(b"not parquet")
    with pytest.raises(RunError, match=r"kernels\.parquet is missing or damaged"):
        load(tmp_path / "toy")


def test_missing_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run folder"):
        load(tmp_path / "nowhere")


def test_summary_has_no_nan(run: Run) -> None:
    json.dumps(run.summary, allow_nan=False)
    assert run.summary["schema_version"] == SCHEMA_VERSION
