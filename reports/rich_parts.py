"""Small pieces the terminal report is made of: bars, headings, plain tables, and text that cannot be markup."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from .text import clean, percent, unbroken

BOUND_STYLES = {
    "memory": "blue",
    "compute": "green",
    "latency": "yellow",
    "inefficient": "red",
    "communication": "magenta",
    "unknown": "bright_black",
}
#: Names that stand for an empty key.
NO_PHASE, NO_OP = "no phase", "(not linked to an op)"


def ascii_only(console: Console) -> bool:
    """Whether the console's encoding cannot draw lines."""
    return not console.encoding.lower().startswith("utf")


def bar(share: float | None, width: int, style: str, *, ascii_only: bool = False) -> Text:
    """A horizontal bar, ``share`` of ``width`` cells long, exact to half a cell; anything present shows something."""
    share = min(max(share or 0.0, 0.0), 1.0)
    halves = round(share * width * 2)
    if share > 0:
        halves = max(halves, 1)
    full, half = divmod(halves, 2)
    drawn = ("=" * full + "-" * half) if ascii_only else ("━" * full + "╸" * half)
    return Text(drawn.ljust(width), style=style, no_wrap=True)


@dataclass(frozen=True)
class Prose:
    """Sentences, broken between words but never between a number and its unit; lines after the first hang.

    Attributes:
        text: what to say; cleaned here.
        style: of all of it.
        bullet: in front of the first line, such as ``• ``; the other lines are indented by as much.
    """

    text: object
    style: str = ""
    bullet: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """One line after the other, as wide as there is room."""
        indent = " " * len(self.bullet)
        width = max(options.max_width, 12)
        lines = textwrap.wrap(
            unbroken(clean(self.text)), width, initial_indent=self.bullet, subsequent_indent=indent,
            break_on_hyphens=False,
        )  # fmt: skip
        for line in lines or [""]:
            yield Text(line.replace("\N{NO-BREAK SPACE}", " "), style=self.style)


def heading(title: str, note: str = "") -> Text:
    """A section's first line: bold title, then a quiet explanation."""
    text = Text(clean(title).upper(), style="bold")
    if note:
        text.append("  " + clean(note), style="not bold dim")
    return text


def plain_table(*columns: str, right: Iterable[str] = (), stretch: str = "", yielding: str = "") -> Table:
    """A table without frame.

    Args:
        columns: titles.
        right: columns to align to the right.
        stretch: the column that takes the room left over and wraps its text.
        yielding: the column that is cut when there is too little room; numbers never are.
    """
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    numeric = set(right)
    for name in columns:
        table.add_column(
            Text(name),
            justify="right" if name in numeric else "left",
            no_wrap=name not in (stretch, yielding),
            overflow="fold" if name == stretch else "ellipsis",
            ratio=1 if name == stretch else None,
        )
    table.expand = bool(stretch)
    return table


def facts(rows: Iterable[tuple[str, str, str]]) -> Table:
    """Name, value and a quiet remark, one fact a line."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold", style="dim")
    for name, value, remark in rows:
        grid.add_row(Text(clean(name)), Text(clean(value)), Text(clean(remark)))
    return grid


def bound_text(bound: object) -> Text:
    """The name of a bound in its colour."""
    name = clean(bound)
    return Text(name, style=BOUND_STYLES.get(name, ""))


def phase_name(phase: object) -> str:
    """A phase as people read it."""
    return clean(phase) or NO_PHASE


def op_name(op: object) -> str:
    """An op as people read it, without the namespace that most of them share."""
    return clean(op).removeprefix("aten::") or NO_OP


def roof_text(fraction: float | None) -> Text:
    """A roof fraction; above 1 it is marked, since it is evidence of cache reuse or of a wrong count."""
    text = Text(percent(fraction))
    if fraction is not None and fraction > 1:
        text.append(" !", style="bold yellow")
    return text
