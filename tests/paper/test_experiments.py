"""What the parts are made from: dry runs that devices share, and clients whose step times are known already."""

from pathlib import Path

import pytest

from edgeroof import fl, project
from edgeroof.paper.experiments import build_parts
from edgeroof.paper.plan import FULL, TOPICS
from edgeroof.workloads import dry
from edgeroof.workloads.federated.compute_time import given_step
from edgeroof.workloads.federated.granularity_cases import Wanted
from edgeroof.workloads.federated.granularity_table import Case

STEP = {"model": "tiny", "batch_size": 2, "source_length": 32, "target_length": 16}


def test_devices_share_a_dry_run(monkeypatch: pytest.MonkeyPatch) -> None:
    made, real = [], dry.dry_step
    monkeypatch.setattr(dry, "dry_step", lambda *args, **kwargs: made.append(kwargs) or real(*args, **kwargs))
    found = list(project.dry_runs(["orin", "a100", "t4"], **STEP))
    assert [device.name for device, _ in found] == ["orin", "a100", "t4"]
    assert len(made) == 2  # a T4 has no flash attention, so its ops are others
    run = project.on_device(found[1][1], found[1][0])
    alone = project.client_step("a100", largest_batch=False, **STEP)
    for name in ("step_time_ms", "phases", "memory"):
        assert run.summary["projection"][name] == alone.summary["projection"][name]


def test_the_hosts_timer_is_that_of_the_whole_step() -> None:
    ((device, recorded),) = project.dry_runs(["orin"], **STEP)
    said = project.host_timer(recorded, device)
    step = project.on_device(recorded, device).summary["projection"]["step_time_ms"]["value"]
    assert set(said) == {"forward", "loss", "backward", "optimizer"}
    assert sum(said.values()) == pytest.approx(step, rel=0.01)


def test_granularity_of_clients_that_are_known(tmp_path: Path) -> None:
    case = Case("tiny", None, "orin", given_step(100.0), 10)
    result = fl.compare_links(Wanted(models=("tiny",)), cases=[case], links=["lte"], codecs=["none"], out=tmp_path)
    assert [entry["compute_s"] for entry in result["cases"]] == [1.0]
    (row,) = result["rows"]
    assert row["granularity"] == pytest.approx(1.0 / row["communication_s"])


def test_every_topic_has_parts_of_its_own_name(tmp_path: Path) -> None:
    parts = build_parts(FULL, tmp_path)
    assert {part.topic for part in parts} == set(TOPICS)
    assert len({part.name for part in parts}) == len(parts)
    assert not any(part.done() for part in parts)
    assert sum(part.seconds for part in parts) < 15 * 60
