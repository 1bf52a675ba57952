"""The report of a fleet: one roofline summary per class of devices, the slowest nodes, and why they are slow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from .document import Bar, Bars, Document, Paragraph, Part, Section, Table
from .text import UNKNOWN, duration, known, number, percent, si

_PHASES = ("data", "zero_grad", "forward", "loss", "backward", "communication", "optimizer")
#: Phases that a narrow terminal leaves out first.
_SHORT_PHASES = ("zero_grad", "data", "loss", "communication")


def fleet_document(result: Mapping[str, Any]) -> Document:
    """The report of a result of :func:`edgeroof.fl.profile_fleet`."""
    sections = [_classes(result), _nodes(result["nodes"])]
    if result["slow"]:
        sections.append(_slow(result))
    if result["failed"]:
        sections.append(_failed(result["failed"]))
    return Document(
        name="fleet",
        title=f"{result['client']['model']} client step on {len(result['nodes'])} SuperNodes",
        kind="measured",
        headlines=tuple(_headlines(result)),
        sections=tuple(sections),
        setting=_setting(result),
        warnings=tuple(f"node {node['index']}: {node['failure']}" for node in result["failed"]),
        command=result.get("command", ""),
        created=result.get("created", ""),
        files=(
            ("report.html", "this report with its figures"),
            ("fleet.json", "the figures behind it"),
            ("node-0/", "the run of each SuperNode; edgeroof show prints it"),
        ),
    )


def _headlines(result: Mapping[str, Any]) -> list[str]:
    times = [node["step_ms"] for node in result["nodes"] if known(node["step_ms"])]
    if not times:
        return ["No SuperNode sent a measured step."]
    lines = [
        f"A step takes {_ms(min(times))} on the fastest of {len(times)} nodes, {_ms(median(times))} in the middle and "
        f"{_ms(max(times))} on the slowest: a round that waits for all is as slow as that."
    ]
    for node in result["slow"]:
        lines.append(f"Node {node['index']} takes {number(node['ratio'])} times the median. {' '.join(node['why'])}")
    if not result["slow"] and len(times) > 1:
        lines.append("No node is far slower than the others.")
    return lines


def _setting(result: Mapping[str, Any]) -> str:
    client = result["client"]
    given = {name: value for name, value in sorted(client.items()) if name != "model" and value is not None}
    told = [f"{name.replace('_', ' ')} {value}" for name, value in given.items()]
    how = "one node after the other" if result["one_by_one"] else "all nodes at the same time"
    return " · ".join([*told, how])


def _classes(result: Mapping[str, Any]) -> Section:
    rows, bars = [], []
    for name, indices in result["classes"].items():
        nodes = [node for node in result["nodes"] if node["index"] in indices]
        rows.append(
            (
                name,
                str(len(nodes)),
                _middle(nodes, "step_ms", _ms),
                _middle(nodes, "roof_ms", _ms),
                _middle(nodes, "roof_fraction", percent),
                _middle(nodes, "mfu", percent),
                _middle(nodes, "bandwidth_gbs", lambda value: si(value * 1e9, "B/s")),
                _middle(nodes, "tokens_per_s", number),
            )
        )
        bars.append(_bound_bar(name, nodes))
    heads = ("device", "#nodes", "#step", "#at the roof", "#of the roof", "#MFU", "#bandwidth", "#tokens/s")
    bounds = tuple((bound, bound) for bound in sorted({part.style for bar in bars for part in bar.parts}))
    return Section(
        "Device classes",
        (
            Table("Medians over the nodes of a class", heads, tuple(rows), spare=("#bandwidth",)),
            Bars("Kernel time of a step by what bounds it", tuple(bars), "ms", bounds),
        ),
        lead="the roofline of every kind of device",
    )


def _middle(nodes: Sequence[Mapping[str, Any]], name: str, show: Any) -> str:
    values = [node[name] for node in nodes if known(node[name])]
    return show(median(values)) if values else UNKNOWN


def _bound_bar(name: str, nodes: Sequence[Mapping[str, Any]]) -> Bar:
    bounds = sorted({bound for node in nodes for bound in node["bounds_ms"]})
    sums = {bound: median(node["bounds_ms"].get(bound, 0.0) for node in nodes) for bound in bounds}
    parts = tuple(Part(bound, value, bound) for bound, value in sums.items() if value > 0)
    return Bar(name, parts, _ms(sum(sums.values())), f"{len(nodes)} nodes")


def _nodes(nodes: Sequence[Mapping[str, Any]]) -> Section:
    phases = [phase for phase in _PHASES if any(known(node["phases_ms"].get(phase)) for node in nodes)]
    rows = tuple(
        (
            str(node["index"]),
            node["device"],
            _ms(node["step_ms"]),
            *(_ms(node["phases_ms"].get(phase)) for phase in phases),
            percent(node["roof_fraction"]),
            number(node["watts"]),
        )
        for node in sorted(nodes, key=lambda node: -(node["step_ms"] or 0.0))
    )
    heads = ("node", "device", "#step", *(f"#{phase}" for phase in phases), "#of the roof", "#W")
    spare = tuple(f"#{phase}" for phase in _SHORT_PHASES if phase in phases)
    return Section("Nodes", (Table("Time of a step by phase, slowest first", heads, rows, spare=spare),))


def _slow(result: Mapping[str, Any]) -> Section:
    blocks: list[Paragraph | Table] = []
    for node in result["slow"]:
        blocks.append(Paragraph(f"Node {node['index']}: {' '.join(node['why'])}"))
        for name, rows in (("phase", node["phases"]), ("bound", node["bounds"])):
            blocks.append(
                Table(
                    f"Node {node['index']} by {name}, beside the fleet's median",
                    (name, "#here", "#median", "#more", "#factor"),
                    tuple(
                        (
                            row["part"],
                            _ms(row["ms"]),
                            _ms(row["median_ms"]),
                            _ms(row["excess_ms"]),
                            number(row["factor"]),
                        )
                        for row in rows
                    ),
                )
            )
    return Section("The slowest", tuple(blocks), lead="and why")


def _failed(failed: Sequence[Mapping[str, Any]]) -> Section:
    rows = tuple((str(node["index"]), node["failure"]) for node in failed)
    return Section("Left out", (Table("Nodes that sent nothing that can be used", ("node", "reason"), rows),))


def _ms(value: float | None) -> str:
    return duration(value * 1e3) if value is not None and known(value) else UNKNOWN
