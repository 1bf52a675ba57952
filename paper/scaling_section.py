"""Experiment 1: MFU and energy efficiency over batch sizes, the edge device against the data-centre device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..reports.document import Block, Line, Lines, Paragraph, Point, Section, Table
from ..reports.projection import interval_text
from ..reports.text import UNKNOWN, binary_bytes, count, known, number, percent
from .claims import mfu_interval, usable
from .marks import PROJECTED

Row = Mapping[str, Any]

_NOTES = (
    "Only points that fit into memory are drawn. Intervals hold nine in ten cases on GPUs that the projection's fit "
    "had not seen; no Jetson was among them, nor any matrix unit, and intervals are widened for that.",
    "Energy is a range without a value, of which figures mark the middle: from the budget of the power mode down "
    "to what a board is assumed to draw at rest, half of its least budget. For a device without power modes only the "
    "lower end is known: it is assumed to draw its power limit all the time. Figures of both devices draw that bound. "
    "Budgets and limits are those of the module or card, without the host around it.",
    "MFU counts the matrix products of forward and backward, against the peak of the precision that most of them use, "
    "which is named above. Padded tokens count as work there, tokens/s leaves them out.",
)

_MFU_BOARD = "how fast its kernels run, and the clocks that it holds under load"
_ENERGY_BOARD = "the power that it draws, at work and at rest"


def scaling_section(data: Mapping[str, Any]) -> Section:
    """The section of experiment 1."""
    rows, plan = data["scaling"], data["plan"]
    if rows is None:
        return Section("1. MFU and energy over batch sizes", (Paragraph("Not run: edgeroof paper --only scaling"),))
    blocks: list[Block] = [Paragraph(line) for line in _answers(rows, plan)]
    blocks += both_devices(rows, plan)
    blocks += [figure for precision in plan["precisions"] for figure in _mfu_figures(rows, plan, precision)]
    blocks += [figure for precision in plan["precisions"] for figure in _energy_figures(rows, plan, precision)]
    blocks += [
        _energy_table(rows, plan),
        _memory_table(rows, plan),
        *(_step_table(rows, plan, precision) for precision in plan["precisions"]),
    ]
    blocks += [Paragraph(note, "quiet") for note in _NOTES]
    lengths = f"{plan['source_length']}/{plan['target_length']} tokens, AdamW as torch chooses it, attention by sdpa"
    return Section("1. MFU and energy over batch sizes", tuple(blocks), lead=f"projected by dry runs: {lengths}")


def _answers(rows: Sequence[Row], plan: Mapping[str, Any]) -> Iterator[str]:
    """One sentence for each device and precision, from the numbers."""
    for device in (plan["edge"], plan["centre"]):
        for precision in plan["precisions"]:
            own = [
                r
                for r in rows
                if r["device"] == device and r["precision"] == precision and usable(r) and known(r["mfu"])
            ]
            if own:
                best, worst = max(own, key=lambda r: r["mfu"]), min(own, key=lambda r: r["mfu"])
                yield (
                    f"{own[0]['title']}, {precision}: MFU from {percent(worst['mfu'])} ({_name(worst)}) to "
                    f"{percent(best['mfu'])} ({_name(best)}), of the {best['denominator']}."
                )


def _name(row: Row) -> str:
    return f"{row['model']}, batch {row['batch_size']}"


def _select(rows: Sequence[Row], device: str, precision: str) -> dict[str, list[Row]]:
    """Points that fit, by model."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row["device"] == device and row["precision"] == precision and usable(row):
            found.setdefault(row["model"], []).append(row)
    return found


def _mfu_point(row: Row) -> Point | None:
    if not known(row["mfu"]):
        return None
    value, low, high = mfu_interval(row)
    return Point(row["batch_size"], 100 * value, 100 * low, 100 * high)


def _energy_range(row: Row) -> Point | None:
    """The middle of the range that energy efficiency lies in; nothing where only its lower end is known."""
    found = row["tokens_per_s_per_w"]
    if not found or found["high"] is None:
        return None
    return Point(row["batch_size"], math.sqrt(found["low"] * found["high"]), found["low"], found["high"])


def _energy_point(row: Row) -> Point | None:
    """The same, or that lower end."""
    found = row["tokens_per_s_per_w"]
    return _energy_range(row) or (Point(row["batch_size"], found["low"]) if found else None)


def both_devices(rows: Sequence[Row], plan: Mapping[str, Any]) -> list[Lines]:
    """MFU, and energy efficiency, of one model on both devices over the same axes; nothing where one has no points."""
    model = plan["breakdown"]["model"]
    lines: dict[str, list[Line]] = {"mfu": [], "energy": []}
    for device in (plan["edge"], plan["centre"]):
        for precision in plan["precisions"]:
            own = _select(rows, device, precision).get(model, ())
            least = any((row["tokens_per_s_per_w"] or {}).get("high", 0) is None for row in own)
            for name, value in (("mfu", _mfu_point), ("energy", _energy_point)):
                points = tuple(point for row in own if (point := value(row)) is not None)
                at_least = ", at least" if least and name == "energy" else ""
                lines[name] += [Line(f"{device}, {precision}{at_least}", points, "projected")] if points else []
    where = f"on both devices: FLAN-T5 {model}"
    bounded = [line.name.partition(",")[0] for line in lines["energy"] if line.name.endswith("at least")]
    names = " and ".join(dict.fromkeys(bounded))
    mark = f"{PROJECTED}; {names} as a lower bound, assumed to draw its power limit" if names else PROJECTED
    found = [
        Lines(f"MFU over batch sizes {where}", "batch size", "MFU, %", tuple(lines["mfu"]), x_log=True,
              mark=PROJECTED, board=_MFU_BOARD),
        Lines(f"Energy efficiency over batch sizes {where}", "batch size", "tokens/s/W", tuple(lines["energy"]),
              x_log=True, y_log=True, mark=mark, board=_ENERGY_BOARD),
    ]  # fmt: skip
    return [figure for figure in found if len({line.name.partition(",")[0] for line in figure.lines}) == 2]


def _mfu_figures(rows: Sequence[Row], plan: Mapping[str, Any], precision: str) -> Iterator[Lines]:
    for device in (plan["edge"], plan["centre"]):
        yield from _figure(rows, device, precision, "MFU over batch sizes", "MFU, %", _mfu_point, board=_MFU_BOARD)


def _energy_figures(rows: Sequence[Row], plan: Mapping[str, Any], precision: str) -> Iterator[Lines]:
    caption, unit = "Energy efficiency over batch sizes", "tokens/s/W, a range"
    for device in (plan["edge"], plan["centre"]):
        yield from _figure(rows, device, precision, caption, unit, _energy_range, y_log=True, board=_ENERGY_BOARD)


def _figure(
    rows: Sequence[Row],
    device: str,
    precision: str,
    caption: str,
    unit: str,
    value: Callable[[Row], Point | None],
    *,
    board: str,
    y_log: bool = False,
) -> Iterator[Lines]:
    """One figure with a line for each model; none where no point has the value."""
    lines = []
    for model, own in _select(rows, device, precision).items():
        points = tuple(point for row in own if (point := value(row)) is not None)
        lines += [Line(f"FLAN-T5 {model}", points, "projected")] if points else []
    if lines:
        yield Lines(
            f"{caption}: {device}, {precision}",
            "batch size",
            unit,
            tuple(lines),
            x_log=True,
            y_log=y_log,
            mark=PROJECTED,
            board=board,
        )


def _memory_table(rows: Sequence[Row], plan: Mapping[str, Any]) -> Table:
    def cell(row: Row | None) -> str:
        memory = row and row["memory"]
        if not memory:
            return UNKNOWN
        return f"{binary_bytes(memory['total'])}{'' if memory['fits'] else ', too large'}"

    return _by_batch(rows, plan, plan["precisions"], "Memory of the step at its peak, and whether it fits", cell)


def _step_table(rows: Sequence[Row], plan: Mapping[str, Any], precision: str) -> Table:
    def cell(row: Row | None) -> str:
        return UNKNOWN if row is None or not usable(row) else interval_text(row["step_ms"])

    return _by_batch(rows, plan, [precision], f"Step time in {precision} with 90 % intervals, where it fits", cell)


def _energy_table(rows: Sequence[Row], plan: Mapping[str, Any]) -> Table:
    def cell(row: Row | None) -> str:
        found = row and usable(row) and row["tokens_per_s_per_w"]
        if not found:
            return UNKNOWN
        return (
            f"{number(found['low'])} or more"
            if found["high"] is None
            else f"{number(found['low'])} to {number(found['high'])}"
        )

    return _by_batch(rows, plan, plan["precisions"], "Tokens/s/W, as ranges of what power may be, where it fits", cell)


def _by_batch(
    rows: Sequence[Row],
    plan: Mapping[str, Any],
    precisions: Sequence[str],
    caption: str,
    cell: Callable[[Row | None], str],
) -> Table:
    """A row for each device, precision and model, a column for each batch size."""
    at = {(r["device"], r["precision"], r["model"], r["batch_size"]): r for r in rows}
    body = tuple(
        (device, precision, model, *(cell(at.get((device, precision, model, batch))) for batch in plan["batch_sizes"]))
        for device in (plan["edge"], plan["centre"])
        for precision in precisions
        for model in plan["models"]
    )
    heads = ("device", "precision", "model", *(f"#batch {count(batch)}" for batch in plan["batch_sizes"]))
    return Table(caption, heads, body, mark=PROJECTED)
