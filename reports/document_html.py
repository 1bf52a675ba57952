"""A :class:`~.document.Document` as one HTML file that works offline, like the report of a run (see :mod:`.html`)."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import RunError
from . import document_plain
from .blocks_data import blocks_data
from .document import KIND_NOTES, Document, Section
from .html import page
from .text import clean

SCRIPTS = ("bars.js", "charts.js", "filter.js", "sorted_table.js", "choice.js", "blocks.js", "document.js")
STYLES = ("document.css",)


def render(document: Document) -> str:
    """The report as one HTML document."""
    title = f"edgeroof {document.name}: {clean(document.title)}"
    return page(
        "document.html",
        title=title,
        data=page_data(document),
        styles=STYLES,
        scripts=SCRIPTS,
        plain=document_plain.render(document),
    )


def write(document: Document, path: str | os.PathLike[str]) -> None:
    """Write the report to a file.

    Raises:
        RunError: the file cannot be written.
    """
    target = Path(path)
    try:
        target.write_text(render(document), encoding="utf-8")
    except OSError as error:
        raise RunError(f"cannot write the report {target}: {error.strerror or error}") from error


def page_data(document: Document) -> dict[str, Any]:
    """Everything the page shows."""
    return {
        **{name: value for name, value in asdict(document).items() if name != "sections"},
        "note": KIND_NOTES[document.kind],
        "sections": [_section(section) for section in document.sections],
    }


def _section(section: Section) -> dict[str, Any]:
    return {"title": section.title, "lead": section.lead, "blocks": blocks_data(section.blocks)}
