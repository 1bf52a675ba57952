"""The power mode of a Jetson: choosing one with NVIDIA's ``nvpmodel``, and putting back the one that was there.

A board keeps its mode beyond the process and beyond a reboot, so whoever chooses one has to put the old one back,
however things end. Modes with other GPU clusters may need a reboot, which ``nvpmodel`` asks for; it is never given one.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import DeviceError
from ..interruptions import ending_signals
from .tegra import ROOT, is_tegra, read_state, read_text

_SECONDS = 60.0


@dataclass(frozen=True)
class Board:
    """A Jetson whose mode may be chosen.

    Attributes:
        root: of its file system.
        tool: the program that chooses.
        is_root: whether this process may.
        settle_s: seconds that clocks and voltages are given after a change.
    """

    root: Path = ROOT
    tool: str = "nvpmodel"
    is_root: bool = False
    settle_s: float = 3.0

    def why_not(self) -> str | None:
        """Why no mode can be chosen here; ``None`` if one can."""
        if not is_tegra(self.root):
            return "this machine is not a Jetson"
        if shutil.which(self.tool) is None:
            return f"there is no {self.tool} here (in a container: choose the mode on the host)"
        if not self.is_root:
            return "choosing one needs root: sudo -E env PATH=$PATH edgeroof …"
        return None

    def modes(self) -> dict[str, int]:
        """Numbers of the modes by name, from the board's own configuration."""
        text = read_text(self.root / "etc/nvpmodel.conf") or ""
        return {name: int(number) for number, name in re.findall(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\w+)\s*>", text)}

    def find(self, name: str) -> int:
        """The number of a mode; ``30W`` is the same as ``MODE_30W``.

        Raises:
            DeviceError: the board has no such mode.
        """
        modes = self.modes()
        for known, number in modes.items():
            if _key(known) == _key(name):
                return number
        raise DeviceError(
            f"this board has no power mode {name!r}; it has {', '.join(modes) or 'none that can be read'}"
        )

    def current(self) -> int:
        """The number of the mode that is on.

        Raises:
            DeviceError: it cannot be read.
        """
        mode = read_state(self.root).mode_id
        if mode is None:
            raise DeviceError("the power mode that is on cannot be read (var/lib/nvpmodel/status), so none is chosen")
        return mode

    def choose(self, number: int) -> None:
        """Choose a mode, and see that it is on.

        Raises:
            DeviceError: it is not.
        """
        if self.current() == number:
            return
        said = _run([self.tool, "-m", str(number)])
        if "reboot" in said.lower():
            raise DeviceError(f"power mode {number} needs a reboot: sudo {self.tool} -m {number}, then run this again")
        if self.current() != number:
            raise DeviceError(
                f"{self.tool} -m {number} did not change the power mode: {said.strip() or 'no reason given'}"
            )
        time.sleep(self.settle_s)


def this_board() -> Board:
    """The machine at hand."""
    return Board(is_root=hasattr(os, "geteuid") and os.geteuid() == 0)


@contextlib.contextmanager
def mode_put_back(board: Board, note: Path) -> Iterator[Callable[[str], None]]:
    """Let modes be chosen by name; afterwards the one that was there before is on again, Ctrl-C or not.

    Args:
        board: whose mode it is.
        note: a file that remembers the mode meanwhile. If a process was killed before it could put its mode back, the
            note is still there, and what it says is put back now.

    Raises:
        DeviceError: the mode cannot be read or put back.
    """
    before = _noted(note)
    if before is None:
        before = board.current()
        note.write_text(json.dumps({"power_mode": before}), encoding="utf-8")
    try:
        yield lambda name: board.choose(board.find(name))
    finally:
        with _undisturbed():
            _put_back(board, before)
            note.unlink(missing_ok=True)


def _put_back(board: Board, number: int) -> None:
    try:
        board.choose(number)
    except DeviceError as error:
        raise DeviceError(
            f"the power mode could not be put back: sudo {board.tool} -m {number} does it ({error})"
        ) from error


def _noted(note: Path) -> int | None:
    try:
        return int(json.loads(note.read_text(encoding="utf-8"))["power_mode"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _run(command: list[str]) -> str:
    """What a program says; in a session of its own, so that Ctrl-C does not reach it, and with nothing to answer."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            start_new_session=True,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceError(f"{command[0]} cannot be run: {error}") from error
    return done.stdout


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Hold back interrupts until the block is through."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    before = {number: signal.signal(number, lambda got, _: held.append(got)) for number in ending_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if held:
        raise KeyboardInterrupt


def _key(name: str) -> str:
    return name.upper().removeprefix("MODE_")
