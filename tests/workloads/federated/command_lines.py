"""Command lines of processes that may end while they are looked at."""

import psutil


def words(process: psutil.Process) -> list[str]:
    """Arguments of a process, none when it has just ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []
