"""Phases of a training step, marked so that every profiler sees the same names.

``with phase("forward"):`` opens a ``record_function`` range (torch.profiler, Kineto traces) and an NVTX range (Nsight
Systems) of the same name, and remembers the phase for the op recorder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from .schema import PHASES

#: Ranges are called ``edgeroof.phase.forward`` and so on, so that they cannot be mistaken for the user's own.
PHASE_PREFIX = "edgeroof.phase."

_current: list[str] = []


def current_phase() -> str:
    """Name of the innermost open phase, ``""`` outside of any."""
    return _current[-1] if _current else ""


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
    import nvtx
    from torch.profiler import record_function

    label = PHASE_PREFIX + name
    _current.append(name)
    try:
        with nvtx.annotate(label, domain="edgeroof"), record_function(label):
            yield
    finally:
        _current.pop()
