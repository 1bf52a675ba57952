"""A run in the terminal: the answer first, then what it rests on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from . import figures
from .document_terminal import render_section
from .figures import finite
from .grouping import group_kernels
from .projection import projection_section
from .rich_parts import (
    Prose,
    ascii_only,
    bar,
    bound_text,
    heading,
    op_name,
    phase_name,
    plain_table,
    roof_text,
)
from .terminal_context import context_sections, key_figures
from .text import UNKNOWN, clean, column, count, duration, number, percent, shorten

if TYPE_CHECKING:
    from ..profiler.run import Run

#: Names for tables with little room.
_SHORT = {"communication": "comm.", "optimizer": "optim."}

#: From this width on, tables show shapes and advice in columns of their own.
WIDE = 110
#: Below this width, tables leave out their bars and the naive timers: numbers need the room.
NARROW = 80

KIND_STYLES = {"measured": "cyan", "imported": "blue", "projected": "yellow"}
KIND_NOTES = {
    "measured": "",
    "imported": "read from a trace made elsewhere: only what the trace recorded is known",
    "projected": "computed from op records and roofs. Nothing here was measured on this device.",
}


def render(run: Run, console: Console, *, top: int = 15) -> None:
    """Print a run.

    Args:
        run: the run to show; parts that it lacks are said in words.
        console: where to print; its width decides the layout, its encoding and colour system are respected.
        top: how many kernel groups to list.
    """
    sections = [
        _answer(run),
        _projection(run, console),
        _phases(run, console),
        _bounds(run, console),
        _headroom(run),
        _top_kernels(run, console, top),
        *context_sections(run, console),
    ]
    for section in sections:
        if section is not None:
            console.print(section)
            console.print()


def _projection(run: Run, console: Console) -> RenderableType | None:
    section = projection_section(run.summary.get("projection"))
    return None if section is None else render_section(section, console)


def _answer(run: Run) -> RenderableType:
    summary = run.summary
    kind = str(summary.get("kind") or "measured")
    style = KIND_STYLES.get(kind, "cyan")
    answer = summary.get("answer") or {}
    body: list[RenderableType] = [Prose(answer.get("headline") or "This run has no summary.", "bold")]
    body += [Prose(detail, bullet="• ") for detail in answer.get("details") or []]
    if KIND_NOTES.get(kind):
        banner = Text(f" {kind.upper()} ", style=f"bold reverse {style}")
        body.insert(0, Text.assemble(banner, " ", (KIND_NOTES[kind] + "\n", style)))
    figures_line = key_figures(summary.get("metrics"))
    if figures_line:
        body += [Text(""), Text(figures_line, style=style)]
    setting = _setting(run)
    if setting:
        body += [Text(""), Text(setting, style="dim")]
    title = Text(f"{kind.upper()} · {clean(summary.get('title') or 'untitled run')}", style="bold")
    return Panel(Group(*body), title=title, title_align="left", border_style=style, padding=(1, 2))


def _setting(run: Run) -> str:
    """What was run, in one line."""
    work = run.summary.get("workload")
    if not work:
        return ""
    parts = [clean(work.get("model", "")), f"batch {work['batch_size']}" if work.get("batch_size") else ""]
    if work.get("source_length"):
        parts.append(f"{work['source_length']}/{work.get('target_length', UNKNOWN)} tokens")
    parts += [clean(work[key]) for key in ("precision", "optimizer", "attention", "data") if work.get(key)]
    return " · ".join(part for part in parts if part)


def _phases(run: Run, console: Console) -> RenderableType:
    table_rows = {str(row["phase"]): row for _, row in run.phases.iterrows()}
    entries = figures.phase_bounds(run)

    def column_of(name: str) -> list[float | None]:
        return [
            finite(table_rows[entry["phase"]].get(name)) if entry["phase"] in table_rows else None for entry in entries
        ]

    columns: dict[str, list[float | None]] = {"device": column_of("device_ms")}
    timed = any(value is not None for value in columns["device"])
    columns["kernels"] = [entry["kernel_ms"] for entry in entries]
    columns["idle"] = [entry["idle_ms"] for entry in entries]
    if timed and console.width >= NARROW:
        columns |= {"host": column_of("host_unsynced_ms"), "closure": column_of("closure_ms")}
    columns = {name: values for name, values in columns.items() if any(value is not None for value in values)}

    lead = next(iter(columns))
    total = sum(value or 0.0 for value in columns[lead])
    texts = {name: column([*values, sum(value or 0.0 for value in values)]) for name, values in columns.items()}
    rest = [name for name in columns if name != lead]
    width = 28 if console.width >= WIDE else 10 if console.width >= NARROW else 0
    table = plain_table("phase", lead, "share", *([""] if width else []), *rest, right=(*columns, "share"))
    for index, entry in enumerate(entries):
        value = columns[lead][index]
        share = value / total if value is not None and total else None
        drawn = bar(share, width, "cyan", ascii_only=ascii_only(console))
        table.add_row(
            phase_name(entry["phase"]),
            texts[lead][index],
            percent(share),
            *([drawn] if width else []),
            *(texts[name][index] for name in rest),
        )
    table.add_row(
        "step", texts[lead][-1], *[""] * (2 if width else 1), *(texts[name][-1] for name in rest), style="bold"
    )
    return Group(heading("Phases", "ms of one step"), table, *_timing_notes(run, timed, console))


def _timing_notes(run: Run, timed: bool, console: Console) -> Iterator[RenderableType]:
    """How large opt.step() looks to each way of timing, and whether that is real."""
    if not timed:
        yield Text(
            "True phase times need a run of our own: this one has kernel times only, so neither device-true phase "
            "times nor what other timers would have said is known.",
            style="dim",
        )
        return
    bars = figures.timing_bars(run)
    grid = Table.grid(padding=(0, 2, 0, 0))
    for entry in bars:
        share = sum(part["share"] for part in entry["parts"] if part["phase"] == "optimizer")
        style = "cyan" if entry is bars[0] else "yellow"
        drawn = bar(share, 28 if console.width >= WIDE else 20, style, ascii_only=ascii_only(console))
        grid.add_row(Text(entry["name"], style="dim"), drawn, percent(share))
    yield Text("")
    yield Text("opt.step() as a share of the step, as timed by")
    yield grid
    verdict = (run.summary.get("timing") or {}).get("verdict")
    if verdict:
        yield Prose(verdict, "bold")


def _bounds(run: Run, console: Console) -> RenderableType:
    width = 40 if console.width >= WIDE else 24 if console.width >= NARROW else 0
    numbers = ("share", "time", "could be won", "kernels")
    table = plain_table("bound", "share", *([""] if width else []), *numbers[1:], right=numbers)
    for entry in figures.bound_shares(run):
        name = bound_text(entry["bound"])
        drawn = bar(entry["share"], width, str(name.style), ascii_only=ascii_only(console))
        table.add_row(
            name,
            percent(entry["share"]),
            *([drawn] if width else []),
            duration(finite(entry["dur_us"])),
            _won(finite(entry.get("headroom_us"))),
            count(finite(entry.get("kernels"))),
        )
    return Group(heading("What holds the kernels", "share of kernel time by bound"), table)


def _won(headroom_us: float | None) -> str:
    """Time above the roof; kernels that are faster than their roof together leave nothing to win."""
    return "none: above roof" if headroom_us is not None and headroom_us < 0 else duration(headroom_us)


def _headroom(run: Run) -> RenderableType | None:
    entries = run.summary.get("headroom") or []
    if not entries:
        return Group(
            heading("What to win"), Text("No kernel has a known cost, so no headroom can be computed.", style="dim")
        )
    kernel_us = figures.totals(run)["kernel_us"]
    table = plain_table(
        "",
        "could win",
        "share",
        "roof",
        "where and how",
        right=("", "could win", "share", "roof"),
        stretch="where and how",
    )
    told: dict[str, int] = {}
    for entry in entries:
        where = Text.assemble(
            (op_name(entry["op"]), "bold"), f" in {phase_name(entry['phase'])} · ", bound_text(entry["bound"])
        )
        advice = clean(entry.get("advice") or "")
        first = told.setdefault(advice, entry["rank"])
        won, spent = finite(entry["headroom_us"]), finite(entry["dur_us"])
        table.add_row(
            Text(str(entry["rank"]), style="dim"),
            Group(Text(duration(won), style="bold"), Text(f"of {duration(spent)}", style="dim")),
            percent(won / kernel_us if won is not None and kernel_us else None),
            roof_text(finite(entry.get("roof_fraction"))),
            Group(where, Text(advice if first == entry["rank"] else f"Same advice as for {first}.", style="dim")),
        )
    return Group(heading("What to win", "time above the roof; share of all kernel time"), table)


def _top_kernels(run: Run, console: Console, top: int) -> RenderableType:
    groups = group_kernels(run, ("op", "phase", "bound", "shapes"))
    shown = figures.records(groups.head(top))
    wide = console.width >= WIDE
    columns = ["op", *(["shapes"] if wide else []), "phase", "bound", "×", "ms", "share", "roof"]
    table = plain_table(*columns, right=("×", "ms", "share", "roof"), yielding="shapes" if wide else "op")
    for group in shown:
        shapes, phase, bound = shorten(group["shapes"], 60), phase_name(group["phase"]), bound_text(group["bound"])
        op = Text(shorten(op_name(group["op"]), 40 if wide else 26), no_wrap=True, overflow="ellipsis")
        cells = [op, Text(shapes, style="dim", no_wrap=True, overflow="ellipsis"), Text(phase), bound]
        if not wide:
            op.append(f"\n{shapes}" if shapes else "", style="dim")
            cells = [op, Text(_SHORT.get(phase, phase)), Text(_SHORT.get(bound.plain, bound.plain), style=bound.style)]
        cells += [Text(count(group["kernels"])), Text(number(group["time_us"] / 1e3)), Text(percent(group["share"]))]
        table.add_row(*cells, roof_text(group["roof_fraction"]))
    rest = groups["share"].iloc[top:].sum()
    notes = (
        [Text(f"and {len(groups) - top:,} smaller groups with {percent(rest)} of the time", style="dim")]
        if len(groups) > top
        else []
    )
    if (groups["roof_fraction"] > 1).any():
        notes.append(
            Text("! above 100 % of the roof: data came from a cache, or bytes are counted wrongly", style="yellow")
        )
    return Group(heading("Top kernels", "by op, phase, bound and shapes; one step"), table, *notes)
