"""The report of a selection study: which strategy reaches a loss in the least time, energy or rounds?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from .document import Document, Facts, Line, Lines, Paragraph, Point, Section, Table
from .intervals import confidence_note, factor, seeded, spread, target_source, verdict
from .text import UNKNOWN, count, duration, number, percent, si

_COSTS = {"energy_j": "energy", "time_s": "time", "rounds": "rounds"}


def selection_document(result: Mapping[str, Any]) -> Document:
    """The report of a result of :func:`edgeroof.fl_studies.study_selection`."""
    return Document(
        name="study",
        title=f"Selection study: {len(result['strategies'])} strategies, {len(result['fleet'])} simulated clients",
        kind="simulated",
        headlines=tuple(_headlines(result)),
        sections=(_costs(result), _learning(result), _mishaps(result), _fleet(result), _strategies(result)),
        setting=result["data"],
        warnings=tuple(_warnings(result)),
        command=result.get("command", ""),
        created=result.get("created", ""),
        files=(
            ("report.html", "this report with its figures"),
            ("study.json", "every strategy and seed"),
            ("federations/", "finished federations; the same command goes on from there"),
        ),
    )


def _headlines(result: Mapping[str, Any]) -> list[str]:
    lines = []
    for cost, what in _COSTS.items():
        reached = [s for s in result["strategies"] if s["intervals"][cost]["middle"] is not None]
        if reached:
            best = min(reached, key=lambda s: s["intervals"][cost]["middle"])
            shown = spread(best["intervals"][cost], _SHOW[cost])
            lines.append(f"Least {what} to the target, by median: {best['name']}, {shown}.")
    if result["ours"]:
        lines += [_ours(result, cost, what) for cost, what in _COSTS.items()]
    if not lines:
        lines.append("No strategy reached the target on most seeds.")
    return lines


def _ours(result: Mapping[str, Any], cost: str, what: str) -> str:
    """How the project's own strategy fares against each other one, whichever way that is."""
    found: dict[str, list[str]] = {"less": [], "more": [], "unclear": []}
    for entry in result["strategies"]:
        if entry["name"] != result["ours"]:
            ratio = entry["ours_ratios"][cost]
            found[verdict(ratio)].append(f"{entry['name']} ({factor(ratio)})")
    words = {"less": "needs less than", "more": "needs more than", "unclear": "is not clearly different from"}
    parts = [f"{words[kind]} {', '.join(names)}" for kind, names in found.items() if names]
    return f"In {what}, {result['ours']} {'; it '.join(parts)}."


def _seconds(value: float) -> str:
    return duration(value * 1e6)


def _joules(value: float) -> str:
    return si(value, "J")


_SHOW = {"rounds": count, "time_s": _seconds, "energy_j": _joules}


def _costs(result: Mapping[str, Any]) -> Section:
    first = result["strategies"][0]["name"]
    targets = ", ".join(number(target) for target in result["targets"])
    return Section(
        "To the target",
        (
            *(_cost_table(result, cost, what, first) for cost, what in _COSTS.items()),
            Paragraph(f"Target loss per seed: {targets} ({target_source(result, first)}).", "quiet"),
            Paragraph(f"Seeds {', '.join(map(str, result['seeds']))}, of {seeded(result)}.", "quiet"),
            Paragraph(confidence_note(result["strategies"][0]["intervals"]["rounds"]), "quiet"),
            Paragraph("A seed on which neither of a pair got there counts as a ratio of 1.", "quiet"),
        ),
        lead="time and energy are simulated, what is learned is not",
    )


def _cost_table(result: Mapping[str, Any], cost: str, what: str, first: str) -> Table:
    rows = tuple(
        (entry["name"], spread(entry["intervals"][cost], _SHOW[cost]), factor(entry["ratios"][cost]))
        for entry in result["strategies"]
    )
    caption = f"{what.capitalize()} to the target loss{'' if cost == 'rounds' else ', simulated'}"
    return Table(caption, ("strategy", f"#{what}", f"#relative to {first}"), rows)


