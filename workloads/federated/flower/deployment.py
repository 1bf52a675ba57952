"""Submits a job to Flower and waits for it: to a SuperLink that is there, or to one started on this machine."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from ....errors import FederatedError, UsageError
from ..rounds import Progress
from . import status
from .app_folder import CONNECTION, App, write_app, write_connection
from .processes import Processes, free_ports

#: Flower changes its commands between minor releases; this one is tested.
FLOWER = "1.41"
#: For the SuperLink to answer, and for the server's process to say its first word.
START_S = 120.0
_POLL_S = 0.2
#: Pause between questions to a SuperLink, each of which is a fresh process.
_ASK_S = 15.0
_HELP = "install it with: pip install 'edgeroof[federated]' (Python 3.11 or newer)"


@dataclass(frozen=True)
class FlowerOptions:
    """How Flower is used.

    Attributes:
        superlink: ``host:port`` of one that is there; ``None`` starts one on this machine, with its SuperNodes.
        root_certificates: PEM file that the SuperLink's certificate is checked with.
        nodes: SuperNodes to start, or to wait for; ``None`` for as many as clients are asked in a round.
        client_timeout_s: for a client to answer.
        app: what Flower runs; another one only in tests.
        node_commands: put before the command of a SuperNode, such as ``taskset -c 0``, by its index.

    Raises:
        UsageError: on construction, when a value makes no sense.
    """

    superlink: str | None = None
    root_certificates: Path | None = None
    nodes: int | None = None
    client_timeout_s: float = 1800.0
    app: App = field(default_factory=App)
    node_commands: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.nodes is not None and self.nodes < 1:
            raise UsageError(f"--nodes is {self.nodes}; it must be at least 1")
        if not self.client_timeout_s > 0:
            raise UsageError(f"--client-timeout is {self.client_timeout_s}; it must be above 0")
        if self.root_certificates is not None and not self.root_certificates.is_file():
            raise UsageError(f"no such certificate file: {self.root_certificates}")
        if self.root_certificates is not None and self.superlink is None:
            raise UsageError("--root-certificates goes with --superlink: the one started here is not left by anything")


def run_job(job: str, task: str, folder: Path, nodes: int, options: FlowerOptions, on_progress: Progress) -> None:
    """Have Flower do a job and wait until it is done.

    Args:
        job: ``rounds`` or ``profile``.
        task: what it is about, as JSON.
        folder: for its results, on the SuperLink's machine.
        nodes: SuperNodes to start, or to wait for.
        options: how Flower is used.
        on_progress: told what is being done.

    Raises:
        FederatedError: Flower is not installed, cannot be reached, or the job failed.
    """
    check_flower()
    folder = folder.resolve()
    status.clear(folder)
    settings: dict[str, str | int | float] = {
        "job": job,
        "task": task,
        "folder": str(folder),
        "nodes": nodes,
        "timeout": options.client_timeout_s,
    }
    with tempfile.TemporaryDirectory(prefix="edgeroof-flower-") as scratch:
        home, app = Path(scratch) / "home", Path(scratch) / "app"
        env = flower_environment(home)
        write_app(app, options.app, settings)
        with _superlink(Path(scratch), nodes, options, env, on_progress) as (address, processes):
            insecure = options.root_certificates is None and _is_loopback(address)
            write_connection(home, address, options.root_certificates, insecure)
            on_progress("handing the job to Flower", 0, 1)
            run_id = _submit(app, env)
            try:
                _follow(folder, run_id, env, processes, on_progress)
            except BaseException:
                if processes is None:  # else it ends with its SuperLink
                    _stop(run_id, env)
                raise
    status.clear(folder)


def check_flower() -> None:
    """Check that Flower is here.

    Raises:
        FederatedError: it is not, or in a version that edgeroof has not been tested with.
    """
    try:
        version = importlib.metadata.version("flwr")
    except importlib.metadata.PackageNotFoundError as error:
        raise FederatedError(f"the flower engine needs Flower, which is not installed; {_HELP}") from error
    if not version.startswith(f"{FLOWER}."):
        raise FederatedError(f"Flower {version} is installed, the engine needs {FLOWER}; {_HELP}")


def flower_environment(home: Path) -> dict[str, str]:
    """The environment of Flower's processes: its own home, and nothing is sent to anyone else."""
    beside = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": os.pathsep.join([beside, os.environ.get("PATH", os.defpath)]),
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.05",
        "KINETO_LOG_LEVEL": "6",
    }


