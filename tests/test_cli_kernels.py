"""Where the commands put their results."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from edgeroof.cli_kernels import result_folder
from edgeroof.errors import RunError


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_named_folder_is_left_alone():
    with result_folder(Path("mine"), "name") as folder:
        assert folder == Path("mine")
    assert list(Path().iterdir()) == []


def test_commands_that_start_together_get_folders_of_their_own():
    start, end = threading.Barrier(8), threading.Barrier(8)
    taken = []

    def command() -> None:
        start.wait()
        with result_folder(None, "ab-adamw-cpu") as folder:
            taken.append(folder)
            end.wait()
            (folder / "ab.json").touch()

    threads = [threading.Thread(target=command) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = ["ab-adamw-cpu", *(f"ab-adamw-cpu-{number}" for number in range(2, 9))]
    assert sorted(taken) == sorted(Path("runs") / name for name in names)
    assert all((folder / "ab.json").is_file() for folder in taken)


def test_nothing_is_left_of_a_command_that_failed():
    def interrupted() -> None:
        with result_folder(None, "name") as folder:
            assert folder.is_dir()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(Path("runs").iterdir()) == []


def test_a_place_that_cannot_be_made_is_an_error():
    Path("runs").touch()
    with (
        pytest.raises(RunError, match=r"cannot make the folder runs.name: .*; name one with --out"),
        result_folder(None, "name"),
    ):
        pass
