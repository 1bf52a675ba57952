"""A :class:`~.document.Document` as a Markdown page with SVG files beside it, for documents that live in a repository.

Every table and figure says above itself where its numbers come from; the numbers of a figure follow it, folded away.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .document import (
    KIND_NOTES,
    Bars,
    Block,
    Document,
    Facts,
    Figure,
    Heatmap,
    Lines,
    Paragraph,
    Point,
    Section,
    Table,
    board_line,
    origin,
)
from .svg import figure_svg
from .text import UNKNOWN, clean, number

_SPECIAL = re.compile(r"([\\`*_\[\]<>|#])")
_SLUG = re.compile(r"[^a-z0-9]+")
#: Longest name of a figure's file, without its ending.
_LONGEST_NAME = 72


@dataclass
class Page:
    """A page and its figures.

    Attributes:
        text: Markdown.
        figures: SVG documents by the name of their file.
    """

    text: str
    figures: dict[str, str] = field(default_factory=dict)


def render(document: Document, *, name: str, figures_at: str = "", foot: Sequence[str] = ()) -> Page:
    """A report as a page.

    Args:
        document: the report.
        name: of the page, with which the names of its figures begin.
        figures_at: where the figures lie as seen from the page, such as ``paper/``; empty for beside it.
        foot: paragraphs of Markdown for the end of the page.
    """
    writer = _Writer(document, name, figures_at)
    parts = [f"# {_escaped(document.title)}", *_opening(document)]
    for section in document.sections:
        parts += writer.section(section)
    if document.warnings:
        parts += ["## Warnings", _listed(document.warnings)]
    return Page("\n\n".join([*parts, *foot]) + "\n", writer.figures)


def _opening(document: Document) -> list[str]:
    note = KIND_NOTES[document.kind]
    parts = [f"> **{document.kind.capitalize()}.** {_escaped(note)}"] if note else []
    if document.setting:
        parts.append(_escaped(document.setting))
    if document.headlines:
        parts.append(_listed(document.headlines))
    return parts


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(f"- {_escaped(line)}" for line in lines)


class _Writer:
    """Writes blocks one after the other and collects the figures on the way."""

    def __init__(self, document: Document, name: str, figures_at: str) -> None:
        self._document, self._name, self._at = document, name, figures_at
        self.figures: dict[str, str] = {}

    def section(self, section: Section) -> list[str]:
        parts = [f"## {_escaped(section.title)}"]
        if section.lead:
            parts.append(f"*{_escaped(section.lead)}*")
        return [*parts, *(self._block(block) for block in section.blocks)]

    def _block(self, block: Block) -> str:
        if isinstance(block, Paragraph):
            return f"> {_escaped(block.text)}" if block.style == "warning" else _escaped(block.text)
        if isinstance(block, Facts):
            return "\n".join(_fact(*row) for row in block.rows)
        if isinstance(block, Table):
            return f"{self._caption(block)}\n\n{markdown_table(block.heads, block.rows)}"
        return self._figure(block)

    def _caption(self, block: Table | Figure) -> str:
        return f"**{_escaped(block.caption)}** · *{_escaped(origin(block, self._document.kind))}*"

    def _figure(self, block: Figure) -> str:
        file = self._file_name(block.caption)
        self.figures[file] = figure_svg(block, self._document.kind)
        said = f"{block.caption} ({origin(block, self._document.kind)}) {board_line(block)}".rstrip()
        alternative = _escaped(said)
        heads, rows = figure_numbers(block)
        numbers = markdown_table(heads, rows)
        folded = f"<details><summary>Numbers</summary>\n\n{numbers}\n\n</details>"
        return f"{self._caption(block)}\n\n![{alternative}]({self._at}{file})\n\n{folded}"

    def _file_name(self, caption: str) -> str:
        slug = _SLUG.sub("-", f"{self._name} {caption}".lower()).strip("-")[:_LONGEST_NAME].rstrip("-")
        file, again = f"{slug}.svg", 2
        while file in self.figures:
            file, again = f"{slug}-{again}.svg", again + 1
        return file


def _fact(name: str, value: str, remark: str) -> str:
    text = f"- {_escaped(name)}: **{_escaped(value)}**"
    return f"{text}, {_escaped(remark)}" if remark else text


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown; ``#`` in front of a title puts its column to the right, as in :class:`~.document.Table`."""
    names = [_escaped(head.removeprefix("#").strip()) or " " for head in heads]
    rule = ["---:" if head.startswith("#") else "---" for head in heads]
    return "\n".join(_row(cells) for cells in (names, rule, *([_escaped(cell) for cell in row] for row in rows)))


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    return _SPECIAL.sub(r"\\\1", clean(text))


_Numbers = tuple[Sequence[str], Sequence[Sequence[str]]]


def _line_numbers(figure: Lines) -> _Numbers:
    rows = [
        (line.name, line.kind, _plain(point.x), number(point.y), _interval(point))
        for line in figure.lines
        for point in line.points
    ]
    return ("line", "kind", f"#{figure.x_title}", f"#{figure.y_title}", "#interval"), rows


def _plain(value: float) -> str:
    """A place on an axis: a whole number as it is."""
    return f"{value:,.0f}" if float(value).is_integer() else number(value)


def _interval(point: Point) -> str:
    return UNKNOWN if point.low is None else f"{number(point.low)} to {number(point.high)}"


def _bar_numbers(figure: Bars) -> _Numbers:
    rows = [
        (
            f"{bar.name} {f'({bar.note})' if bar.note else ''}".strip(),
            "; ".join(f"{part.label} {number(part.value)}" for part in bar.parts if part.style != "blank"),
            bar.text,
        )
        for bar in figure.bars
    ]
    return ("bar", f"parts{f', {figure.unit}' if figure.unit else ''}", "#in all"), rows


def _heatmap_numbers(figure: Heatmap) -> _Numbers:
    return ("", *(f"#{name}" for name in figure.columns)), [(n, *t) for n, t in zip(figure.rows, figure.texts)]


def figure_numbers(figure: Figure) -> _Numbers:
    """The numbers of a figure as the heads and rows of a table."""
    return _NUMBERS[type(figure)](figure)


_NUMBERS: dict[type[Figure], Callable[[Any], _Numbers]] = {
    Lines: _line_numbers,
    Bars: _bar_numbers,
    Heatmap: _heatmap_numbers,
}
