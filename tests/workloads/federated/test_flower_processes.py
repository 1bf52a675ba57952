"""Processes end with what they started, however this one ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from edgeroof.errors import FederatedError
from edgeroof.workloads.federated.flower.processes import Processes, free_ports

SLEEPS = "import time; print('started', flush=True); time.sleep(600)"
#: Starts a grandchild in a session of its own and writes its number.
FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
open(sys.argv[1], "w").write(str(child.pid))
time.sleep(600)
"""
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)


def wait_for(condition: object, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_grandchildren_in_sessions_of_their_own_end_too(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    with Processes(tmp_path) as processes:
        processes.start("family", [sys.executable, "-c", FAMILY, str(note)], os.environ)
        wait_for(lambda: note.exists() and note.read_text())
        pid = int(note.read_text())
        assert not gone(pid)
    assert gone(pid)


def test_a_process_that_ignores_the_polite_way_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeroof.workloads.federated.flower.processes.GRACE_S", 0.3)
    with Processes(tmp_path) as processes:
        started = processes.start("stubborn", [sys.executable, "-c", STUBBORN], os.environ)
        wait_for(lambda: "up" in processes.log_tail("stubborn"))
        assert not gone(started.pid)
    assert gone(started.pid)


def test_an_early_end_is_told_with_the_log(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        processes.start(
            "short", [sys.executable, "-c", "print('no port left'); raise SystemExit(3)"], os.environ
        ).wait()
        with pytest.raises(FederatedError, match=r"short ended with code 3:\nno port left"):
            processes.check("short")


def test_a_missing_command_is_told(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes, pytest.raises(FederatedError, match="could not be started"):
        processes.start("x", ["/nowhere/flower-superlink"], os.environ)


PARENT = """
import os, sys, time
from pathlib import Path
from edgeroof.workloads.federated.flower.processes import Processes
with Processes(Path(sys.argv[1])) as processes:
    child = processes.start("child", [sys.executable, "-c", sys.argv[2]], os.environ)
    (Path(sys.argv[1]) / "pid").write_text(str(child.pid))
    time.sleep(600)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's help is Linux's")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_orphans_when_the_parent_is_killed(tmp_path: Path, how: signal.Signals) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path), SLEEPS], stderr=subprocess.DEVNULL)
    try:
        note = tmp_path / "pid"
        wait_for(lambda: note.exists() and note.read_text())
        child = int(note.read_text())
        assert not gone(child)
    finally:
        parent.send_signal(how)
        parent.wait()
    wait_for(lambda: gone(child))


def test_ports_are_different() -> None:
    assert len(set(free_ports(5))) == 5
