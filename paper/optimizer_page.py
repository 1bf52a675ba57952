"""Open question 1: which kernels make opt.step() slow on the edge device, and does a fused kernel win?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..reports import ab_view
from ..reports.document import Bar, Bars, Block, Document, Paragraph, Part, Section, Table
from ..reports.projection import interval_text
from ..reports.text import UNKNOWN, count, duration, known, number, percent
from .claims import optimizer_shares
from .marks import COMPUTED, MEASURED, PROJECTED

Data = Mapping[str, Any]

TITLE = "Which kernels make opt.step() slow on an Orin, and does a fused kernel win?"
_BOARD = (
    "Only a board can tell: the time of its launches and of the host between them, and whether a fused kernel reaches "
    "the bandwidth there that it reaches elsewhere. make gpu-evidence measures both on a GPU."
)

_FIGURE_BOARD = "the time of its launches, and whether these kernels reach its bandwidth"


def optimizer_document(data: Data) -> Document:
    """The page of the question."""
    sections = [*_kernels(data), *_shares(data), *_measured(data), *_projected(data), *_floors(data)]
    return Document(
        name="optimizer",
        title=TITLE,
        kind="mixed",
        headlines=tuple(optimizer_answers(data)),
        sections=(*sections, Section("What is left open", (Paragraph(_BOARD),))),
        command=data["command"],
        created=data["created"],
    )


def optimizer_answers(data: Data) -> list[str]:
    """The answer in sentences, each from the numbers."""
    rows = [row for row in data["optimizer"] or () if row["device"] == data["plan"]["edge"]]
    lines = _projected_answers(rows) if rows else []
    if data["ab"]:
        lines += [f"Measured here: {line}" for line in ab_view.headlines(data["ab"])]
    return lines or ["Not run: edgeroof paper --only optimizer"]


def _projected_answers(rows: Sequence[Data]) -> list[str]:
    """What the first optimizer's ops do to its step, and what the best optimizer makes of it."""
    base, best, where = rows[0], min(rows, key=lambda row: row["ms"]["value"]), f"Projected for {rows[0]['device']}"
    lines = []
    if base["ops"]:
        worst = max(base["ops"], key=lambda op: op["dur_us"])
        share = worst["dur_us"] / sum(op["dur_us"] for op in base["ops"])
        lines.append(
            f"{where}: {base['optimizer']} goes over the parameters in {len(base['ops'])} kinds of ops and moves "
            f"{number(base['bytes_per_parameter'])} bytes for each; {worst['op']} takes most, {percent(share)} of it, "
            f"held by {worst['bound']}."
        )
    if best is not base:
        lines.append(
            f"{where}: opt.step() with {best['optimizer']} takes {interval_text(best['ms'])} for "
            f"{interval_text(base['ms'])}, {number(base['ms']['value'] / best['ms']['value'])} times less, and the "
            f"whole step {percent(1 - best['step_ms'] / base['step_ms'])} less."
        )
    return lines


def _kernels(data: Data) -> Iterator[Section]:
    """The ops of the baseline's phase on both devices."""
    first = [row for row in data["optimizer"] or () if row["optimizer"] == data["plan"]["optimizers"][0]]
    tables: list[Block] = []
    for row in first:
        total = sum(op["dur_us"] for op in row["ops"]) or 1.0
        body = tuple(
            (
                op["op"], count(op["kernels"]), duration(op["dur_us"]), percent(op["dur_us"] / total),
                number(op["bytes_per_parameter"]), percent(op["roof_fraction"]), op["bound"],
            )
            for op in row["ops"]
        )  # fmt: skip
        heads = ("op", "#kernels", "#time", "#of the phase", "#bytes/parameter", "#of the roof", "held by")
        caption = f"Ops of {row['optimizer']}: {row['device']}, {row['model']}, batch {row['batch_size']}"
        tables.append(Table(caption, heads, body, mark=PROJECTED))
    if tables:
        note = Paragraph(
            "Each op reads its operands from memory and writes its result back: the arithmetic is free.", "quiet"
        )
        yield Section("Which kernels", (*tables, note), lead="every one of them is a pass over memory")


def _shares(data: Data) -> Iterator[Section]:
    shares = optimizer_shares(data)
    if not shares:
        return
    rows = tuple(
        (
            e["model"],
            e["precision"],
            count(e["batch_size"]),
            percent(e["edge"]),
            percent(e["centre"]),
            f"{number(e['ratio'])}×",
        )
        for e in shares
    )
    plan = data["plan"]
    heads = ("model", "precision", "#batch", f"#{plan['edge']}", f"#{plan['centre']}", "#ratio")
    table = Table("Share of the optimizer in a step, at points that fit on both", heads, rows, mark=PROJECTED)
    note = (
        "The optimizer's time doesn't depend on the batch, so its share is large where a step is short. Between "
        "devices it differs as their ratio of arithmetic to bandwidth does."
    )
    yield Section("How large a share", (table, Paragraph(note, "quiet")), lead="device-true")


