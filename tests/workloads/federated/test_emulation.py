"""Emulated links against the model; what needs root, namespaces and tbf skips with a reason elsewhere."""

import os
import subprocess
import sys

import pytest

from edgeroof.errors import FederatedError
from edgeroof.workloads.federated import emulated_table, emulation
from edgeroof.workloads.federated.emulation import check_allowed, emulate, refusal, way_of
from edgeroof.workloads.federated.emulation_namespaces import PREFIX, namespaces, run_tool, sweep
from edgeroof.workloads.federated.granularity_table import Traffic
from edgeroof.workloads.federated.links import PRESETS, Link
from edgeroof.workloads.federated.payloads import Coding


@pytest.fixture
def allowed() -> None:
    reason = refusal()
    if reason:
        pytest.skip(f"links cannot be emulated: {reason}")


def made() -> set[str]:
    return {line.split()[0] for line in run_tool("ip", "netns", "list").splitlines() if line.startswith(PREFIX)}


def own() -> set[str]:
    return {name for name in made() if name.startswith(f"{PREFIX}{os.getpid()}-")}


@pytest.mark.usefixtures("allowed")
def test_a_small_message_takes_its_round_trips() -> None:
    transfer = emulate(20_000, Link("test", "test", 20, 20, 100), "up")
    assert transfer.size == 20_000
    assert 0.25 < transfer.measured_s < 2
    assert not own()


@pytest.mark.usefixtures("allowed")
def test_long_messages_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulation, "MOST_SECONDS", 0.2)
    transfer = emulate(10**9, PRESETS["lte"], "down")
    assert transfer.asked == 10**9
    assert transfer.size == int(0.2 * PRESETS["lte"].rate("down"))


@pytest.mark.usefixtures("allowed")
def test_namespaces_go_whatever_happens() -> None:
    def fail() -> None:
        with namespaces(2) as names:
            assert set(names) == own()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not own()


@pytest.mark.usefixtures("allowed")
def test_namespaces_of_killed_processes_are_swept() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    stale, alive = f"{PREFIX}{gone.pid}-0", f"{PREFIX}{os.getpid()}-alive"
    for name in (stale, alive):
        run_tool("ip", "netns", "add", name)
    try:
        assert stale in sweep()
        assert stale not in made()
        assert alive in made()
    finally:
        run_tool("ip", "netns", "delete", alive)


def test_without_root_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(FederatedError, match=r"root|Linux"):
        check_allowed()


def test_too_fast_links_are_not_emulated() -> None:
    assert way_of(PRESETS["10g"]) is None
    with pytest.raises(FederatedError, match="too fast"):
        emulate(1, PRESETS["10g"], "up")


@pytest.mark.slow
@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize("megabytes", [4, 40])
def test_lte_is_as_the_model_says(megabytes: int) -> None:
    if way_of(PRESETS["lte"]) == "veth":
        pytest.skip("neither netem nor a TUN device delays packets here")
    transfer = emulate(megabytes * 10**6, PRESETS["lte"], "up")
    assert transfer.size == megabytes * 10**6
    assert abs(transfer.error) < 0.1


def test_messages_that_are_cut_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that are cut to the same length are sent once, and both are told."""
    monkeypatch.setattr(emulated_table, "way_of", lambda link: "tun")
    monkeypatch.setattr(
        emulated_table,
        "emulate",
        lambda size, link, direction, way: emulation.Transfer(link.name, direction, size, size, 1.0, 1.0, way),
    )
    most = int(emulated_table.MOST_SECONDS * PRESETS["lte"].rate("up"))
    traffic = [Traffic("m", None, str(size), Coding(size, 1.0, 1, 1), 5) for size in (7, 2 * most, 3 * most)]
    found = emulated_table.emulate_all(traffic, [PRESETS["lte"]], lambda *told: None)
    assert sorted(transfer["size"] for transfer in found["transfers"]) == [5, 7, most]
    assert found["cut"] == [
        {"link": "lte", "direction": "up", "asked": asked, "sent": most} for asked in (2 * most, 3 * most)
    ]
