"""The report of a federation: does it learn, what does a round cost, and over which links is it worth it?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from .document import Bar, Bars, Document, Facts, Line, Lines, Paragraph, Part, Point, Section, Table
from .text import binary_bytes, count, duration, known, number, percent

#: Below this a federation over the link mostly waits; more clients hardly help it.
WORTH_IT = 1.0


def federated_document(result: Mapping[str, Any]) -> Document:
    """The report of a result of :func:`edgeroof.fl.run`."""
    history = result["history"]
    left_out = [(record["round"], left) for record in history for left in record.get("left_out", ())]
    sections = [_learning(history), _cost(result), _links(result), _clients(result)]
    if left_out:
        sections.append(_left_out(left_out))
    return Document(
        name="federated",
        title=_title(result),
        kind="mixed",
        headlines=tuple(_headlines(result)),
        sections=tuple(sections),
        setting=_setting(result),
        warnings=tuple(_warnings(result, left_out)),
        command=result.get("command", ""),
        created=result.get("created", ""),
        files=(
            ("report.html", "this report with its figures"),
            ("federated.json", "every round and client"),
            ("checkpoints/", "the last rounds; the same command goes on from there"),
        ),
    )


def _title(result: Mapping[str, Any]) -> str:
    config, rounds = result["config"], len(result["history"]) - 1
    return f"{config['client']['model']}, {config['clients']} clients, {rounds} rounds, {result['engine']} engine"


def _headlines(result: Mapping[str, Any]) -> list[str]:
    first, last = result["history"][0], result["history"][-1]
    rounds = len(result["history"]) - 1
    lines = [
        f"Held-out loss went from {number(first['eval_loss'])} to {number(last['eval_loss'])} in {rounds} rounds, "
        f"ROUGE-L from {percent(first['rouge_l'])} to {percent(last['rouge_l'])}."
    ]
    links = result["granularity"]
    if links:
        best, worst = max(links, key=_granularity), min(links, key=_granularity)
        lines.append(
            f"A round's computing is {number(_granularity(best))} times its communication over {best['link']} and "
            f"{number(_granularity(worst))} times over {worst['link']}."
        )
        waiting = [link["link"] for link in links if _granularity(link) < WORTH_IT]
        if waiting:
            lines.append(f"Over {', '.join(waiting)} clients wait for the link longer than they compute.")
    return lines


def _granularity(link: Mapping[str, Any]) -> float:
    return float(link["granularity"])


def _setting(result: Mapping[str, Any]) -> str:
    config, client = result["config"], result["config"]["client"]
    parts = [
        f"{config['sampled']} of {config['clients']} clients a round",
        f"{client['local_epochs']} local epoch{'s' if client['local_epochs'] > 1 else ''}",
        f"{client['source_length']}/{client['target_length']} tokens",
        client["optimizer"],
        config["server"]["name"],
        f"codec {config['codec']}",
        *([f"LoRA rank {client['lora_rank']}"] if client["lora_rank"] else []),
        result["data"],
    ]
    return " · ".join(parts)


def _learning(history: Sequence[Mapping[str, Any]]) -> Section:
    def line(name: str, key: str) -> Line:
        points = [Point(record["round"], record[key]) for record in history if known(record.get(key))]
        return Line(name, tuple(points))

    training = [
        Point(record["round"], median(entry["loss"] for entry in record["used"] if known(entry["loss"])))
        for record in history
        if any(known(entry["loss"]) for entry in record.get("used", ()))
    ]
    return Section(
        "Learning",
        (
            Lines(
                "Loss per target token: of the server's weights on held-out dialogues, and of clients while they train",
                "round",
                "loss",
                (line("held out", "eval_loss"), Line("clients", tuple(training))),
            ),
            Lines("ROUGE-L of greedy summaries, on token ids", "round", "ROUGE-L", (line("held out", "rouge_l"),)),
        ),
        lead="measured after every round",
    )


def _cost(result: Mapping[str, Any]) -> Section:
    records = [record for record in result["history"] if record.get("used")]
    used = [entry for record in records for entry in record["used"]]
    if not used:
        return Section("What a round costs", (Paragraph("No update could be used.", "warning"),))
    rows = (
        ("computing", _spread([entry["compute_s"] for entry in used]), "one client's local training, measured"),
        ("coding", _spread([entry["codec_s"] for entry in used]), f"codec {result['config']['codec']}, measured"),
        ("weights down", binary_bytes(median(record["down_bytes"] for record in records)), "fp32, to each client"),
        ("update up", binary_bytes(median(entry["up_bytes"] for entry in used)), "as sent by a client"),
        *_engine_row(result),
        ("whole round", _spread([record["wall_s"] for record in records]), "on this machine, with evaluation"),
    )
    return Section("What a round costs", (Facts(rows),), lead="medians over rounds and clients")


def _engine_row(result: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    seconds = result.get("engine_s")
    if not seconds:
        return []
    what = "starting processes, transport and waiting" if result["engine"] == "flower" else "loading weights and data"
    return [("engine", _spread(seconds), f"of a round: {what}; no part of G")]


def _spread(seconds: Sequence[float]) -> str:
    ordered = sorted(seconds)
    middle = duration(median(ordered) * 1e6)
    return middle if len(ordered) < 2 else f"{middle} ({duration(ordered[0] * 1e6)} to {duration(ordered[-1] * 1e6)})"


def _links(result: Mapping[str, Any]) -> Section:
    links = {link["name"]: link for link in result["links"]}
    bars = tuple(
        Bar(
            entry["link"],
            (
                Part("computing", entry["compute_s"], "compute"),
                Part("coding", entry["codec_s"], "fair"),
                Part("down", entry["down_s"], "communication"),
                Part("up", entry["up_s"], "memory"),
            ),
            duration((entry["compute_s"] + entry["codec_s"] + entry["communication_s"]) * 1e6),
            links[entry["link"]]["title"],
        )
        for entry in result["granularity"]
    )
    legend = (("compute", "computing"), ("fair", "coding"), ("communication", "down"), ("memory", "up"))
    rows = tuple(
        (
            entry["link"],
            duration(entry["communication_s"] * 1e6),
            number(entry["granularity"]),
            f"{number(entry['doubling_speedup'])}×",
            links[entry["link"]]["source"],
        )
        for entry in result["granularity"]
    )
    return Section(
        "Links",
        (
            Bars("One client's round: computing measured, transfers by the links' model", bars, "s", legend),
            Table("Granularity G = T_comp / T_comm", ("link", "#T_comm", "#G", "#twice the clients", "source"), rows),
        ),
        lead="what of a round is computing, were the clients connected by these links",
    )


def _clients(result: Mapping[str, Any]) -> Section:
    used = [entry for record in result["history"] for entry in record.get("used", ())]
    rows = []
    for client, examples in enumerate(result["client_examples"]):
        own = [entry for entry in used if entry["client"] == client]
        last = own[-1]["loss"] if own else None
        rows.append((str(client), count(examples), count(len(own)), number(last)))
    heads = ("client", "#dialogues", "#rounds", "#last loss")
    return Section("Clients", (Table("Who took part", heads, tuple(rows)),), lead=result["data"])


def _left_out(left_out: Sequence[tuple[int, Mapping[str, Any]]]) -> Section:
    rows = tuple((str(number), str(left["client"]), left["reason"]) for number, left in left_out)
    return Section("Left out", (Table("Answers that could not be used", ("round", "client", "reason"), rows),))


def _warnings(result: Mapping[str, Any], left_out: Sequence[Any]) -> list[str]:
    history = result["history"]
    warnings = [record["resumed"] for record in history if "resumed" in record]
    warnings += [
        f"round {record['round']} changed nothing: {record['refused']}" for record in history if "refused" in record
    ]
    few = [str(record["round"]) for record in history[1:] if not (record["aggregated"] or "refused" in record)]
    if few:
        warnings.append(f"rounds {', '.join(few)} changed nothing: too few updates could be used")
    if left_out:
        warnings.append(f"{len(left_out)} answers could not be used; see Left out")
    return warnings
