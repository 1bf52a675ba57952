"""What a notebook shows of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RunError
from .roofline_svg import roofline_svg, title
from .text import clean

if TYPE_CHECKING:
    from ..profiler.run import Run


@dataclass(frozen=True)
class Figure:
    """A picture that a notebook shows when it is the value of a cell; its text elsewhere.

    It is shown as SVG alone: an image that every viewer of notebooks draws, without markup or script in the page.
    """

    svg: str = field(repr=False)
    text: str

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"image/svg+xml": self.svg, "text/plain": self.text}

    def __str__(self) -> str:
        return self.text

    def save(self, path: str | Path) -> None:
        """Write the picture to an SVG file.

        Raises:
            RunError: the file cannot be written.
        """
        try:
            Path(path).write_text(self.svg, encoding="utf-8")
        except OSError as error:
            raise RunError(f"the figure could not be written to {path}: {error.strerror or error}") from error


def roofline(run: Run) -> Figure:
    """The roofline of a run."""
    text = f"Roofline of {title(run)}: {run.summary['answer']['headline']}"
    return Figure(roofline_svg(run), clean(text))
