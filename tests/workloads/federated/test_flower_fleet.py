"""A fleet's report: runs come home checked, and the slow node is found, with the reason."""

import contextlib
import json
import signal
import threading
import time
from pathlib import Path

import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet
import pytest

pytest.importorskip("flwr", reason="the flower engine needs Flower: pip install 'edgeroof[federated]'")

from edgeroof import fl
from edgeroof.errors import RunError
from edgeroof.profiler.run import load
from edgeroof.reports import document_html
from edgeroof.reports.fleet import fleet_document
from edgeroof.workloads.federated.flower import fleet, tables, wire
from edgeroof.workloads.federated.flower.deployment import FlowerOptions
from edgeroof.workloads.federated.flower.fleet_server import _keep
from edgeroof.workloads.federated.flower.nodes import Node

from .command_lines import words

PHASES = {"forward": 30.0, "backward": 60.0, "optimizer": 10.0}


def node(index: int, *, device: str = "board", **factors: float) -> dict:
    """A node's facts; ``factors`` slow a phase down, ``all`` every one."""
    phases = {name: value * factors.get(name, factors.get("all", 1.0)) for name, value in PHASES.items()}
    step = sum(phases.values())
    return {
        "index": index, "device": device, "power_mode": None, "threads": factors.get("threads", 4),
        "bandwidth_gbs": 20.0, "step_ms": step, "samples_ms": [step], "tokens_per_s": 1e5 / step, "mfu": 0.2,
        "watts": None, "roof_ms": 40.0, "roof_fraction": 40.0 / step, "phases_ms": phases,
        "bounds_ms": {"memory": step * 0.7, "compute": step * 0.3}, "headline": "",
    }  # fmt: skip


def result(nodes: list[dict], failed: tuple[dict, ...] = ()) -> dict:
    return {
        "client": {"model": "tiny"}, "one_by_one": True, "nodes": nodes, "failed": list(failed),
        "classes": {name: [one["index"] for one in found] for name, found in fleet.classes(nodes).items()},
        "slow": fleet.slow_nodes(nodes),
    }  # fmt: skip


def test_one_slow_phase_is_named() -> None:
    (slow,) = fleet.slow_nodes([node(0), node(1), node(2, optimizer=8.0)])
    assert slow["index"] == 2
    assert slow["ratio"] == pytest.approx(1.7)
    assert "100% of the extra time is in optimizer, 8.0 times the median." in slow["why"]
    assert not any("machine as a whole" in reason for reason in slow["why"])


def test_a_slow_machine_is_told_from_a_slow_kernel() -> None:
    (slow,) = fleet.slow_nodes([node(0), node(1), node(2, all=3.0, threads=1)])
    assert any("machine as a whole" in reason for reason in slow["why"])
    assert "It has 1 threads, the fleet's median is 4." in slow["why"]


def test_equal_nodes_are_not_blamed() -> None:
    assert fleet.slow_nodes([node(0), node(1, all=1.1)]) == []
    assert fleet.slow_nodes([node(0)]) == []


def test_the_report_names_classes_slow_nodes_and_failures() -> None:
    nodes = [node(0), node(1), node(2, device="old <board>", all=3.0)]
    document = fleet_document(result(nodes, ({"index": 3, "failure": "was lost"},)))
    text = document_html.render(document)
    assert "Node 2 takes" in document.headlines[1]
    assert [section.title for section in document.sections] == ["Device classes", "Nodes", "The slowest", "Left out"]
    assert "<board>" not in text
    assert "was lost" in text


def test_a_fleet_without_answers_has_a_report() -> None:
    document = fleet_document(result([], ({"index": 0, "failure": "no torch"},)))
    assert document.headlines == ("No SuperNode sent a measured step.",)
    document_html.render(document)


