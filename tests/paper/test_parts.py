"""Parts: each runs once, what was stopped goes on, and the time left is told as far as it is known."""

from pathlib import Path

import pytest

from edgeroof.errors import WorkloadError
from edgeroof.paper.parts import Part, run_parts, seconds_left


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def part(
    name: str, folder: Path, clock: Clock, *, topic: str = "a", seconds: float = 10.0, takes: float = 20.0, fails=()
):
    def run(inner) -> None:
        if name in fails:
            raise WorkloadError("no")
        inner("half way", 1, 2)
        clock.now += takes
        assert not (folder / name).exists(), "run twice"
        (folder / name).touch()

    return Part(name, topic, f"part {name}", seconds, (folder / name).exists, run)


def test_parts_run_once_and_go_on(tmp_path: Path) -> None:
    clock, told, fails = Clock(), [], {"two"}
    parts = [part(name, tmp_path, clock, fails=fails) for name in ("one", "two", "three")]
    with pytest.raises(WorkloadError):
        run_parts(parts, tmp_path, lambda *args: told.append(args), clock)
    assert [p.done() for p in parts] == [True, False, False]
    fails.clear()
    told.clear()
    run_parts(parts, tmp_path, lambda *args: told.append(args), clock)
    assert all(p.done() for p in parts)
    assert told[0] == ("part two", 1, 3, (40.0, 40.0))  # the first took twice its guess, and so will these
    assert told[-1] == ("done", 3, 3, None)


def test_nothing_is_known_before_the_first(tmp_path: Path) -> None:
    clock, told = Clock(), []
    run_parts([part("one", tmp_path, clock)], tmp_path, lambda *args: told.append(args), clock)
    assert {left for *_, left in told} == {None}
    assert [what for what, *_ in told] == ["part one", "part one: half way", "done"]


def test_kinds_that_differ_make_a_range(tmp_path: Path) -> None:
    clock = Clock()
    parts = [
        part("one", tmp_path, clock, topic="a"),
        part("two", tmp_path, clock, topic="b", takes=5.0),
        part("three", tmp_path, clock, topic="b", seconds=30.0),
    ]
    run_parts(parts[:2], tmp_path, lambda *args: None, clock)
    assert seconds_left(parts, {"one": 20.0, "two": 5.0}, parts[2], 3.0) == (12.0, 57.0)


def test_damaged_times_only_cost_the_guess(tmp_path: Path) -> None:
    (tmp_path / "times.json").write_text("{not json")
    clock = Clock()
    run_parts([part("one", tmp_path, clock)], tmp_path, lambda *args: None, clock)
    assert '"one": 20.0' in (tmp_path / "times.json").read_text()
