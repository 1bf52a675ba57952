"""Processes that live no longer than this one: however it ends, they and what they started are gone."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import psutil

from ....errors import FederatedError

#: For processes to end by themselves.
GRACE_S = 5.0
_TAIL_LINES = 12
_PR_SET_PDEATHSIG = 1


class Processes:
    """Processes with logs of their own, ended together; use it in a ``with``.

    Args:
        logs: folder for their output.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a process in a process group of its own.

        Raises:
            FederatedError: it cannot be started.
        """
        self._logs.mkdir(parents=True, exist_ok=True)
        try:
            with (self._logs / f"{name}.log").open("wb") as log:
                process = subprocess.Popen(
                    command,
                    env=dict(env),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=_die_with_parent(),
                )
        except OSError as error:
            raise FederatedError(f"{command[0]} could not be started: {error.strerror or error}") from error
        self._running[name] = process
        return process

    def check(self, name: str) -> None:
        """Check that a process runs.

        Raises:
            FederatedError: it has ended; the message holds the end of its log.
        """
        code = self._running[name].poll()
        if code is not None:
            raise FederatedError(f"{name} ended with code {code}:\n{self.log_tail(name)}")

    def log_tail(self, name: str) -> str:
        """The last lines that a process printed."""
        with contextlib.suppress(OSError):
            lines = (self._logs / f"{name}.log").read_text(encoding="utf-8", errors="replace").splitlines()
            return "\n".join(lines[-_TAIL_LINES:])
        return ""

    def close(self) -> None:
        """End all processes and whatever they started; those that do not go by themselves are killed."""
        everything = [found for process in self._running.values() for found in _family(process.pid)]
        _signal(everything, psutil.Process.terminate)
        _, left = psutil.wait_procs(everything, timeout=GRACE_S)
        _signal(left, psutil.Process.kill)
        psutil.wait_procs(left, timeout=GRACE_S)
        for process in self._running.values():
            process.wait()
        self._running.clear()

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _family(pid: int) -> list[psutil.Process]:
    """A process and its descendants; those of a session of their own are found by their parents."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _signal(processes: Sequence[psutil.Process], send: Callable[[psutil.Process], None]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            send(process)


def _die_with_parent() -> Callable[[], None] | None:
    """On Linux, have the kernel end a child when this process is killed and cannot do it itself."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it was killed before the line above
            os._exit(1)

    return ask


def free_ports(count: int) -> list[int]:
    """Ports of this machine's loopback that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
