"""Network namespaces of our own: made, entered and removed; those that a killed process left behind are swept."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from ...errors import FederatedError

PREFIX = "edgeroof-"
_NAMESPACES = Path("/run/netns")
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET of linux/sched.h
_numbers = itertools.count()


def run_tool(*command: str) -> str:
    """Run ``ip`` or ``tc`` and return what it printed.

    Raises:
        FederatedError: it failed; the message holds its own.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr or done.stdout).strip().splitlines()
        raise FederatedError(f"`{' '.join(command)}` failed: {reason[-1] if reason else 'no message'}")
    return done.stdout


@contextlib.contextmanager
def namespaces(count: int) -> Iterator[list[str]]:
    """New network namespaces by name, removed at the end whatever happens.

    Raises:
        FederatedError: they cannot be made.
    """
    sweep()
    made: list[str] = []
    try:
        for _ in range(count):
            name = f"{PREFIX}{os.getpid()}-{next(_numbers)}"
            run_tool("ip", "netns", "add", name)
            made.append(name)
            run_tool("ip", "-n", name, "link", "set", "lo", "up")
        yield made
    finally:
        for name in made:
            _remove(name)


def sweep() -> list[str]:
    """Remove the namespaces of processes that are gone; returns their names."""
    if not _NAMESPACES.is_dir() or shutil.which("ip") is None:
        return []
    stale = [path.name for path in _NAMESPACES.glob(f"{PREFIX}*") if not _is_alive(path.name)]
    for name in stale:
        _remove(name)
    return stale


@contextlib.contextmanager
def inside(name: str) -> Iterator[None]:
    """Run this thread in a namespace; sockets and devices opened meanwhile stay there.

    Raises:
        FederatedError: the kernel refuses.
    """
    with open("/proc/thread-self/ns/net") as home, open(_NAMESPACES / name) as away:
        _enter(away.fileno())
        try:
            yield
        finally:
            _enter(home.fileno())


def _enter(descriptor: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _NEW_NETWORK):
        raise FederatedError(f"a network namespace cannot be entered: {os.strerror(ctypes.get_errno())}")


def _remove(name: str) -> None:
    subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def _is_alive(name: str) -> bool:
    """Whether the process that made a namespace still runs; names that are not ours to judge count as alive."""
    number = name.removeprefix(PREFIX).partition("-")[0]
    return not number.isdigit() or Path(f"/proc/{number}").exists()