def _learning(result: Mapping[str, Any]) -> Section:
    def lines(key: str, scale: float) -> tuple[Line, ...]:
        return tuple(
            Line(
                entry["name"],
                tuple(Point(p[key] / scale, p["loss"], p["low"], p["high"]) for p in entry["curve"]),
                "simulated",
            )
            for entry in result["strategies"]
        )

    rows = tuple(
        (entry["name"], spread(entry["intervals"]["loss"]), spread(entry["intervals"]["rouge_l"], percent))
        for entry in result["strategies"]
    )
    return Section(
        "Learning",
        (
            Lines("Held-out loss against simulated energy of all clients", "kJ", "loss", lines("energy_j", 1e3)),
            Lines("Held-out loss against the simulated clock", "minutes", "loss", lines("clock_s", 60.0)),
            Table("After the last round", ("strategy", "#loss", "#ROUGE-L"), rows),
        ),
        lead="medians over seeds; bands are the extremes",
    )


def _mishaps(result: Mapping[str, Any]) -> Section:
    def middle(values: Sequence[float]) -> str:
        return count(median(values))

    rows = tuple(
        (
            entry["name"],
            middle(entry["asked"]),
            middle(entry["unanswered"]),
            middle(entry["clients"]),
            middle(entry["empty"]),
            str(sum(bool(reason) for reason in entry["ended"])),
        )
        for entry in result["strategies"]
    )
    heads = ("strategy", "#asked", "#unanswered", "#clients used", "#empty", "#ended early")
    caption = "Medians over seeds, and seeds that ended early; empty are batteries; simulated"
    return Section("What went wrong", (Table(caption, heads, rows),))


def _fleet(result: Mapping[str, Any]) -> Section:
    rows = tuple(
        (
            str(client["client"]),
            client["device"],
            client["link"],
            duration(client["step_ms"] * 1e3),
            f"{number(client['power_w'])} W",
            _seconds(client["round_s"]),
            _joules(client["energy_j"]),
            UNKNOWN if client["charge_j"] is None else _joules(client["charge_j"]),
        )
        for client in result["fleet"]
    )
    heads = ("client", "device", "link", "#step", "#power", "#round", "#energy", "#charge")
    sources = dict.fromkeys((c["device"], c["step_kind"], c["power_source"]) for c in result["fleet"])
    kinds = sorted({client["step_kind"] for client in result["fleet"]})
    measured = "step times of runs are measured, batteries, links and mishaps are not"
    return Section(
        "The fleet",
        (
            Facts(tuple(_assumptions(result))),
            Table(f"Clients as expected on the first seed, steps {' or '.join(kinds)}; simulated", heads, rows),
            Table("Where they come from", ("device", "step", "power"), tuple(sources)),
        ),
        lead=f"simulated: {measured if 'measured' in kinds else 'no such device was measured here'}",
    )


def _assumptions(result: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    work, mishaps, codec = result["work"], result["mishaps"], result["fleet_codec"]
    dialogues = (
        f"{work['dialogues']:,} dialogues in all, batches of 32 or those of a run; another model learns in its place"
    )
    sizes = f"{si(work['down_bytes'], 'B')} down, {si(work['up_bytes'], 'B')} up"
    unlucky = f"{percent(mishaps['absent'])} absent, {percent(mishaps['vanish'])} vanish"
    deadlines = ", ".join(_seconds(value) for value in result["deadline_s"])
    budgets = ", ".join(_joules(value) for value in result["budget_j"])
    return [
        ("computes", work["model"], dialogues),
        ("travels", sizes, f"fp32 weights, updates by {codec}; what learns here sends its own updates as configured"),
        ("power", "while computing", "see below; waiting costs nothing"),
        ("battery", f"{number(result['battery_wh'])} Wh", "for training, assumed; boards start 30 % full or more"),
        ("mishaps", unlucky, f"assumed; the logarithm of a round's time varies by {number(mishaps['jitter'])}"),
        ("deadline", deadlines, "per seed: three times the median of expected rounds"),
        ("budget", budgets, "per seed, for strategies that keep to one"),
    ]


def _strategies(result: Mapping[str, Any]) -> Section:
    told = (f"{s['name']}: {s['title']}. {s['source']}. Different here: {s['differs']}." for s in result["strategies"])
    return Section("Strategies", tuple(map(Paragraph, told)), lead="where they come from, and what differs here")


def _warnings(result: Mapping[str, Any]) -> list[str]:
    warnings = []
    for entry in result["strategies"]:
        reasons = [reason for reason in entry["ended"] if reason]
        if reasons:
            warnings.append(f"{entry['name']} ended early on {len(reasons)} seeds: {reasons[0]}")
    return warnings
