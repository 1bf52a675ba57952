"""Experiment 2: granularity over links, from a data centre's to LTE, for all weights, adapters and codecs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..reports.document import Block, Heatmap, Line, Lines, Paragraph, Point, Section, Table
from ..reports.granularity import shade
from ..reports.text import binary_bytes, duration, number
from .marks import LINKS, MEASURED

Data = Mapping[str, Any]

_NOTES = (
    "G = T_comp / T_comm. T_comp: {steps} steps of {batch} dialogues, a tenth of SAMSum, projected. T_comm: weights "
    "down in fp32 and the update up, sizes exact, by a model of one TCP connection over links of public rates. T_codec "
    "stands apart. Bands are the intervals of the step time alone.",
    "Twice the clients, each computing half, make a round (G + 1) / (G / 2 + 1) times as fast: at G = 1 a third "
    "faster, at G = 0.1 not even a twentieth.",
)

_BOARD = "its step time, what coding takes on its own cores, and what its link carries where it stands"


def links_section(data: Data) -> Section:
    """The section of experiment 2."""
    result, title = data["links"], "2. Granularity over links"
    if result is None:
        return Section(title, (Paragraph("Not run: edgeroof paper --only links"),))
    blocks: list[Block] = [Paragraph(line) for line in _answers(result)]
    blocks += [_curves(result, device) for device in _devices(result)]
    blocks += heat_maps(result)
    blocks += [_traffic(result), _links_table(result)]
    steps, batch = result["cases"][0]["steps"], result["wanted"]["batch_size"]
    blocks += [Paragraph(note.format(steps=steps, batch=batch), "quiet") for note in _NOTES]
    return Section(
        title, tuple(blocks), lead="step times projected, coding measured here, transfers by a model of the links"
    )


def _devices(result: Data) -> list[str]:
    return list(dict.fromkeys(case["device"] for case in result["cases"]))


def _variant(case: Data) -> str:
    return "all weights" if case["lora_rank"] is None else f"LoRA {case['lora_rank']}"


def _fitting(result: Data, device: str) -> Iterator[tuple[Data, list[Data]]]:
    """Clients of a device whose step fits into its memory, with their rows."""
    for number_, case in enumerate(result["cases"]):
        if case["device"] == device and case["fits"] is not False:
            yield case, [row for row in result["rows"] if row["case"] == number_]


def _answers(result: Data) -> Iterator[str]:
    slowest, plain = result["links"][-1]["name"], next(iter(result["codecs"]))
    for device in _devices(result):
        parts = []
        for case, rows in _fitting(result, device):
            over = [row for row in rows if row["link"] == slowest]
            first = next(row for row in over if row["codec"] == plain)
            best = max(over, key=lambda row: row["granularity"])
            parts.append(
                f"{case['model']} with {_variant(case)} {number(first['granularity'])}"
                + (f", with {best['codec']} {number(best['granularity'])}" if best is not first else "")
            )
        if parts:
            yield f"G over {slowest} on {device}: {'; '.join(parts)}."
        missing = [
            f"{case['model']} ({_variant(case)})"
            for case in result["cases"]
            if case["device"] == device and case["fits"] is False
        ]
        if missing:
            yield f"Left out on {device}, for they exceed its memory at this batch: {', '.join(missing)}."


def _curves(result: Data, device: str) -> Lines:
    """G of all weights as they are against the links' upload rate."""
    rates, plain = {link["name"]: link["up_mbps"] for link in result["links"]}, next(iter(result["codecs"]))
    lines = []
    for case, rows in _fitting(result, device):
        points = tuple(
            Point(rates[row["link"]], row["granularity"], row["granularity_low"], row["granularity_high"])
            for row in sorted(rows, key=lambda row: rates[row["link"]])
            if row["codec"] == plain
        )
        if case["lora_rank"] is None:
            lines.append(Line(f"FLAN-T5 {case['model']}", points, "projected"))
    return Lines(
        f"G of all weights over upload rates: {device}",
        "upload rate, Mbit/s", "G", tuple(lines), x_log=True, y_log=True, mark=LINKS, board=_BOARD,
    )  # fmt: skip


def heat_maps(result: Data) -> list[Heatmap]:
    """G by model, codec and link, a figure for each device."""
    return [_heat(result, device) for device in _devices(result)]


def _heat(result: Data, device: str) -> Heatmap:
    links = tuple(link["name"] for link in result["links"])
    names: list[str] = []
    values: list[list[float]] = []
    for case, rows in _fitting(result, device):
        for codec in result["codecs"]:
            names.append(f"{case['model']}, {_variant(case)}, {codec}")
            values.append([row["granularity"] for row in rows if row["codec"] == codec])
    return Heatmap(
        f"G by link: {device}",
        tuple(names),
        links,
        tuple(tuple(shade(value) for value in row) for row in values),
        tuple(tuple(number(value) for value in row) for row in values),
        mark=LINKS,
        board=_BOARD,
    )


def _traffic(result: Data) -> Table:
    rows = tuple(
        (
            entry["model"],
            "all weights" if entry["lora_rank"] is None else f"LoRA {entry['lora_rank']}",
            entry["codec"],
            binary_bytes(entry["down_bytes"]),
            binary_bytes(entry["coding"]["size"]),
            duration(entry["coding"]["seconds"] * 1e6),
        )
        for entry in result["traffic"]
    )
    heads = ("model", "trained", "codec", "#down", "#up", "#T_codec on this CPU")
    return Table("What travels in a round: sizes exact, coding timed", heads, rows, mark=MEASURED)


def _links_table(result: Data) -> Table:
    rows: Sequence[tuple[str, ...]] = [
        (link["name"], number(link["down_mbps"]), number(link["up_mbps"]), number(link["rtt_ms"]), link["source"])
        for link in result["links"]
    ]
    return Table(
        "Links",
        ("link", "#down Mbit/s", "#up Mbit/s", "#RTT ms", "source"),
        tuple(rows),
        mark="from public sources or assumed",
    )
