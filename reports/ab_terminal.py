"""An A/B result in the terminal: the answer, a table per problem, what is missing, what to doubt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from . import ab_view
from .rich_parts import ascii_only, facts, heading, plain_table, roof_text
from .text import UNKNOWN, binary_bytes, clean, duration, known, number, shorten

#: From this width on, everything has its column.
WIDE = 116
#: Characters of a provider's name, in wide and narrow tables.
LONGEST_NAME, SHORTER_NAME = 24, 18

#: Short names in the heads of narrow columns.
_SHORT = {"parameter": "param", "element": "elem"}

VERDICT_STYLES = {
    "FASTER": "bold green",
    "SAME": "cyan",
    "SLOWER": "red",
    "UNCLEAR": "yellow",
    "WRONG": "bold reverse red",
    "FAILED": "red",
    "BASE": "dim",
}


def render(result: Mapping[str, Any], console: Console, *, folder: Path | None = None) -> None:
    """Print a result.

    Args:
        result: of :func:`edgeroof.kernels.ab.run`.
        console: where to print; its width decides the columns.
        folder: where the result was saved, for the last line.
    """
    for section in _sections(result, console, folder):
        console.print(section)
        console.print()


def _sections(result: Mapping[str, Any], console: Console, folder: Path | None) -> Iterator[RenderableType]:
    yield _answer(result)
    for problem in result["problems"]:
        yield _problem(problem, console)
    yield _trust(result, console)
    if folder is not None:
        yield Group(
            heading("Files", str(folder)),
            facts(
                [("report.html", "", "providers under the roof, ratios with intervals"), ("ab.json", "", "all samples")]
            ),
        )


def _answer(result: Mapping[str, Any]) -> RenderableType:
    title = Text(f"A/B · {clean(result['suite'])}: {clean(result['operation'])}", style="bold")
    lines = [Text(clean(line)) for line in ab_view.headlines(result)]
    body = Group(*lines, Text(""), Text(ab_view.setting(result), style="dim"))
    return Panel(body, title=title, title_align="left", border_style="cyan", padding=(1, 2))


def _problem(problem: Mapping[str, Any], console: Console) -> RenderableType:
    lines: list[RenderableType] = [heading(problem["name"], f"{problem['title']}; {ab_view.size_text(problem)}")]
    lines.append(Text(ab_view.noise_text(problem), style="dim"))
    lines += [Text(""), _table(problem, console)]
    if ab_view.parts(problem):
        lines += [Text(""), _parts_table(problem)]
    absent = ab_view.missing(problem)
    if absent:
        lines += [Text(""), facts([(name, "", reason) for name, reason in absent])]
    return Group(*lines)


def _table(problem: Mapping[str, Any], console: Console) -> RenderableType:
    wide = console.width >= WIDE
    both = any("device" in entry["times_us"] for entry in ab_view.timed(problem))
    energy = any(ab_view.energy_text(entry) for entry in ab_view.timed(problem))
    columns = ["provider", "verdict", "ratio (95 %)", "time"]
    columns += ["wall"] if both else []
    columns += ["GB/s"] if wide else []
    per_item = f"B/{_SHORT.get(ab_view.item(problem), ab_view.item(problem))}"
    columns += ["roof", per_item]
    columns += ["error", "memory"] if wide else []
    columns += ["energy"] if energy and wide else []
    table = plain_table(*columns, right=[name for name in columns if name not in ("provider", "verdict")])
    for entry in ab_view.listed(problem):
        table.add_row(*_cells(entry, columns, per_item, LONGEST_NAME if wide else SHORTER_NAME))
    if console.width < 100:
        table.padding = (0, 1, 0, 0)
    if ascii_only(console):
        table.safe_box = True
    return table


def _cells(entry: Mapping[str, Any], columns: list[str], per_item: str, longest: int) -> list[Text]:
    verdict = ab_view.verdict_of(entry)
    has_times = entry["status"] in ("baseline", "measured")
    comparison = (entry.get("comparisons") or {}).get("wall") if entry["status"] == "measured" else None
    energy = ab_view.energy_text(entry) if has_times else ""
    cells = {
        "provider": Text(shorten(clean(entry["provider"]), longest), style="bold" if entry["judged"] else ""),
        "verdict": Text(verdict, style=VERDICT_STYLES.get(verdict, "")),
        "ratio (95 %)": Text(ab_view.ratio_text(comparison)),
        "time": Text(duration(ab_view.time_us(entry)) if has_times else UNKNOWN),
        "wall": Text(duration(entry["times_us"]["wall"]["median"]) if has_times else UNKNOWN),
        "GB/s": Text(number(entry.get("gbs"))),
        "roof": roof_text(entry.get("roof_fraction")),
        per_item: Text(number(entry.get("bytes_per_parameter"))),
        "error": Text(f"{entry['error']:.1e}" if known(entry.get("error")) else UNKNOWN),
        "memory": Text(binary_bytes(entry.get("peak_bytes"))),
        "energy": Text(energy or UNKNOWN),
    }
    return [cells[name] for name in columns]


def _parts_table(problem: Mapping[str, Any]) -> RenderableType:
    heads = ("part of the call", "provider", "verdict", "ratio (95 %)", "time")
    table = plain_table(*heads, right=heads[3:])
    for part, provider, verdict, ratio, time in ab_view.part_rows(problem):
        name = Text(shorten(clean(provider), SHORTER_NAME))
        table.add_row(Text(clean(part)), name, Text(verdict, VERDICT_STYLES.get(verdict, "")), Text(ratio), Text(time))
    return table


def _trust(result: Mapping[str, Any], console: Console) -> RenderableType:
    lines: list[RenderableType] = [heading("How to read this")]
    lines.append(
        Text(
            "ratio: base time / provider time, above 1 is faster; roof: share of the speed at which the bytes it moves "
            f"could be moved ({ab_view.roof_text(result)}); error: {ab_view.error_measure(result)}; memory: peak above "
            "what all providers share.",
            style="dim",
        )
    )
    lines += [Text(f"! {clean(line)}", style="yellow") for line in ab_view.warnings(result)]
    reason = ab_view.energy_reason(result)
    if reason:
        lines.append(Text(f"energy not measured: {reason}", style="dim"))
    state = (result.get("machine") or {}).get("after") or {}
    if state:
        lines.append(Text("machine: " + ", ".join(f"{k} {clean(v)}" for k, v in state.items()), style="dim"))
    return Group(*lines)
