"""A point of a sweep measured in a process of its own.

A process shows the peak of its own memory only, gives all of it back, and may be killed for it without the sweep.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from . import errors
from .errors import EdgeroofError, OutOfMemoryError, WorkloadError
from .interruptions import end_as_by_ctrl_c

#: Seconds that an interrupted process has to tidy up.
_PATIENCE_S = 10.0


def measure_apart(task: Mapping[str, Any]) -> None:
    """Profile one point and write its run folder.

    Args:
        task: ``device``, ``config``, ``capture``, ``out`` and ``command``, see :func:`edgeroof.api.profile`.

    Raises:
        OutOfMemoryError: the step does not fit, or the system killed the process.
        EdgeroofError: whatever else went wrong there.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, dict(task)))
    process.start()
    theirs.close()
    try:
        answer = ours.recv()
    except EOFError:
        answer = None
    finally:
        ours.close()
        process.join(_PATIENCE_S)
        if process.is_alive():
            process.kill()
            process.join()
    if answer is None:
        raise _death(process.exitcode)
    name, message = answer
    if name is not None:
        raise getattr(errors, name, WorkloadError)(message)


def _death(code: int | None) -> EdgeroofError:
    if code == -signal.SIGKILL:
        return OutOfMemoryError("the system killed the process of this point, which it does when memory runs out")
    return WorkloadError(f"the process of this point ended with code {code}; profile it alone to see why")


def _work(connection: Connection, task: Mapping[str, Any]) -> None:
    """In the other process: profile, and tell what went wrong as the error's name and message."""
    end_as_by_ctrl_c()
    _die_first()
    threading.Thread(target=_end_with_the_sweep, args=(connection,), daemon=True).start()
    try:
        _profile(task)
    except KeyboardInterrupt:
        pass
    except EdgeroofError as error:
        connection.send((type(error).__name__, str(error)))
    except MemoryError:
        connection.send(("OutOfMemoryError", "this machine's memory does not hold the step"))
    except Exception as error:
        connection.send(("WorkloadError", f"{type(error).__name__}: {error}"))
    else:
        connection.send((None, ""))


def _die_first() -> None:
    """When memory runs out, let the system end this process and not the sweep, or whatever else runs here."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _end_with_the_sweep(connection: Connection) -> None:
    """Wait until the sweep closes its end, which it does by dying too, and end this process."""
    try:
        connection.recv()
    except (EOFError, OSError):
        os._exit(1)


def _profile(task: Mapping[str, Any]) -> None:
    from . import api
    from .profiler.capture import CaptureOptions

    api.profile(
        device=task["device"],
        options=CaptureOptions(**task["capture"]),
        out=task["out"],
        command=task["command"],
        **task["config"],
    )
