"""How a run shows itself, without knowing what draws it.

Figures are made by the reports, which know runs; a run does not know them. Whoever puts the two together registers what
draws a view, and the run asks for it by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import UsageError

if TYPE_CHECKING:
    from .run import Run

_drawers: dict[str, Callable[[Run], Any]] = {}


def register_view(name: str, draw: Callable[[Run], Any]) -> None:
    """Let ``draw`` make the view ``name`` of any run; what made it before is forgotten."""
    _drawers[name] = draw


def view(name: str, run: Run) -> Any:
    """A view of a run.

    Raises:
        UsageError: nothing is registered that could draw it.
    """
    if name not in _drawers:
        raise UsageError(f"nothing draws the {name} of a run: import edgeroof first")
    return _drawers[name](run)