@contextlib.contextmanager
def _superlink(
    scratch: Path, nodes: int, options: FlowerOptions, env: dict[str, str], on_progress: Progress
) -> Iterator[tuple[str, Processes | None]]:
    """The address of the SuperLink, and its processes where it was started here."""
    if options.superlink is not None:
        yield options.superlink, None
        return
    with Processes(scratch / "logs") as processes:
        port, *node_ports = free_ports(nodes + 1)
        on_progress("starting Flower's SuperLink", 0, 1)
        link = [_tool("flower-superlink"), "--insecure", "--host", "127.0.0.1", "--port", str(port)]
        processes.start("superlink", [*link, "--disable-runtime-dependency-installation"], env)
        _wait_until_healthy(port, processes)
        on_progress(f"starting {nodes} SuperNodes", 0, 1)
        for index, node_port in enumerate(node_ports):
            command = [
                *options.node_commands.get(index, ()), _tool("flower-supernode"), "--insecure",
                "--superlink", f"127.0.0.1:{port}", "--host", "127.0.0.1", "--port", str(node_port),
                "--node-config", f"index={index} nodes={nodes}",
            ]  # fmt: skip
            processes.start(f"supernode-{index}", command, _node_environment(env, nodes))
        yield f"127.0.0.1:{port}", processes


def _node_environment(env: dict[str, str], nodes: int) -> dict[str, str]:
    """SuperNodes of one machine share its cores; each with threads for all of them would wait for the others."""
    threads = max(1, (os.cpu_count() or 1) // nodes)
    return {**env, "OMP_NUM_THREADS": env.get("OMP_NUM_THREADS", str(threads))}


def _tool(name: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise FederatedError(f"Flower's command {name} is not installed; {_HELP}")
    return found


def _wait_until_healthy(port: int, processes: Processes) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        processes.check("superlink")
        if _is_healthy(port):
            return
        time.sleep(_POLL_S)
    raise FederatedError(f"the SuperLink did not answer within {START_S:.0f} s:\n{processes.log_tail('superlink')}")


def _is_healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as reply:
            return bool(reply.status == 200)
    except OSError:  # of which URLError is one
        return False


def _is_loopback(address: str) -> bool:
    return address.rpartition(":")[0] in ("127.0.0.1", "localhost", "[::1]")


def _flwr(arguments: list[str], env: Mapping[str, str]) -> dict[str, Any]:
    """What a command of Flower prints as JSON.

    Raises:
        FederatedError: it failed.
    """
    command = [_tool("flwr"), *arguments, "--format", "json"]
    try:
        finished = subprocess.run(
            command,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise FederatedError(
            f"flwr {arguments[0]} did not end within {START_S:.0f} s: is the SuperLink there?"
        ) from error
    try:
        answer: dict[str, Any] = json.loads(finished.stdout[finished.stdout.index("{") :])
    except ValueError as error:
        told = (finished.stdout + finished.stderr).strip()[-800:]
        raise FederatedError(f"flwr {arguments[0]} failed with code {finished.returncode}: {told}") from error
    if not answer.get("success"):
        raise FederatedError(f"flwr {arguments[0]} failed: {answer.get('error-message') or answer}")
    return answer


def _submit(app: Path, env: Mapping[str, str]) -> str:
    return str(_flwr(["run", str(app), CONNECTION], env)["run-id"])


def _stop(run_id: str, env: Mapping[str, str]) -> None:
    """Stop a run that nobody waits for any more; a SuperLink that is gone has stopped it already."""
    with contextlib.suppress(FederatedError, OSError):
        _flwr(["stop", run_id, CONNECTION], env)


def _follow(
    folder: Path, run_id: str, env: Mapping[str, str], processes: Processes | None, on_progress: Progress
) -> None:
    """Wait until the server has finished, by what it writes into the folder and what Flower says of the run."""
    asked = time.monotonic()
    while True:
        if processes is not None:
            processes.check("superlink")
        told = status.read(folder)
        if told is not None:
            on_progress(told.what, told.done, told.total)
            if told.state == "finished":
                return
            if told.state == "failed":
                raise FederatedError(f"the server failed: {told.what}")
            if processes is not None and not _alive(told.pid):
                raise FederatedError(f"the server's process was killed in {told.what}; the same command goes on there")
        if time.monotonic() - asked > _ASK_S:
            if _has_finished(run_id, env, processes):
                return
            asked = time.monotonic()
        time.sleep(_POLL_S)


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _has_finished(run_id: str, env: Mapping[str, str], processes: Processes | None) -> bool:
    """Whether Flower says that the run has finished well.

    Raises:
        FederatedError: it says that the run failed.
    """
    (run,) = _flwr(["list", CONNECTION, "--run-id", run_id], env)["runs"]
    state = str(run["status"])
    if state.startswith("finished") and state != "finished:completed":
        log = f":\n{processes.log_tail('superlink')}" if processes is not None else "; see the SuperLink's log"
        raise FederatedError(f"Flower's run ended as {state}{log}")
    return state == "finished:completed"
