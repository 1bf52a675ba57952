"""A report as plain data: sections of text, facts, tables and figures.

A report is built once and shown twice: :mod:`.document_terminal` prints it, :mod:`.document_html` makes one HTML file.
Texts are written for people already; figures hold numbers. Whatever is projected or simulated says so in ``kind``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["measured", "imported", "projected", "simulated", "mixed"]

#: What each kind means, for the banner of a report.
KIND_NOTES: dict[str, str] = {
    "measured": "",
    "imported": "Imported: read, at least in part, from traces made elsewhere; only what they recorded is known.",
    "projected": "Projected: computed from op records and a model of the device. Nothing here was measured on it.",
    "simulated": "Simulated: devices, links or clients here are models, with the figures that the report names.",
    "mixed": "Part of this was measured, part projected or simulated; every table and figure says which.",
}


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; ``quiet`` ones explain, ``warning`` ones must be seen."""

    text: str
    style: Literal["plain", "quiet", "warning"] = "plain"


@dataclass(frozen=True)
class Facts:
    """Names, values and remarks, one fact a line."""

    rows: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Claim:
    """Words of a headline, and where on the page that is of which they speak: ``#row-3``, ``#ops?phase=backward``."""

    text: str
    href: str


@dataclass(frozen=True)
class Choice:
    """What a page lets its readers do with a table: sort its rows, search them, choose some of them.

    Attributes:
        name: of the table in addresses, such as ``ops`` of ``#ops?phase=backward``.
        facets: heads of the columns by whose values rows can be chosen.
        rows: every row, also those that the table itself sums up.
        values: for each row the numbers of its ``#`` columns, to sort by.
    """

    name: str
    facets: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    values: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        caption: what it shows.
        heads: titles of the columns; ``#`` in front marks a column of numbers.
        rows: texts, one for each column.
        mark: where its numbers come from, in a few words; see :func:`origin`.
        spare: heads of columns that a narrow terminal leaves out, the first of them first.
        name: of the table on a page, for links to it; one with a ``choice`` has the name of that.
        anchors: names of the rows on a page, likewise.
        links: where the first cell of each row leads on a page; empty for nowhere.
        choice: of rows, on a page.
    """

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    mark: str = ""
    spare: tuple[str, ...] = ()
    name: str = ""
    anchors: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    choice: Choice | None = None


@dataclass(frozen=True)
class Part:
    """A part of a bar: ``style`` is a bound, ``idle``, ``good``, ``fair``, ``quiet``, ``phase`` or ``blank``."""

    label: str
    value: float
    style: str = "phase"


@dataclass(frozen=True)
class Bar:
    """One bar: its name, its parts, and its value in words; ``href`` is where its name leads on a page."""

    name: str
    parts: tuple[Part, ...]
    text: str
    note: str = ""
    href: str = ""


@dataclass(frozen=True)
class Bars:
    """Stacked bars on a common scale.

    Attributes:
        caption: what they show.
        bars: from top to bottom.
        unit: of the values, for the description of parts.
        legend: styles and names of parts, where labels within the bars are not enough.
        mark: as of a :class:`Table`.
        board: what only the device itself can tell about it, for figures of devices that are not here.
    """

    caption: str
    bars: tuple[Bar, ...]
    unit: str = ""
    legend: tuple[tuple[str, str], ...] = ()
    mark: str = ""
    board: str = ""


@dataclass(frozen=True)
class Point:
    """A point of a line, with the ends of its interval where it has one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Line:
    """One line of a figure; ``kind`` decides how it is drawn: measured solid, others dashed.

    ``joined`` says whether its points are joined, in place of what the figure says.
    """

    name: str
    points: tuple[Point, ...]
    kind: Kind = "measured"
    joined: bool | None = None


@dataclass(frozen=True)
class Flag:
    """A place on the x axis with a name, drawn as a line in the colour of the ``line``-th of a figure's lines."""

    x: float
    text: str
    line: int = 0


@dataclass(frozen=True)
class Lines:
    """Lines over a common axis.

    Attributes:
        caption: what they show.
        x_title: with its unit.
        y_title: with its unit.
        lines: the first is drawn on top.
        x_log: logarithmic x axis.
        y_log: logarithmic y axis.
        joined: whether points are joined; a scatter otherwise.
        mark: as of a :class:`Table`.
        board: as of :class:`Bars`.
        flags: points of the x axis with a name.
    """

    caption: str
    x_title: str
    y_title: str
    lines: tuple[Line, ...]
    x_log: bool = False
    y_log: bool = False
    joined: bool = True
    mark: str = ""
    board: str = ""
    flags: tuple[Flag, ...] = ()


@dataclass(frozen=True)
class Heatmap:
    """A grid of numbers in colour.

    Attributes:
        caption: what it shows.
        rows: names of the rows.
        columns: names of the columns.
        shades: one number from 0 to 1 per cell, row by row; ``None`` where there is none.
        texts: what each cell says.
        mark: as of a :class:`Table`.
        board: as of :class:`Bars`.
    """

    caption: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    shades: tuple[tuple[float | None, ...], ...]
    texts: tuple[tuple[str, ...], ...]
    mark: str = ""
    board: str = ""


Figure = Bars | Lines | Heatmap
Block = Paragraph | Facts | Table | Figure


def origin(block: Table | Figure, document_kind: Kind) -> str:
    """Where the numbers of a table or figure come from: its own mark, else what all of the report says."""
    return block.mark or document_kind


def caption(block: Table | Figure) -> str:
    """What a table or figure shows, after the mark that sets it apart from the rest of the report."""
    return f"[{block.mark}] {block.caption}" if block.mark else block.caption


def board_line(figure: Figure) -> str:
    """What only the device itself can tell about a figure, as a sentence; empty where nothing is said."""
    return f"Only a board can tell: {figure.board}." if figure.board else ""


@dataclass(frozen=True)
class Section:
    """A section with a title, a sentence on what it is about, and its blocks."""

    title: str
    blocks: tuple[Block, ...]
    lead: str = ""


@dataclass(frozen=True)
class Document:
    """A report.

    Attributes:
        name: what kind of report it is, such as ``federated``.
        title: what it is about.
        kind: where its numbers come from.
        headlines: the answer, in sentences.
        sections: what it rests on.
        setting: what was run, in one line.
        warnings: what the reader must know.
        command: how to make it again.
        created: when, ISO 8601.
        files: names of files beside the report, with what they are.
        claims: of each headline, the words that lead to what they speak of.
    """

    name: str
    title: str
    kind: Kind
    headlines: tuple[str, ...]
    sections: tuple[Section, ...]
    setting: str = ""
    warnings: tuple[str, ...] = ()
    command: str = ""
    created: str = ""
    files: tuple[tuple[str, str], ...] = field(default=())
    claims: tuple[tuple[Claim, ...], ...] = ()
