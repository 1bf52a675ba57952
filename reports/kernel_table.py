"""The table of compiled kernels: what each would use on a GPU that need not be here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from .rich_parts import heading, plain_table
from .text import UNKNOWN, clean, count, number

if TYPE_CHECKING:
    from ..kernels.aot import KernelReport

#: Accesses of the hot loop should be as wide as the hardware allows.
WIDEST_BITS = 128
#: Columns by which variants stand to the right of their kernel's name.
INDENT = 2


def rows_of(reports: Sequence[KernelReport]) -> list[dict[str, Any]]:
    """JSON-ready rows."""
    return [asdict(report) for report in reports]


def render_kernels(reports: Sequence[KernelReport], console: Console) -> None:
    """Print a table per architecture: registers, spills, shared memory, access widths, bytes per parameter."""
    for arch in dict.fromkeys(report.arch for report in reports):
        of_arch = [report for report in reports if report.arch == arch]
        console.print(heading(f"kernels for {arch}", "compiled ahead of time"))
        console.print(_table(of_arch))
        console.print()
    console.print(
        "regs: registers of a thread; spills: bytes of a thread that fit in none; shared: bytes of a block; "
        "load and store: narrowest access of the hot loop in bits; B/param: bytes per parameter as documented, and as "
        "counted in the compiled code where that differs. – is a kernel without a hot loop.",
        style="dim",
    )


def _table(reports: Sequence[KernelReport]) -> Any:
    """A line with the name of each kernel, and below it a row for each of its variants."""
    heads = ("kernel, variant", "regs", "spills", "shared", "load", "store", "B/param")
    table = plain_table(*heads, right=heads[1:], stretch=heads[0])
    for kernel in dict.fromkeys(report.kernel for report in reports):
        table.add_row(Text(clean(kernel), style="bold"))
        for report in reports:
            if report.kernel == kernel:
                table.add_row(*_cells(report))
    return table


def _cells(report: KernelReport) -> list[Any]:
    return [
        Padding(Text(clean(report.variant) or "the only one"), (0, 0, 0, INDENT)),
        count(report.registers),
        Text(count(report.spill_bytes), style="bold red" if report.spill_bytes else ""),
        count(report.shared_bytes),
        _width(report.load_bits),
        _width(report.store_bits),
        _bytes(report),
    ]


def _width(bits: int | None) -> Text:
    if bits is None:
        return Text(UNKNOWN)
    return Text(str(bits) if bits else "scalar", style="" if bits >= WIDEST_BITS else "yellow")


def _bytes(report: KernelReport) -> Text:
    if not report.bytes_per_element:
        return Text(UNKNOWN)
    documented, counted = number(report.bytes_per_element), number(report.static_bytes)
    return Text(documented) if documented == counted else Text(f"{documented} ({counted})", style="bold red")
