"""Progress bars on standard error, for work that takes more than a moment."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn


def _progress(*columns: SpinnerColumn | TextColumn | BarColumn | MofNCompleteColumn | TimeElapsedColumn) -> Progress:
    return Progress(*columns, console=Console(stderr=True), transient=False)


@contextlib.contextmanager
def step_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Callback ``(pass, steps done, steps in all)`` that keeps one bar per pass."""
    bars = _progress(
        SpinnerColumn(), TextColumn("{task.description:<18}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    )
    tasks: dict[str, TaskID] = {}

    def update(name: str, done: int, total: int) -> None:
        if name not in tasks:
            tasks[name] = bars.add_task(name, total=total)
        bars.update(tasks[name], completed=done)

    with bars:
        yield update


@contextlib.contextmanager
def count_progress(title: str) -> Iterator[Callable[[str, int, int], None]]:
    """Callback ``(what is being done, steps done, steps in all)`` for one bar."""
    bar = _progress(
        SpinnerColumn(), TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )  # fmt: skip
    with bar:
        task = bar.add_task("", total=None)

        def update(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        yield update


@contextlib.contextmanager
def calibration_progress() -> Iterator[Callable[[str, float], None]]:
    """Callback ``(what is measured, share done)``; shows nothing unless it is called."""
    bars = _progress(
        SpinnerColumn(), TextColumn("calibrating"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    )
    tasks: dict[str, TaskID] = {}

    def update(what: str, done: float) -> None:
        if not tasks:
            bars.start()
            tasks["all"] = bars.add_task(what, total=1.0)
        bars.update(tasks["all"], description=what, completed=done)

    try:
        yield update
    finally:
        if tasks:
            bars.stop()
