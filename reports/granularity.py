"""The report on granularity: over which links is federating worth it, and how far do codecs and adapters lift it?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .document import Block, Document, Facts, Heatmap, Paragraph, Section, Table
from .federated import WORTH_IT
from .text import UNKNOWN, binary_bytes, count, duration, known, number, percent, si

#: G from red to green in the heat map: a hundredth to a hundred, on a logarithmic scale.
_DARKEST, _BRIGHTEST = 0.01, 100.0


def granularity_document(result: Mapping[str, Any]) -> Document:
    """The report of a result of :func:`edgeroof.fl.compare_links`."""
    sections = [_heat(result), _traffic(result), _table(result), _assumptions(result)]
    if result["emulation"]:
        sections.insert(1, _emulation(result["emulation"]))
    return Document(
        name="granularity",
        title=f"Granularity: {', '.join(_unique(case['model'] for case in result['cases']))}",
        kind="mixed",
        headlines=tuple(_headlines(result)),
        sections=tuple(sections),
        setting=_setting(result),
        warnings=tuple(_warnings(result)),
        command=result.get("command", ""),
        created=result.get("created", ""),
        files=(("report.html", "this report with its figures"), ("granularity.json", "the figures behind it")),
    )


def _unique(names: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _variant(case: Mapping[str, Any]) -> str:
    return "all weights" if case["lora_rank"] is None else f"LoRA rank {case['lora_rank']}"


def _client(case: Mapping[str, Any]) -> str:
    return f"{case['model']} on {case['device']}"


def _rows_of(result: Mapping[str, Any], case: int) -> list[Mapping[str, Any]]:
    return [row for row in result["rows"] if row["case"] == case]


def _headlines(result: Mapping[str, Any]) -> list[str]:
    """For each client on its slowest link: all weights as they are, the best codec, and adapters."""
    lines = []
    for client in _unique(_client(case) for case in result["cases"]):
        own = [(case, _rows_of(result, index)) for index, case in enumerate(result["cases"]) if _client(case) == client]
        slowest = min((row for _, rows in own for row in rows), key=_value)["link"]
        lines += _lift(client, slowest, [(case, [r for r in rows if r["link"] == slowest]) for case, rows in own])
    waiting = [link for link, best in _best_by_link(result).items() if best < WORTH_IT]
    if waiting:
        lines.append(f"Over {', '.join(waiting)} no codec here makes a client compute longer than it communicates.")
    return lines


def _lift(
    client: str, link: str, variants: Sequence[tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]]
) -> list[str]:
    """G of the first variant as it is sent, and how many times higher codecs and other variants lift it."""
    case, rows = variants[0]
    plain, best = rows[0], max(rows, key=_value)
    text = f"{client}, over {link}: G is {_interval(plain)} with {_variant(case)} as {plain['codec']}"
    if best is not plain:
        text += f"; {best['codec']} lifts it {_times(best, plain)} to {_interval(best)}"
    lines = [f"{text}."]
    for case, rows in variants[1:]:
        first, best = rows[0], max(rows, key=_value)
        more = "" if best is first else f", with {best['codec']} {_times(best, plain)} to {_interval(best)}"
        lines.append(
            f"{_variant(case)} as {first['codec']} lifts it {_times(first, plain)} to {_interval(first)}{more}."
        )
    return lines


def _times(row: Mapping[str, Any], plain: Mapping[str, Any]) -> str:
    return f"{number(_value(row) / _value(plain))} times"


def _best_by_link(result: Mapping[str, Any]) -> dict[str, float]:
    links = [link["name"] for link in result["links"]]
    return {name: max(_value(row) for row in result["rows"] if row["link"] == name) for name in links}


def _value(row: Mapping[str, Any]) -> float:
    return float(row["granularity"])


def _interval(row: Mapping[str, Any]) -> str:
    low, high = row["granularity_low"], row["granularity_high"]
    if not (known(low) and known(high)):
        return number(_value(row))
    return f"{number(_value(row))} ({number(low)} to {number(high)})"


def _setting(result: Mapping[str, Any]) -> str:
    wanted, case = result["wanted"], result["cases"][0]
    epochs = wanted["local_epochs"]
    down = "fp32" if result["down_codec"] == "none" else result["down_codec"]
    parts = [
        f"{count(wanted['dialogues'])} dialogues a client",
        f"{count(case['steps'])} steps in {epochs} local epoch{'s' if epochs > 1 else ''}",
        f"weights down in {down}",
    ]
    return " · ".join(parts)


def _heat(result: Mapping[str, Any]) -> Section:
    links = tuple(link["name"] for link in result["links"])
    blocks = []
    for client in _unique(_client(case) for case in result["cases"]):
        names, shades, texts = [], [], []
        for index, case in enumerate(result["cases"]):
            if _client(case) != client:
                continue
            rows = _rows_of(result, index)
            for codec in result["codecs"]:
                values = [_value(row) for row in rows if row["codec"] == codec]
                names.append(f"{_variant(case)}, {codec}")
                shades.append(tuple(shade(value) for value in values))
                texts.append(tuple(number(value) for value in values))
        blocks.append(Heatmap(f"G of {client}", tuple(names), links, tuple(shades), tuple(texts)))
    lead = "G = T_comp / T_comm: above 1 a client computes longer than it communicates, and more clients pay"
    return Section("Granularity", tuple(blocks), lead=lead)


def shade(value: float) -> float:
    """Where G lies between a hundredth and a hundred, from 0 to 1."""
    share = math.log(max(value, 1e-30) / _DARKEST) / math.log(_BRIGHTEST / _DARKEST)
    return min(1.0, max(0.0, share))


def _traffic(result: Mapping[str, Any]) -> Section:
    rows = tuple(
        (
            entry["model"] if entry["lora_rank"] is None else f"{entry['model']}, LoRA {entry['lora_rank']}",
            entry["codec"],
            binary_bytes(entry["down_bytes"]),
            binary_bytes(entry["coding"]["size"]),
            f"{number(4 * entry['coding']['values'] / entry['coding']['size'])}×",
            duration(entry["coding"]["seconds"] * 1e6),
        )
        for entry in result["traffic"]
    )
    heads = ("weights of", "codec", "#down", "#up", "#smaller", "#T_codec")
    scaled = [entry for entry in result["traffic"] if entry["coding"]["coded_values"] < entry["coding"]["values"]]
    notes = [
        "Sizes are exact, headers included. T_codec is that of the client's update, measured on the CPU here "
        f"({_machine(result)}), not on the device; G leaves it out."
    ]
    if scaled:
        names = ", ".join(_unique(entry["model"] for entry in scaled))
        notes.append(f"Updates of {names} were coded in part and their time scaled up, being very large.")
    blocks: list[Block] = [Table("Messages of a round", heads, rows), *(Paragraph(note, "quiet") for note in notes)]
    return Section("What travels", tuple(blocks), lead="sizes computed, coding measured")


def _machine(result: Mapping[str, Any]) -> str:
    threads = result["environment"].get("torch_threads") or 1
    return f"{result['machine']}, {threads} thread{'s' if threads > 1 else ''}"


def _table(result: Mapping[str, Any]) -> Section:
    heads = ("codec", "link", "#T_comm", "#G", "#2×", "#4×", "#limit", "#energy share")
    tables = tuple(
        Table(
            f"{_client(case)}, {_variant(case)}: T_comp {_computing(case)}, {case['step']['kind']}",
            heads,
            tuple(_cells(row) for row in _rows_of(result, index)),
        )
        for index, case in enumerate(result["cases"])
    )
    note = (
        "2× and 4×: how much faster a round gets when so many times the clients share its computing; the limit, G + 1, "
        "is that of ever more. Energy share: what communication takes of a client's energy. The interval of G is "
        "that of T_comp, in proportion."
    )
    return Section("Speed-up and energy", (*tables, Paragraph(note, "quiet")), lead="transfers by the links' model")


def _computing(case: Mapping[str, Any]) -> str:
    step, text = case["step"], duration(case["compute_s"] * 1e6)
    if not (known(step["low_ms"]) and known(step["high_ms"])):
        return text
    low, high = (case["steps"] * step[end] * 1e3 for end in ("low_ms", "high_ms"))
    return f"{text} ({duration(low)} to {duration(high)})"


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        row["codec"],
        row["link"],
        duration(row["communication_s"] * 1e6),
        number(_value(row)),
        f"{number(row['speedup']['2'])}×",
        f"{number(row['speedup']['4'])}×",
        f"{number(row['speedup_limit'])}×",
        percent(row["communication_energy_share"]),
    )


def _assumptions(result: Mapping[str, Any]) -> Section:
    steps = tuple(
        (
            f"{_client(case)}, {_variant(case)}",
            f"{count(case['steps'])} × {duration(case['step']['ms'] * 1e3)}",
            case["step"]["what"],
        )
        for case in result["cases"]
    )
    computing = tuple(
        (client, watts, source)
        for client, watts, source in dict.fromkeys(
            (_client(case), _watts(case["compute_w"]), case["power_source"]) for case in result["cases"]
        )
    )
    radios = tuple((name, _watts(radio["watts"]), radio["source"]) for name, radio in result["radios"].items())
    links = tuple(
        (link["name"], number(link["down_mbps"]), number(link["up_mbps"]), number(link["rtt_ms"]), link["source"])
        for link in result["links"]
    )
    note = (
        "The energy share counts a client's computing and coding at the one power and its transfers at the other. It "
        "leaves out what the board draws while it waits for the link."
    )
    blocks = (
        Facts(steps),
        Table("Links", ("link", "#down Mbit/s", "#up Mbit/s", "#RTT ms", "source"), links),
        Table("Power while computing, and while a link is busy", ("of", "#power", "source"), (*computing, *radios)),
        Paragraph(note, "quiet"),
    )
    return Section("What this rests on", blocks)


def _watts(value: float | None) -> str:
    return UNKNOWN if value is None else f"{number(value)} W"


def _emulation(emulation: Mapping[str, Any]) -> Section:
    transfers = emulation["transfers"]
    rows = tuple(
        (
            transfer["link"],
            transfer["direction"],
            si(transfer["size"], "B"),
            duration(transfer["measured_s"] * 1e6),
            duration(transfer["model_s"] * 1e6),
            f"{transfer['error']:+.1%}".replace("%", " %"),
            {"netem": "rate and delay", "tun": "rate and delay", "veth": "rate alone"}[transfer["way"]],
        )
        for transfer in transfers
    )
    notes = [
        f"TCP with CUBIC between two network namespaces of this machine. Messages that the model says take longer than "
        f"{number(emulation['most_seconds'])} s were cut to that."
    ]
    notes += [_cut(message) for message in emulation.get("cut", ())]
    if emulation["left_out"]:
        names, limit = ", ".join(emulation["left_out"]), count(emulation["most_mbps"])
        notes.append(f"Not emulated: {names}, for a machine does not carry more than {limit} Mbit/s faithfully.")
    heads = ("link", "way", "#message", "#measured", "#model", "#model's error", "emulated")
    table = Table("Transfers over emulated links", heads, rows)
    return Section("The links' model", (table, *(Paragraph(note, "quiet") for note in notes)), lead=_verdict(transfers))


def _cut(message: Mapping[str, Any]) -> str:
    asked, sent = (si(message[name], "B") for name in ("asked", "sent"))
    return f"Cut: {asked} {message['direction']} over {message['link']}, of which {sent} were sent."


def _verdict(transfers: Sequence[Mapping[str, Any]]) -> str:
    if not transfers:
        return "no link here can be emulated"
    return f"at most {percent(max(abs(transfer['error']) for transfer in transfers))} off"


def _warnings(result: Mapping[str, Any]) -> list[str]:
    warnings = []
    if result["down_codec"] != "none":
        warnings.append(f"weights down as {result['down_codec']} are a calculation: edgeroof fl run sends them in fp32")
    shared = [case for case in result["cases"] if case["lora_rank"] and case["step"]["kind"] != "projected"]
    if shared and any(case["lora_rank"] is None for case in result["cases"]):
        warnings.append("the step time is that of training all weights; adapters are taken to need as long")
    return warnings
