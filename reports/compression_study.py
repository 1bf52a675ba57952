"""The report of a compression study: what a codec does to granularity, and to learning."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from .document import Block, Document, Facts, Heatmap, Line, Lines, Paragraph, Point, Section, Table
from .intervals import confidence_note, factor, seeded, spread, target_source, verdict
from .text import binary_bytes, count, duration, number, percent, si

#: A share of the loss that nobody would choose a codec for.
NEGLIGIBLE = 0.01
#: Granularities between which cells change colour, as powers of ten.
_COLDEST, _HOTTEST = -2.0, 2.0


def compression_document(result: Mapping[str, Any]) -> Document:
    """The report of a result of :func:`edgeroof.fl_studies.study_compression`."""
    return Document(
        name="study",
        title=f"Compression study: {result['config']['client']['model']}, {len(result['codecs'])} codecs",
        kind="mixed",
        headlines=tuple(_headlines(result)),
        sections=(_learning(result), _granularity(result), *_links(result), _setting(result)),
        setting=result["data"],
        command=result.get("command", ""),
        created=result.get("created", ""),
        files=(
            ("report.html", "this report with its figures"),
            ("study.json", "every codec, link and seed"),
            ("federations/", "finished federations; the same command goes on from there"),
        ),
    )


def _headlines(result: Mapping[str, Any]) -> list[str]:
    baseline, *others = result["codecs"]
    reached = [c for c in others if c["intervals"]["bytes_to_target"]["middle"] is not None]
    lines = []
    if reached:
        best = min(reached, key=lambda c: c["intervals"]["bytes_to_target"]["middle"])
        lines.append(
            f"{best['codec']} moves the fewest bytes until the target loss, "
            f"{spread(best['intervals']['bytes_to_target'], binary_bytes)} both ways, against "
            f"{spread(baseline['intervals']['bytes_to_target'], binary_bytes)} with {baseline['codec']}."
        )
    failed = [c["codec"] for c in others if c not in reached]
    if failed:
        lines.append(f"{', '.join(failed)} did not reach it on most seeds.")
    same = [c["codec"] for c in others if _is_same(c["loss_ratio"])]
    told = [f"{c['codec']} {factor(c['loss_ratio'])}" for c in others if c["codec"] not in same]
    learned = [*([f"the same within 1 % with {', '.join(same)}"] if same else []), *told]
    lines.append(f"The last loss, relative to {baseline['codec']}: {'; '.join(learned)}.")
    slowest = min(range(len(result["links"])), key=lambda place: result["links"][place]["up_mbps"])
    name, parts = result["links"][slowest]["name"], []
    for codec in others:
        ratio = codec["links"][slowest]["time_to_target_s_ratio"]
        if verdict(ratio) != "unclear":
            parts.append(f"{codec['codec']} {factor(ratio)}")
    text = "; ".join(parts) or "no codec is clearly better or worse over these seeds"
    lines.append(f"Time to the target over {name}, relative to {baseline['codec']}: {text}.")
    return lines


def _is_same(ratio: Mapping[str, Any]) -> bool:
    """Whether a loss differs by too little to matter, however surely it does."""
    return all(ratio[end] is not None and abs(ratio[end] - 1) < NEGLIGIBLE for end in ("low", "high"))


def _learning(result: Mapping[str, Any]) -> Section:
    lines = tuple(
        Line(
            codec["codec"],
            tuple(Point(p["up_bytes"] / 1e6, p["loss"], p["low"], p["high"]) for p in codec["curve"] if p["up_bytes"]),
        )
        for codec in result["codecs"]
    )
    codecs = result["codecs"]
    updates = tuple(
        (
            codec["codec"],
            binary_bytes(codec["up_bytes"]),
            duration(codec["codec_s"] * 1e6),
            spread(codec["intervals"]["rounds_to_target"], count),
        )
        for codec in codecs
    )
    losses = tuple((c["codec"], spread(c["intervals"]["loss"]), factor(c["loss_ratio"])) for c in codecs)
    others = tuple(
        (
            codec["codec"],
            spread(codec["intervals"]["rouge_l"], percent),
            spread(codec["intervals"]["bytes_to_target"], binary_bytes),
        )
        for codec in codecs
    )
    return Section(
        "Learning",
        (
            Lines(
                "Held-out loss against what clients have sent, all together; bands are the extremes over seeds",
                "MB sent by clients",
                "loss",
                lines,
                x_log=True,
                mark="measured here",
            ),
            Table("Held-out loss after the last round", ("codec", "#loss", "#to the first"), losses, "measured here"),
            Table(
                "An update, and rounds until the target loss",
                ("codec", "#size", "#T_codec", "#rounds"),
                updates,
                "measured here",
            ),
            Table(
                "ROUGE-L after the last round, and bytes until the target loss, both directions",
                ("codec", "#ROUGE-L", "#bytes"),
                others,
                "measured here",
            ),
            Paragraph(confidence_note(result["codecs"][0]["intervals"]["loss"]), "quiet"),
            *_limits(result),
        ),
        lead="measured: every codec ran whole federations",
    )


def _limits(result: Mapping[str, Any]) -> list[Paragraph]:
    """What this says nothing about."""
    if result["config"]["client"]["model"] != "tiny":
        return []
    text = "The tiny model starts from random weights and changes all of them; a pretrained one changes less."
    if any(codec["codec"].startswith("lora:") for codec in result["codecs"]):
        text += " Adapters suffer most from that: here they sit on weights that never learned anything."
    return [Paragraph(text, "quiet")]


def _granularity(result: Mapping[str, Any]) -> Section:
    links, codecs = result["links"], result["codecs"]
    values = [[entry["granularity"] for entry in codec["links"]] for codec in codecs]
    return Section(
        "Granularity",
        (
            Heatmap(
                "G = T_comp / T_comm: computing and sizes measured here, transfers by the links' model",
                tuple(codec["codec"] for codec in codecs),
                tuple(link["name"] for link in links),
                tuple(tuple(_shade(value) for value in row) for row in values),
                tuple(tuple(number(value) for value in row) for row in values),
                mark="measured here, transfers by model",
            ),
            Paragraph("Weights travel down in fp32, whatever the codec: that bounds what one can gain.", "quiet"),
        ),
        lead="how much of a round is computing, on this machine",
    )


def _shade(granularity: float) -> float | None:
    if not granularity > 0:
        return None
    return min(1.0, max(0.0, (math.log10(granularity) - _COLDEST) / (_HOTTEST - _COLDEST)))


def _links(result: Mapping[str, Any]) -> list[Section]:
    sections = []
    for place, link in enumerate(result["links"]):
        times = _cost_table(result, place, "time_to_target_s", "time", _seconds)
        note = Paragraph(_energy_note(result, link), "quiet")
        blocks: tuple[Block, ...] = (times, note)
        if link["radio_w"] is not None:
            blocks = (times, _cost_table(result, place, "energy_to_target_j", "energy", _joules), note)
        sections.append(Section(f"Over {link['name']}", blocks, lead=link["title"]))
    return sections


def _cost_table(result: Mapping[str, Any], place: int, key: str, what: str, show: Callable[[float], str]) -> Table:
    """Time or energy until the target over one link."""
    entries = [(codec["codec"], codec["links"][place]) for codec in result["codecs"]]
    rows = tuple((name, spread(e[f"{key}_interval"], show), factor(e[f"{key}_ratio"])) for name, e in entries)
    by = "transfers" if what == "time" else "transfers and radio"
    caption = f"{what.capitalize()} until the target loss over {result['links'][place]['name']}: {by} by model"
    return Table(caption, ("codec", f"#{what}", "#to the first"), rows, "measured here, transfers by model")


def _energy_note(result: Mapping[str, Any], link: Mapping[str, Any]) -> str:
    if link["radio_w"] is None:
        return "The power of this link's radio is not known, so its energy is not either."
    return (
        f"Energy of all clients while they compute, code and send: {number(result['compute_w'])} W "
        f"({result['compute_w_source']}) and {number(link['radio_w'])} W for the radio ({link['radio_source']})."
    )


def _seconds(value: float) -> str:
    return duration(value * 1e6)


def _joules(value: float) -> str:
    return si(value, "J")


def _setting(result: Mapping[str, Any]) -> Section:
    config = result["config"]
    how = target_source(result, result["codecs"][0]["codec"])
    rows = (
        ("target loss", ", ".join(number(target) for target in result["targets"]), f"per seed; {how}"),
        ("seeds", ", ".join(map(str, result["seeds"])), f"of {seeded(result)}"),
        ("rounds", str(config["rounds"]), f"{config['sampled']} of {config['clients']} clients in each"),
        ("computing", duration(result["codecs"][0]["example_s"] * 1e6), "a dialogue, measured; same for all codecs"),
    )
    return Section("Setting", (Facts(rows),))
