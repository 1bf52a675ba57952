"""A :class:`~.document.Document` in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from .document import KIND_NOTES, Bars, Block, Document, Facts, Heatmap, Line, Lines, Paragraph, Section, Table, caption
from .rich_parts import BOUND_STYLES, Prose, ascii_only, facts, heading, plain_table
from .text import UNKNOWN, clean, known, number

_STYLES = {"measured": "cyan", "imported": "blue", "projected": "yellow", "simulated": "yellow", "mixed": "yellow"}
_PARAGRAPHS = {"plain": "", "quiet": "dim", "warning": "yellow"}
_PARTS = {**BOUND_STYLES, "good": "green", "fair": "yellow", "idle": "bright_black", "quiet": "bright_black"}
_BAR_WIDTH = 34
_SPARKS, _ASCII_SPARKS = "▁▂▃▄▅▆▇█", "_.-=+*#@"
#: Cells between columns.
_GAP = 3
#: Points of a sparkline.
_LONGEST_SPARK = 40


def render(document: Document, console: Console, *, folder: Path | None = None) -> None:
    """Print a report.

    Args:
        document: the report.
        console: where; its width and encoding are respected.
        folder: where its files were saved, for the last lines.
    """
    for part in _parts(document, console, folder):
        console.print(part)
        console.print()


def _parts(document: Document, console: Console, folder: Path | None) -> Iterator[RenderableType]:
    yield _answer(document)
    for section in document.sections:
        yield render_section(section, console)
    if document.warnings:
        warnings = [Prose(warning, "yellow", "! ") for warning in document.warnings]
        yield Group(heading("Warnings"), *warnings)
    if folder is not None:
        yield Group(heading("Files", str(folder)), facts([(name, "", what) for name, what in document.files]))


def _answer(document: Document) -> RenderableType:
    style = _STYLES[document.kind]
    body: list[RenderableType] = []
    if KIND_NOTES[document.kind]:
        body += [Text(KIND_NOTES[document.kind], style=style), Text("")]
    first, *others = document.headlines or ("There is nothing to say.",)
    body += [Prose(first, "bold"), *(Prose(line, bullet="• ") for line in others)]
    if document.setting:
        body += [Text(""), Text(clean(document.setting), style="dim")]
    title = Text(f"{document.kind.upper()} · {clean(document.title)}", style="bold")
    return Panel(Group(*body), title=title, title_align="left", border_style=style, padding=(1, 2))


def render_section(section: Section, console: Console) -> RenderableType:
    """A section as something to print."""
    blocks: list[RenderableType] = []
    for block in section.blocks:
        blocks += [_BLOCKS[type(block)](block, console), Text("")]
    return Group(heading(section.title, section.lead), *blocks[:-1])


def _paragraph(block: Paragraph, console: Console) -> RenderableType:
    return Prose(block.text, _PARAGRAPHS[block.style])


def _facts(block: Facts, console: Console) -> RenderableType:
    return facts(block.rows)


def _table(block: Table, console: Console) -> RenderableType:
    block = _narrowed(block, console.width)
    names = [head.removeprefix("#") for head in block.heads]
    right = [name for name, head in zip(names, block.heads) if head.startswith("#")]
    longest = max(names, key=lambda name: 0 if name in right else _width(block, names.index(name)), default="")
    table = plain_table(*names, right=right, yielding=longest if longest not in right else "")
    for row in block.rows:
        table.add_row(*(Text(clean(cell)) for cell in row))
    if ascii_only(console):
        table.safe_box = True
    return Group(Text(clean(caption(block)), style="italic dim"), table)


def _narrowed(block: Table, width: int) -> Table:
    """The table without as many of its spare columns as it takes to fit."""
    left_out: list[str] = []
    heads, rows = list(block.heads), [list(row) for row in block.rows]
    for spare in block.spare:
        if _natural_width(heads, rows) <= width:
            break
        at = heads.index(spare)
        left_out.append(heads.pop(at).removeprefix("#"))
        for row in rows:
            row.pop(at)
    if not left_out:
        return block
    said = f"{block.caption} ({', '.join(left_out)}: see report.html, or a wider terminal)"
    return replace(block, caption=said, heads=tuple(heads), rows=tuple(tuple(row) for row in rows), spare=())


def _natural_width(heads: list[str], rows: list[list[str]]) -> int:
    widest = [max(len(head.removeprefix("#")), *(len(row[i]) for row in rows), 0) for i, head in enumerate(heads)]
    return sum(widest) + _GAP * (len(heads) - 1)


def _width(block: Table, column: int) -> int:
    return max((len(row[column]) for row in block.rows), default=0)


def _bars(block: Bars, console: Console) -> RenderableType:
    plain = ascii_only(console)
    longest = max((sum(part.value for part in bar.parts) for bar in block.bars), default=0.0) or 1.0
    table = plain_table("", " ", "  ")
    table.show_header = False
    for bar in block.bars:
        drawn = Text(no_wrap=True)
        for part in bar.parts:
            cells = round(part.value / longest * _BAR_WIDTH)
            ink = " " if part.style == "blank" else "=" if plain else "━"
            drawn.append(ink * max(cells, 1 if part.value > 0 else 0), _PARTS.get(part.style, "cyan"))
        table.add_row(Text(clean(bar.name)), drawn, Text(clean(bar.text)))
    lines: list[RenderableType] = [Text(clean(caption(block)), style="italic dim"), table]
    if block.legend:
        legend = Text(no_wrap=False)
        for style, name in block.legend:
            legend.append("= " if plain else "━ ", _PARTS.get(style, "cyan"))
            legend.append(clean(name) + "   ", "dim")
        lines.append(legend)
    return Group(*lines)


def _lines(block: Lines, console: Console) -> RenderableType:
    if not block.joined:
        return _scatter(block)
    sparks = _ASCII_SPARKS if ascii_only(console) else _SPARKS
    table = plain_table("line", "first", "last", "course", right=("first", "last"), yielding="line")
    values = [point.y for line in block.lines for point in line.points if known(point.y)]
    low, high = (min(values), max(values)) if values else (0.0, 0.0)
    for line in block.lines:
        ys = [point.y for point in line.points]
        name = _line_name(line)
        first, last = (ys[0], ys[-1]) if ys else (None, None)
        table.add_row(Text(name), number(first), number(last), _spark(ys, low, high, sparks))
    title = f"{caption(block)} ({block.y_title} over {block.x_title})"
    return Group(Text(clean(title), style="italic dim"), table)


def _scatter(block: Lines) -> RenderableType:
    """Points have no course; what can be said of them in a line is how many there are, and where."""
    table = plain_table("", "points", block.x_title, block.y_title, right=("points",), yielding="")
    for line in block.lines:
        xs, ys = [point.x for point in line.points], [point.y for point in line.points]
        table.add_row(Text(_line_name(line)), str(len(xs)), Text(_range(xs)), Text(_range(ys)))
    return Group(Text(clean(f"{caption(block)} (drawn in report.html)"), style="italic dim"), table)


def _range(values: list[float]) -> str:
    finite = [value for value in values if known(value)]
    return f"{number(min(finite))} to {number(max(finite))}" if finite else UNKNOWN


def _line_name(line: Line) -> str:
    return clean(line.name) + ("" if line.kind == "measured" else f" ({line.kind})")


def _spark(values: list[float], low: float, high: float, sparks: str) -> Text:
    """A line of blocks; long lines are thinned out evenly."""
    if len(values) > _LONGEST_SPARK:
        step = (len(values) - 1) / (_LONGEST_SPARK - 1)
        values = [values[round(index * step)] for index in range(_LONGEST_SPARK)]
    span = (high - low) or 1.0
    top = len(sparks) - 1
    return Text("".join(sparks[round((value - low) / span * top)] if known(value) else " " for value in values), "cyan")


def _heatmap(block: Heatmap, console: Console) -> RenderableType:
    table = plain_table("", *block.columns, right=block.columns)
    for name, shades, texts in zip(block.rows, block.shades, block.texts):
        cells = [Text(clean(text), style=_shade(shade)) for shade, text in zip(shades, texts)]
        table.add_row(Text(clean(name)), *cells)
    return Group(Text(clean(caption(block)), style="italic dim"), table)


def _shade(shade: float | None) -> str:
    if shade is None:
        return "dim"
    return "green" if shade >= 2 / 3 else "yellow" if shade >= 1 / 3 else "red"


_BLOCKS: dict[type[Block], Callable[[Any, Console], RenderableType]] = {
    Paragraph: _paragraph,
    Facts: _facts,
    Table: _table,
    Bars: _bars,
    Lines: _lines,
    Heatmap: _heatmap,
}
