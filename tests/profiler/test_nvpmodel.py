"""Power modes of a board: who may choose, what is refused, and that the old mode always comes back."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeroof.errors import DeviceError
from edgeroof.interruptions import end_as_by_ctrl_c
from edgeroof.profiler.nvpmodel import Board, mode_put_back

from .fake_board import calls, make_board


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return make_board(tmp_path / "board")


def test_who_may_choose(board: Board, tmp_path: Path) -> None:
    assert board.why_not() is None
    assert "root" in str(Board(board.root, board.tool, is_root=False).why_not())
    assert "no nowhere here" in str(Board(board.root, "nowhere", is_root=True).why_not())
    assert "not a Jetson" in str(Board(tmp_path, board.tool, is_root=True).why_not())


def test_modes_by_name(board: Board) -> None:
    assert board.find("30W") == board.find("mode_30w") == 2
    with pytest.raises(DeviceError, match="it has MAXN, MODE_15W"):
        board.find("60W")


def test_a_mode_that_is_on_is_left_alone(board: Board) -> None:
    board.choose(2)
    assert not calls(board)


@pytest.mark.parametrize(("mode", "message"), [(1, "needs a reboot"), (3, "did not change")])
def test_what_does_not_work_is_told(board: Board, mode: int, message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        board.choose(mode)
    assert board.current() == 2


def test_a_tool_that_cannot_be_run_is_told(board: Board) -> None:
    Path(board.tool).chmod(0o644)
    with pytest.raises(DeviceError, match="cannot be run"):
        board.choose(0)


def test_the_old_mode_comes_back(board: Board, tmp_path: Path) -> None:
    with mode_put_back(board, tmp_path / "note") as choose:
        choose("MAXN")
        assert board.current() == 0
        assert (tmp_path / "note").exists()
    assert board.current() == 2
    assert not (tmp_path / "note").exists()


def in_maxn(board: Board, note: Path, then: Callable[[], object]) -> None:
    """Do something while the board is in another mode than before."""
    with mode_put_back(board, note) as choose:
        choose("MAXN")
        then()


def test_it_comes_back_after_ctrl_c(board: Board, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        in_maxn(board, tmp_path / "note", lambda: signal.raise_signal(signal.SIGINT))
    assert board.current() == 2


@pytest.fixture
def ending() -> Iterator[None]:
    """Every end from outside is a Ctrl-C, as on the command line; also where tests run under nohup."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    end_as_by_ctrl_c()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.usefixtures("ending")
def test_it_comes_back_when_the_process_is_ended(board: Board, tmp_path: Path, number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt):
        in_maxn(board, tmp_path / "note", lambda: signal.raise_signal(number))
    assert board.current() == 2


@pytest.mark.usefixtures("ending")
def test_a_broken_connection_waits_until_it_is_back(board: Board, tmp_path: Path) -> None:
    hanging_up = Path(board.tool).read_text().replace("case", f"kill -HUP {os.getpid()}\ncase", 1)
    with pytest.raises(KeyboardInterrupt):
        in_maxn(board, tmp_path / "note", lambda: Path(board.tool).write_text(hanging_up))
    assert board.current() == 2
    assert not (tmp_path / "note").exists()


@pytest.mark.usefixtures("ending")
def test_what_is_ignored_stays_ignored(board: Board, tmp_path: Path) -> None:
    """Under nohup the end of the terminal ends nothing."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    end_as_by_ctrl_c()
    hanging_up = Path(board.tool).read_text().replace("case", f"kill -HUP {os.getpid()}\ncase", 1)
    in_maxn(board, tmp_path / "note", lambda: Path(board.tool).write_text(hanging_up))
    assert board.current() == 2
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_a_second_ctrl_c_waits_until_it_is_back(board: Board, tmp_path: Path) -> None:
    interrupting = Path(board.tool).read_text().replace("case", f"kill -INT {os.getpid()}\ncase", 1)
    with pytest.raises(KeyboardInterrupt):
        in_maxn(board, tmp_path / "note", lambda: Path(board.tool).write_text(interrupting))
    assert board.current() == 2
    assert not (tmp_path / "note").exists()


def test_a_killed_process_is_made_good_by_the_next(board: Board, tmp_path: Path) -> None:
    """Killed in MAXN, it left its note: the mode from before comes back, not the one it was killed in."""
    board.choose(0)
    (tmp_path / "note").write_text('{"power_mode": 2}')
    with mode_put_back(board, tmp_path / "note"):
        pass
    assert board.current() == 2


def test_a_mode_that_does_not_come_back_is_told_with_the_remedy(board: Board, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"could not be put back: sudo .*nvpmodel -m 2"):
        in_maxn(board, tmp_path / "note", lambda: Path(board.tool).write_text("#!/bin/sh\nexit 1\n"))
    assert (tmp_path / "note").exists()


@pytest.mark.parametrize("mode", ["", "none", "pmode:xyz"])
def test_without_a_readable_mode_nothing_is_chosen(board: Board, tmp_path: Path, mode: str) -> None:
    (board.root / "var/lib/nvpmodel/status").write_text(mode)
    with pytest.raises(DeviceError, match="cannot be read"), mode_put_back(board, tmp_path / "note"):
        pytest.fail("modes could be chosen")