@pytest.fixture(scope="module")
def run_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a real run of the tiny model."""
    from edgeroof.workloads.federated.flower.fleet_client import profile_step

    client = {"model": "tiny", "batch_size": 2, "source_length": 16, "target_length": 8}
    return profile_step({"client": client, "capture": {"steps": 1, "profiled_steps": 1}})


def test_runs_come_home_whole(run_files: dict, tmp_path: Path) -> None:
    run = tables.write_checked(run_files, tmp_path / "node-0")
    assert len(run.kernels) > 50
    assert sorted(path.name for path in (tmp_path / "node-0").iterdir()) == sorted(tables.FILES)
    facts = fleet.node_facts(0, run)
    assert facts["step_ms"] > 0
    assert {"forward", "backward", "optimizer"} <= facts["phases_ms"].keys()
    assert json.loads(json.dumps(facts)) == facts


def table_of(rows: int) -> bytes:
    """A small file that announces many rows."""
    sink = pa.BufferOutputStream()
    column = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int8()), ["x"])
    pa.parquet.write_table(pa.table({"name": column}), sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("kernels.parquet", b"PAR1junk", "no table"),
        ("ops.parquet", None, "missing"),
        ("phases.parquet", b"x" * (2 << 20), "larger than"),
        ("run.json", b"{}", "cannot be used"),
        ("run.json", b"\x80\x04.", "cannot be used"),
        ("kernels.parquet", "no columns", "no column"),
    ],
)
def test_files_that_are_no_run_are_refused(
    run_files: dict, tmp_path: Path, name: str, data: bytes | str | None, reason: str
) -> None:
    if data == "no columns":
        pd.DataFrame({"name": ["x"]}).to_parquet(tmp_path / "other.parquet")
        data = (tmp_path / "other.parquet").read_bytes()
    with pytest.raises(RunError, match=reason):
        tables.write_checked({**run_files, name: data}, tmp_path / "node-0")
    assert not (tmp_path / "node-0").exists()
    assert not (tmp_path / ".node-0").exists()


def test_huge_tables_are_refused_by_their_outline(
    run_files: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MOST_CELLS", 1_000_000)
    with pytest.raises(RunError, match="announces 1,000,001 rows"):
        tables.write_checked({**run_files, "ops.parquet": table_of(1_000_001)}, tmp_path / "node-0")


def test_nodes_that_sent_no_run_are_named(run_files: dict, tmp_path: Path) -> None:
    told = wire.content({"index": 0, "failure": "no memory" + "!" * 999}, {})
    arrays = {name: wire.bytes_array(data) for name, data in {**run_files, "run.json": b"{"}.items()}
    assert "no memory" in _keep(Node(1, 0, 1), told, 9.0, tmp_path)["failure"]
    assert "unusable run" in _keep(Node(1, 0, 1), wire.content({}, arrays), 9.0, tmp_path)["failure"]
    assert _keep(Node(1, 0, 1), None, 9.0, tmp_path)["failure"] == "did not answer within 9 s"


class Throttle(threading.Thread):
    """Lets a SuperNode and what it starts run a sixth of the time."""

    RUN_S, STOP_S, LOOK_S = 0.03, 0.17, 1.0

    def __init__(self, mark: str) -> None:
        super().__init__(daemon=True)
        self.mark, self.ended = mark, threading.Event()

    def run(self) -> None:
        looked, found = 0.0, []
        while not self.ended.is_set():
            if time.monotonic() - looked > self.LOOK_S:
                looked, found = time.monotonic(), self.family()
            self.send(found, signal.SIGSTOP)
            time.sleep(self.STOP_S)
            self.send(found, signal.SIGCONT)
            time.sleep(self.RUN_S)

    def family(self) -> list[psutil.Process]:
        children = psutil.Process().children(recursive=True)
        nodes = [process for process in children if self.mark in words(process)]
        return [each for node in nodes for each in [node, *node.children(recursive=True)]]

    def send(self, processes: list[psutil.Process], number: int) -> None:
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *error: object) -> None:
        self.ended.set()
        self.join()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="throttling a SuperNode needs POSIX signals")
def test_a_throttled_node_is_found(tmp_path: Path) -> None:
    """On a busy machine a sixth of the time may be what everyone gets: then it is niceness that counts."""
    client = {"model": "tiny", "batch_size": 4, "source_length": 128, "target_length": 32}
    options = FlowerOptions(node_commands={2: ("nice", "-n", "5")}, client_timeout_s=600)
    with Throttle("index=2 nodes=3"):
        found = fl.profile_fleet(nodes=3, steps=3, flower=options, out=tmp_path, **client)
    assert found["failed"] == []
    assert [one["index"] for one in found["nodes"]] == [0, 1, 2]
    slowest = found["slow"][0]
    assert slowest["index"] == 2
    assert slowest["ratio"] >= fleet.SLOW
    assert slowest["why"]
    assert all(len(load(tmp_path / f"node-{index}").kernels) > 50 for index in range(3))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "fleet.json", "node-0", "node-1", "node-2", "nodes.json", "report.html"
    ]  # fmt: skip
