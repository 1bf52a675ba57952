"""How far the server is, in a small file beside its checkpoints, for the command that waits for it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = ".server.json"


@dataclass(frozen=True)
class Status:
    """The server's state.

    Attributes:
        pid: of its process.
        state: ``running``, ``finished`` or ``failed``.
        what: is being done; why it failed.
        done: steps done.
        total: steps in all.
    """

    pid: int
    state: str
    what: str
    done: int
    total: int


def write(folder: Path, state: str, what: str, done: int, total: int) -> None:
    """Write the state of this process; the file is replaced when whole."""
    folder.mkdir(parents=True, exist_ok=True)
    staged = folder / f"{FILE}-{os.getpid()}"
    staged.write_text(json.dumps(asdict(Status(os.getpid(), state, what, done, total))), encoding="utf-8")
    staged.replace(folder / FILE)


def read(folder: Path) -> Status | None:
    """The last state that was written; ``None`` when there is none."""
    try:
        return Status(**json.loads((folder / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def clear(folder: Path) -> None:
    """Forget the state of an earlier server."""
    (folder / FILE).unlink(missing_ok=True)
