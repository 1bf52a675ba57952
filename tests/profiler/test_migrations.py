import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet
import pytest

from edgeroof.errors import RunError
from edgeroof.profiler import migrations, run_tables
from edgeroof.profiler.migrations import Migration, migrate_summary
from edgeroof.profiler.run import Run, load, save
from edgeroof.profiler.run_tables import TABLES, VERSION_KEY
from edgeroof.profiler.schema import SCHEMA_VERSION

#: A run as version 1 wrote it, by hand: the smallest that is one.
VERSION_1: dict[str, Any] = {
    "schema_version": 1,
    "kind": "measured",
    "title": "toy step on a toy",
    "created": "2026-11-01T10:00:00+00:00",
    "command": "edgeroof profile --model toy",
    "profiled_steps": 1,
    "device": {
        "name": "toy", "title": "A toy", "kind": "cpu", "roof_used": "spec",
        "roofs": [{"source": "spec", "bandwidth_gbs": 10.0, "launch_floor_us": 1.0,
                   "peaks_gflops": {"vector": {"fp32": 100.0}}}],
    },
    "environment": {"edgeroof": "0.1.0"},
    "workload": {"model": "toy", "batch_size": 1},
    "answer": {"headline": "All of it is held by memory.", "details": []},
    "metrics": {
        "step_time_ms": {"median": 1.0, "p25": 1.0, "p75": 1.0, "min": 1.0, "max": 1.0, "samples": [1.0]},
        "power": {"available": False, "reason": "no meter"},
    },
    "ledger": {"kernel_us": 1000.0, "kernels": 1, "linked_share": 1.0, "priced_share": {"exact": 1.0}},
    "bounds": [{"bound": "memory", "dur_us": 1000.0, "share": 1.0, "headroom_us": 100.0, "kernels": 1}],
    "headroom": [],
    "optimizer": {"found": False, "reason": "none"},
    "timing": None,
    "alignment": None,
    "warnings": [],
}  # fmt: skip


def a_row(columns: dict[str, str]) -> pd.DataFrame:
    values = {"category": "memory", "object": "forward", "bool": True, "float64": 1.5, "int32": 0, "int64": 0}
    return pd.DataFrame({name: pd.Series([values[dtype]], dtype=dtype) for name, dtype in columns.items()})


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A run folder of version 1; its tables carry no version."""
    folder = tmp_path / "older"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(VERSION_1))
    for name, columns in TABLES.items():
        a_row(columns).to_parquet(folder / f"{name}.parquet", index=False)
    return folder


def test_a_run_of_version_1_still_loads(older: Path) -> None:
    run = load(older)
    assert run.summary["schema_version"] == SCHEMA_VERSION
    assert run.summary["trace"] is None
    assert run.summary["metrics"]["phase_samples_ms"] == {}
    unchanged = set(VERSION_1) - {"schema_version", "metrics"}
    assert {name: run.summary[name] for name in unchanged} == {name: VERSION_1[name] for name in unchanged}
    assert run.kernels["dur_us"].tolist() == [1.5]
    assert json.loads((older / "run.json").read_text())["schema_version"] == 1  # nothing in the folder changes


def test_saving_an_older_run_converts_its_folder(older: Path) -> None:
    before = load(older)
    (older / "trace.json.gz").write_bytes(b"whatever it was")
    save(load(older), older, trace=older / "trace.json.gz")
    assert json.loads((older / "run.json").read_text())["schema_version"] == SCHEMA_VERSION
    after = load(older)
    assert after.summary == before.summary
    pd.testing.assert_frame_equal(after.kernels, before.kernels)
    assert after.trace_path is not None  # kept as it is: nothing says how its times relate to the table


def test_tables_carry_the_version(older: Path, tmp_path: Path) -> None:
    save(load(older), tmp_path / "new")
    for name in TABLES:
        metadata = pyarrow.parquet.read_schema(tmp_path / "new" / f"{name}.parquet").metadata
        assert metadata[VERSION_KEY] == str(SCHEMA_VERSION).encode()


def test_tables_of_another_version_than_the_summary_are_refused(older: Path, tmp_path: Path) -> None:
    save(load(older), tmp_path / "new")
    (tmp_path / "new" / "run.json").write_text(json.dumps(VERSION_1))
    with pytest.raises(RunError, match=r"kernels\.parquet has schema version 2, the summary beside it 1"):
        load(tmp_path / "new")


@pytest.mark.parametrize(
    ("version", "message"),
    [(SCHEMA_VERSION + 1, "newer than .*: update edgeroof"), (0, "too old .* edgeroof analyze")],
)
def test_versions_that_cannot_be_read_say_what_to_do(version: int, message: str, older: Path) -> None:
    (older / "run.json").write_text(json.dumps(VERSION_1 | {"schema_version": version}))
    with pytest.raises(RunError, match=rf"run\.json cannot be used: it has schema version {version}, {message}"):
        load(older)


def test_a_damaged_summary_of_an_older_version_is_told_as_damaged(older: Path) -> None:
    (older / "run.json").write_text(json.dumps(VERSION_1 | {"metrics": "none"}))
    with pytest.raises(RunError, match=r"damaged.*metrics"):
        load(older)


def test_versions_are_passed_through_one_by_one(older: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def renamed(tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
        return tables | {"phases": tables["phases"].rename(columns={"phase": "stage"})}

    newest = SCHEMA_VERSION + 1
    for module in (migrations, run_tables):
        monkeypatch.setattr(module, "SCHEMA_VERSION", newest)
    steps = {SCHEMA_VERSION: Migration(summary=lambda summary: summary | {"colour": "red"}, tables=renamed)}
    monkeypatch.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS | steps)
    monkeypatch.setitem(TABLES, "phases", {"stage": "object"})
    run = load(older)
    assert run.summary["colour"] == "red"
    assert run.summary["trace"] is None
    assert run.summary["schema_version"] == newest
    assert run.phases["stage"].tolist() == ["forward"]


def test_the_given_summary_is_left_alone() -> None:
    before = json.dumps(VERSION_1)
    migrate_summary(VERSION_1, 1)
    assert json.dumps(VERSION_1) == before


def test_a_run_without_a_drawer_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeroof.errors import UsageError
    from edgeroof.profiler import views

    monkeypatch.setattr(views, "_drawers", {})
    with pytest.raises(UsageError, match="import edgeroof"):
        Run({}, pd.DataFrame(), pd.DataFrame(), pd.DataFrame()).roofline()
