"""Parts of the experiments: each is run once and kept, so that whatever was stopped goes on where it was."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import RunError

#: Called with what is being done, the parts done, the parts in all, and the seconds left (least, most) if known.
Progress = Callable[[str, int, int, "tuple[float, float] | None"], None]
#: Called with what is being done within a part, the steps done and the steps in all.
Inner = Callable[[str, int, int], None]

TIMES_FILE = "times.json"


@dataclass(frozen=True)
class Part:
    """One part.

    Attributes:
        name: of its folder or file, unique.
        topic: one of :data:`~.plan.TOPICS`.
        title: for people.
        seconds: about how long it takes on two cores; only how parts compare matters.
        done: whether its result is there, whole.
        run: makes the result.
    """

    name: str
    topic: str
    title: str
    seconds: float
    done: Callable[[], bool]
    run: Callable[[Inner], None]


def run_parts(
    parts: Sequence[Part], folder: Path, on_progress: Progress, clock: Callable[[], float] = time.monotonic
) -> None:
    """Run the parts that are missing, in order.

    Args:
        parts: all of them.
        folder: where the times of finished parts are kept.
        on_progress: told before every part, within it, and at the end.
        clock: seconds that only grow.

    Raises:
        EdgeroofError: a part failed; those before it are kept.
    """
    took = _read_times(folder)
    for part in parts:
        if part.done():
            continue
        if "torch" not in sys.modules:
            on_progress("loading PyTorch", sum(other.done() for other in parts), len(parts), None)
            _load_libraries()
        done, start = sum(other.done() for other in parts), clock()

        def inner(what: str, step: int, steps: int, part: Part = part, done: int = done, start: float = start) -> None:
            shown = f"{part.title}: {what}" if what else part.title
            on_progress(shown, done, len(parts), seconds_left(parts, took, part, clock() - start))

        on_progress(part.title, done, len(parts), seconds_left(parts, took, part, 0.0))
        part.run(inner)
        took[part.name] = clock() - start
        _write_times(took, folder)
    on_progress("done", len(parts), len(parts), None)


def _load_libraries() -> None:
    """Before any part, so that the first is not timed with it."""
    import torch  # noqa: F401
    import transformers  # noqa: F401


def seconds_left(
    parts: Sequence[Part], took: dict[str, float], current: Part, elapsed: float
) -> tuple[float, float] | None:
    """Between what seconds the rest will take; ``None`` before any part was timed.

    How this machine compares with the one that the guesses come from differs between kinds of parts, so both the least
    and the largest ratio that a topic had until now are told.

    Args:
        parts: all of them.
        took: seconds of finished parts, by name.
        current: the part that runs now.
        elapsed: how long it has been running.
    """
    ratios = []
    for topic in dict.fromkeys(part.topic for part in parts):
        timed = [part for part in parts if part.topic == topic and part.name in took and part.done()]
        if timed:
            ratios.append(sum(took[part.name] for part in timed) / sum(part.seconds for part in timed))
    if not ratios:
        return None
    rest = sum(part.seconds for part in parts if not part.done() and part is not current)
    low, high = (rest * ratio + max(0.0, current.seconds * ratio - elapsed) for ratio in (min(ratios), max(ratios)))
    return low, high


def _read_times(folder: Path) -> dict[str, float]:
    try:
        found = json.loads((folder / TIMES_FILE).read_text(encoding="utf-8"))
        return {str(name): float(value) for name, value in found.items() if math.isfinite(float(value))}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # they only serve the guess of the time left


def _write_times(took: dict[str, float], folder: Path) -> None:
    try:
        staged = folder / f".{TIMES_FILE}"
        staged.write_text(json.dumps(took) + "\n", encoding="utf-8")
        staged.replace(folder / TIMES_FILE)
    except OSError as error:
        raise RunError(f"times cannot be kept in {folder}: {error.strerror or error}") from error
