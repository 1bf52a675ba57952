"""Writes the document, its pages and its figures: Markdown and SVG files that a repository can carry."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..reports.document import Document
from ..reports.document_markdown import Page, render
from .front import paper_document
from .optimizer_page import TITLE as OPTIMIZER_TITLE
from .optimizer_page import optimizer_document
from .study_pages import COMPRESSION_TITLE, SELECTION_TITLE, compression_document, selection_document

Data = Mapping[str, Any]

FRONT = "paper.md"
FOLDER = "paper"
#: How every page ends, by which one that was written here is known.
_MARK = "Not written by hand: run it again."
#: A figure of a page: in Markdown, an image of a file without a folder, or with ours.
_FIGURE = re.compile(rf"!\[[^\n]*\]\((?:{FOLDER}/)?([\w.-]+\.svg)\)")
_PAGES: dict[str, tuple[str, Callable[[Data], Document]]] = {
    "optimizer": (OPTIMIZER_TITLE, optimizer_document),
    "compression": (COMPRESSION_TITLE, compression_document),
    "selection": (SELECTION_TITLE, selection_document),
}


def write_documents(data: Data, folder: Path) -> Document:
    """Write ``paper.md``, and its pages and figures under ``paper/``; only figures of earlier calls are removed.

    Args:
        data: from :func:`~.collect.collect`.
        folder: of documents, such as ``docs``.

    Returns:
        The document, to be printed.

    Raises:
        RunError: something cannot be written.
    """
    front = paper_document(data)
    links = [f"- [{title}]({FOLDER}/{name}.md)" for name, (title, _) in _PAGES.items()]
    pages = {
        f"{FOLDER}/{name}.md": render(
            make(data), name=name, foot=["[The paper's experiments](../paper.md)", _made(data)]
        )
        for name, (_, make) in _PAGES.items()
    }
    whole = render(front, name="paper", figures_at=f"{FOLDER}/", foot=["## Pages", "\n".join(links), _made(data)])
    try:
        _write_all({FRONT: whole, **pages}, folder)
    except OSError as error:
        raise RunError(f"the documents could not be written to {folder}: {error.strerror or error}") from error
    return front


def _made(data: Data) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in data["environment"].items())
    return f"Made by `{data['command']}` on {data['created'][:10]}, with {versions}. {_MARK}"


def _write_all(pages: Mapping[str, Page], folder: Path) -> None:
    earlier = _figures_of_earlier_pages(pages, folder)
    files = {name: page.text for name, page in pages.items()}
    figures = {f"{FOLDER}/{name}": text for page in pages.values() for name, text in page.figures.items()}
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    for name, text in {**files, **figures}.items():
        staged = (folder / name).with_name(f".{Path(name).name}")
        staged.write_text(text, encoding="utf-8")
        staged.replace(folder / name)
    for name in earlier - set(figures):
        (folder / name).unlink(missing_ok=True)


def _figures_of_earlier_pages(pages: Mapping[str, Page], folder: Path) -> set[str]:
    """Files of figures that are ours to remove: those that pages show which an earlier call has written here."""
    found: set[str] = set()
    for name in pages:
        page = folder / name
        text = page.read_text(encoding="utf-8", errors="replace") if page.is_file() else ""
        if _MARK in text:
            found |= {f"{FOLDER}/{figure}" for figure in _FIGURE.findall(text)}
    return found