def _measured(data: Data) -> Iterator[Section]:
    result = data["ab"]
    if not result:
        return
    blocks: list[Block] = []
    for problem in result["problems"]:
        rows = tuple(_ab_cells(problem, entry) for entry in ab_view.listed(problem))
        heads = ("provider", "verdict", "#times as fast (95 %)", "#time", "#bytes/parameter", "#of the roof")
        caption = f"{problem['title']} on {result['device']['title']}: {ab_view.size_text(problem)}"
        blocks += [Table(caption, heads, rows, mark=MEASURED), Paragraph(ab_view.noise_text(problem) + ".", "quiet")]
    blocks += [Paragraph(warning, "warning") for warning in ab_view.warnings(result)]
    yield Section(
        "Does a fused kernel win?",
        tuple(blocks),
        lead="in pairs on the machine at hand, a CPU unless it says otherwise",
    )


def _ab_cells(problem: Data, entry: Data) -> tuple[str, ...]:
    comparison = entry["comparisons"]["wall"] if entry["status"] == "measured" else None
    timed = entry["status"] in ("baseline", "measured")
    return (
        entry["provider"],
        ab_view.verdict_of(entry),
        ab_view.ratio_text(comparison) or UNKNOWN,
        duration(ab_view.time_us(entry)) if timed else UNKNOWN,
        number(entry.get("bytes_per_parameter")),
        percent(entry.get("roof_fraction")),
    )


def _projected(data: Data) -> Iterator[Section]:
    rows = data["optimizer"]
    if not rows:
        return
    bars = tuple(
        Bar(
            f"{row['device']}, {row['optimizer']}",
            (Part("optimizer", row["ms"]["value"], "s1"),),
            interval_text(row["ms"]),
        )
        for row in rows
    )
    body = tuple(
        (
            row["device"],
            row["optimizer"],
            number(row["bytes_per_parameter"]),
            interval_text(row["ms"]),
            percent(row["share"]),
        )
        for row in rows
    )
    what = f"{rows[0]['model']} at batch {rows[0]['batch_size']}"
    heads = ("device", "optimizer", "#bytes/parameter", "#opt.step() (90 % interval)", "#of the step")
    yield Section(
        "What it would mean on both devices",
        (
            Bars(f"Time of opt.step(): {what}", bars, "ms", mark=PROJECTED, board=_FIGURE_BOARD),
            Table(f"opt.step() by optimizer, {what}", heads, body, mark=PROJECTED),
        ),
        lead="by their traffic",
    )


def _floors(data: Data) -> Iterator[Section]:
    """The least time of each provider for each model: bytes over the bandwidth of the data sheet."""
    per_parameter = bytes_by_provider(data)
    models = {row["model"]: row["parameters"] for row in data["scaling"] or () if row["parameters"]}
    bandwidths = {row["device"]: row["bandwidth_gbs"] for row in data["optimizer"] or ()}
    if not (per_parameter and models and bandwidths):
        return
    ways: dict[float, list[str]] = {}
    for provider, size in per_parameter.items():
        ways.setdefault(round(size, 1), []).append(provider)
    body = tuple(
        (
            device,
            ", ".join(names),
            number(size),
            *(duration(size * parameters / gbs * 1e-3) for parameters in models.values()),
        )
        for device, gbs in bandwidths.items()
        for size, names in sorted(ways.items(), reverse=True)
    )
    heads = ("device", "way", "#bytes/parameter", *(f"#{model}" for model in models))
    table = Table("Least time of opt.step(): bytes over the data sheet's bandwidth", heads, body, mark=COMPUTED)
    yield Section("The least it can take", (table,), lead="no kernel is faster than its traffic")


def bytes_by_provider(data: Data) -> dict[str, float]:
    """Bytes per parameter of each way to do the step: of the lab's providers, then of the projected optimizers."""
    results: Sequence[Data] = [
        e for problem in (data["ab"] or {"problems": ()})["problems"] for e in problem["results"]
    ]
    found = {e["provider"]: e["bytes_per_parameter"] for e in results if known(e.get("bytes_per_parameter"))}
    for row in data["optimizer"] or ():
        if known(row["bytes_per_parameter"]) and row["optimizer"] not in found:
            found[row["optimizer"]] = row["bytes_per_parameter"]
    return found
