"""Phases of a training step, marked so that every profiler sees the same names.

``with phase("forward"):`` opens a ``record_function`` range (torch.profiler, Kineto traces) and an NVTX range (Nsight
Systems) of the same name, remembers the phase for the op recorder, and tells the listener that is installed, if any.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol

from .schema import PHASES

#: Ranges are called ``edgeroof.phase.forward`` and so on, so that they cannot be mistaken for the user's own.
PHASE_PREFIX = "edgeroof.phase."

#: Range around one whole profiled step.
STEP_RANGE = "edgeroof.step"


class PhaseListener(Protocol):
    """Is told when phases begin and end, on the thread that runs the step."""

    def phase_began(self, name: str) -> None:
        """The phase ``name`` is about to run."""

    def phase_ended(self, name: str) -> None:
        """The phase ``name`` has been issued; a GPU may still be working on it."""


_open: list[str] = []
_listeners: list[PhaseListener] = []


def current_phase() -> str:
    """Name of the innermost open phase, ``""`` outside of any."""
    return _open[-1] if _open else ""


@contextlib.contextmanager
def listening(listener: PhaseListener) -> Iterator[None]:
    """Tell ``listener`` about every phase inside the block."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@contextlib.contextmanager
def marked(label: str) -> Iterator[None]:
    """Open a ``record_function`` and an NVTX range of the same name."""
    import nvtx
    from torch.profiler import record_function

    with nvtx.annotate(label, domain="edgeroof"), record_function(label):
        yield


@contextlib.contextmanager
def phase(name: str) -> Iterator[None]:
    """Mark the enclosed work as one phase of the step.

    Args:
        name: one of :data:`~edgeroof.profiler.schema.PHASES`.

    Raises:
        ValueError: the name is not a phase.
    """
    if name not in PHASES:
        raise ValueError(f"unknown phase {name!r}; phases are {', '.join(PHASES)}")
    for listener in _listeners:
        listener.phase_began(name)
    _open.append(name)
    try:
        with marked(PHASE_PREFIX + name):
            yield
    finally:
        _open.pop()
        for listener in _listeners:
            listener.phase_ended(name)
