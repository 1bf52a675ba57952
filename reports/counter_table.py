"""Our byte and FLOP counts beside the hardware's, op by op."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from .rich_parts import heading, op_name, plain_table
from .text import UNKNOWN, clean, count, known, number, si

if TYPE_CHECKING:
    from ..profiler.counters import Merged


def render_counters(merged: Merged, console: Console, top: int = 15) -> None:
    """Print one row per op: bytes and FLOPs of both sides, their ratios, and why they differ.

    Args:
        merged: a run with counters.
        console: where to print.
        top: rows.
    """
    console.print()
    console.print(heading("counters", "Nsight Compute beside our counts; a ratio is the counter over ours"))
    heads = ("op", "kernels", "bytes", "counted", "ratio", "FLOPs", "counted", "ratio", "why they differ")
    table = plain_table(*heads, right=heads[1:-1], stretch=heads[-1])
    for row in merged.table.head(top).to_dict("records"):
        table.add_row(*_cells(row))
    console.print(table)
    if len(merged.table) > top:
        console.print(f"and {len(merged.table) - top} more ops", style="dim")
    console.print(clean(merged.describe()), style="dim")


def _cells(row: dict[Any, Any]) -> list[Text]:
    return [
        Text(op_name(row["op"])),
        Text(count(row["kernels"])),
        Text(si(row["our_bytes"], "B")),
        Text(si(row["counter_bytes"], "B")),
        _ratio(row["bytes_ratio"]),
        Text(si(row["our_flops"], "")),
        Text(si(row["counter_flops"], "")),
        _ratio(row["flops_ratio"]),
        Text(clean(row["reason"]), style="dim"),
    ]


def _ratio(value: float) -> Text:
    return Text(number(value)) if known(value) else Text(UNKNOWN)
