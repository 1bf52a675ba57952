"""The report of a comparison: which is faster, by how much and how surely, and what explains it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..profiler.comparison.breakdown import NO_KERNEL, OUTSIDE
from ..profiler.schema import BOUNDS
from .compare_figures import letter, rooflines, waterfall, without_residue
from .compare_links import bounds_text, claims, main_parts, part_choice, phase_anchors, phase_links
from .document import Bar, Bars, Document, Facts, Figure, Paragraph, Part, Section, Table
from .text import UNKNOWN, binary_bytes, count, duration, known, number, percent

#: Rows of the tables of ops and kernels; what is left is summed in one more row.
MOST_ROWS = 25
#: Changes beyond this, the ends of intervals that say nothing, are not spelled out.
MOST_SHOWN = 10.0
#: Below this share of time in kernels that both have, shapes are left out of the match.
WELL_MATCHED = 0.5

_INTERVALS = {
    "runs": "Intervals (95 %) lie around the change of the mean and come, as verdicts do, from the medians of repeated "
    "runs; a difference counts from 1 % on.",
    "steps": "Intervals (95 %) lie around the change of the median and come, as verdicts do, from the unprofiled steps "
    "of single runs. Such runs may differ by more than their steps do, so that a difference counts from 5 % on; repeat "
    "the runs for finer verdicts.",
}
_NOTHING_REPEATS = "There are no intervals and no verdicts: one of the runs has no times of steps that repeat."
_PROJECTED = (
    "There are no verdicts: projections have no noise, and the error of their model does not average out. "
    "The interval of each step is that of its projection."
)
_TIMED = {
    "measured": "Kernels are timed in profiled steps, phases in bare ones. What no kernel accounts for stands as (no "
    "kernel): gaps, and what the profiler adds, which is then taken off; (outside) lies between the phases.",
    "sums": "Phases are the sums of their kernels; (outside) are kernels of none of them.",
    "projected": "Kernels and phases are projected. What no kernel accounts for stands as (no kernel): gaps; (outside) "
    "lies between the phases.",
}
_WORDS = "Faster and slower mean 2 % and are no verdicts."


def compare_document(result: Mapping[str, Any]) -> Document:
    """The report of a result of :func:`edgeroof.compare.compare`."""
    sides, differences = result["sides"], result["differences"]
    sections = [_side_by_side(sides, result["bare"])]
    for difference in differences:
        pair = sides[0], sides[difference["side"]]
        of_both = _step(sides, difference), _kernels(sides, difference, result["bare"])
        sections += [_marked(section, pair, sides) for section in of_both]
    sections += [_bounds(sides), *rooflines(sides), _settings(result)]
    headlines = [_headlines(sides, difference) for difference in differences]
    sections = [_marked(section, sides, sides) for section in sections]
    return Document(
        name="compare",
        title=" against ".join(side["label"] for side in sides),
        kind=result["numbers"],
        headlines=tuple(line for lines in headlines for line in lines),
        sections=tuple(sections),
        setting=_setting(result),
        warnings=tuple(_warnings(result)),
        command=result["command"],
        created=result["created"],
        files=(("report.html", "this report with its figures"), ("compare.json", "every number")),
        claims=tuple(own for difference, lines in zip(differences, headlines) for own in claims(difference, lines)),
    )


def _kinds(sides: Sequence[Mapping[str, Any]]) -> list[str]:
    """What kinds of numbers the sides hold, each once."""
    return [kind for kind in ("measured", "imported", "projected") if any(side["kind"] == kind for side in sides)]


def _marked(section: Section, of: Sequence[Mapping[str, Any]], sides: Sequence[Mapping[str, Any]]) -> Section:
    """The section, where sides are of several kinds, with the kind of each side on every table and figure.

    Args:
        section: blocks that are marked already stay as they are.
        of: the sides that it shows.
        sides: all of the report.
    """
    if len(_kinds(sides)) == 1:
        return section
    kinds = _kinds(of)
    mark = kinds[0] if len(kinds) == 1 else ", ".join(f"{letter(side)} {side['kind']}" for side in of)
    blocks = (
        replace(block, mark=mark) if isinstance(block, Table | Figure) and not block.mark else block
        for block in section.blocks
    )
    return replace(section, blocks=tuple(blocks))


def _setting(result: Mapping[str, Any]) -> str:
    """What the sides are, and in what they differ."""
    titles = [side["runs"][0]["title"] for side in result["sides"]]
    if len(set(titles)) == 1:
        what = f"all: {titles[0]}"
    else:
        what = "; ".join(f"{letter(side)}: {title}" for side, title in zip(result["sides"], titles))
    differ = [
        f"{entry['name']} ({', '.join(_value(value) for value in entry['values'])})" for entry in result["settings"]
    ]
    return what + (f" · they differ in {', '.join(differ)}" if differ else " · settings and versions are the same")


def _value(value: Any) -> str:
    return UNKNOWN if value is None else str(value)


def _headlines(sides: Sequence[Mapping[str, Any]], difference: Mapping[str, Any]) -> list[str]:
    mixed = len(_kinds(sides)) > 1
    first, other = (
        side["label"] + (f" ({side['kind']})" if mixed else "") for side in (sides[0], sides[difference["side"]])
    )
    step = difference["step"]
    lines = [f"A step of {other} takes {_change_words(step)} {first}{_sureness(step)}."]
    main, op = main_parts(difference)
    if main is None or op is None or step["verdict"] == "SAME":
        return lines
    share = percent(round(main["share"], 6))
    where = "time outside of the phases" if main["phase"] == OUTSIDE else f"the {main['phase']} phase"
    if step["verdict"] == "UNCLEAR":
        explains = f"Should that be more than chance, {where} explains {share} of it"
    else:
        explains = f"{where[0].upper()}{where[1:]} explains {share} of the difference"
    lines.append(f"{explains}: {_signed(main['delta_ms'])} of {_signed(step['delta_ms'])}.")
    times = f"{duration(1e3 * op['a_ms'])} against {duration(1e3 * op['b_ms'])}"
    lines.append(f"Its largest part is {_op_words(op)} ({op['change']}): {times}.")
    return lines


def _op_words(op: Mapping[str, Any]) -> str:
    return "time without a kernel" if op["op"] == NO_KERNEL else _short(op["op"])


def _short(op: str) -> str:
    return op.removeprefix("aten::")


def _change_words(step: Mapping[str, Any]) -> str:
    times = f"{duration(1e3 * step['b_ms'])} against {duration(1e3 * step['a_ms'])}"
    change = step["change"]
    if not known(change):
        return f"{times} in"
    return f"{times}: {percent(abs(change))} {'less' if change < 0 else 'more'} than in"


_SURENESS = {
    "UNCLEAR": "which may be chance",
    "SAME": "which counts as the same",
}


def _sureness(step: Mapping[str, Any]) -> str:
    if step["verdict"] is None:
        return ""
    words = _SURENESS.get(step["verdict"])
    return f"{', ' + words if words else ''} ({step['verdict']}; 95 % interval {_interval(step)})"


def _interval(entry: Mapping[str, Any]) -> str:
    interval = entry["interval"]
    return f"{_plus(interval['low'])} to {_plus(interval['high'])}" if interval else UNKNOWN


def _share(share: float | None) -> str:
    return percent(without_residue(share) if share is not None and known(share) else None)


def _plus(share: float | None) -> str:
    if known(share) and share is not None and share > MOST_SHOWN:
        return f"over +{percent(MOST_SHOWN)}"
    text = _share(share)
    return f"+{text}" if known(share) and share is not None and without_residue(share) > 0 else text


def _signed(ms: float) -> str:
    shown = without_residue(ms)
    return ("+" if shown > 0 else "") + duration(1e3 * shown)


_ROWS: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
    ("numbers", lambda side: side["kind"]),
    ("runs", lambda side: count(len(side["runs"]))),
    ("step time", lambda side: duration(1e3 * side["step_ms"])),
    ("90 % interval", lambda side: _projected_interval(side["step_interval_ms"])),
    ("MFU", lambda side: percent(side["mfu"])),
    ("HFU", lambda side: percent(side["hfu"])),
    ("tokens/s", lambda side: number(side["tokens_per_s"])),
    ("with padding", lambda side: number(side["padded_tokens_per_s"])),
    ("tokens/s/W", lambda side: _per_watt(side)),
    ("power", lambda side: f"{number(side['mean_w'])} W" if known(side["mean_w"]) else UNKNOWN),
    ("peak memory", lambda side: binary_bytes(side["peak_memory_bytes"])),
)


def _per_watt(side: Mapping[str, Any]) -> str:
    """Tokens/s/W that were measured, else the range that the projected power mode allows."""
    projected = side.get("projected_tokens_per_s_per_w")  # older results have none
    if not projected:
        return number(side["tokens_per_s_per_w"])
    return f"{number(projected['low'])} to {number(projected['high'])} (projected)"


def _projected_interval(interval: Mapping[str, Any] | None) -> str:
    if not interval:
        return UNKNOWN
    return f"{duration(1e3 * interval['low'])} to {duration(1e3 * interval['high'])}"


def _side_by_side(sides: Sequence[Mapping[str, Any]], bare: bool) -> Section:
    phases = dict.fromkeys(phase for side in sides for phase in side["phases_ms"])
    rows = [(name, *(text(side) for side in sides)) for name, text in _ROWS]
    rows = [row for row in rows if any(cell != UNKNOWN for cell in row[1:])]
    rows += [(phase, *(duration(_us(side["phases_ms"].get(phase))) for side in sides)) for phase in phases]
    rows += [
        (
            bound if bound in ("inefficient", "unknown") else f"held by {bound}",
            *(percent(side["bounds"].get(bound, 0.0)) for side in sides),
        )
        for bound in BOUNDS
        if any(bound in side["bounds"] for side in sides)
    ]
    table = Table(
        f"Times are {_times(sides, bare)}; bounds are shares of kernel time", ("what", *_heads(sides)), tuple(rows)
    )
    bases = dict.fromkeys(_basis(side) for side in sides)
    named = [(", ".join(letter(side) for side in sides if _basis(side) == basis), "", basis) for basis in bases]
    return Section("Side by side", (table, Facts(tuple(named))))


def _times(sides: Sequence[Mapping[str, Any]], bare: bool) -> str:
    """What the times of the sides are."""
    kinds = _kinds(sides)
    if not bare:
        return "sums of kernels, as one of the runs has no times of bare steps"
    if kinds == ["projected"]:
        return "projected"
    return "true times of bare steps" + (", or projected" if "projected" in kinds else "")


def _basis(side: Mapping[str, Any]) -> str:
    """What a side's MFU, memory and power are of."""
    named = (("MFU of the", "mfu_denominator"), ("memory:", "peak_memory"), ("power of", "power_domain"))
    return "; ".join(f"{what} {side[name]}" for what, name in named if side[name]) or UNKNOWN


def _us(ms: float | None) -> float | None:
    return None if ms is None else 1e3 * ms


def _heads(sides: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(f"#{side['label']}" for side in sides)


def _step(sides: Sequence[Mapping[str, Any]], difference: Mapping[str, Any]) -> Section:
    first, other = sides[0], sides[difference["side"]]
    rows = tuple(_step_row(name, entry, share) for name, entry, share in _entries(difference))
    heads = ("phase", "#difference", "#share", "#change", "#interval", "verdict")
    certainty = _PROJECTED if "projected" in (first["kind"], other["kind"]) else _NOTHING_REPEATS
    if difference["step"]["interval"]:
        certainty = _INTERVALS[difference["samples"]]
    return Section(
        f"From {letter(first)} to {letter(other)}",
        (
            waterfall(first, other, difference),
            Table(
                "Phases; shares are of the difference of the step and add up to 100 %",
                heads,
                rows,
                anchors=phase_anchors(difference),
                links=phase_links(difference),
            ),
            Paragraph(certainty, "quiet"),
        ),
        lead="which phases the difference lies in",
    )


def _entries(difference: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any], float | None]]:
    phases = [(entry["phase"], entry, entry["share"]) for entry in difference["phases"]]
    shares = [share for _, _, share in phases if share is not None]
    whole = round(sum(shares), 6) if shares else None  # 1, but for the rounding of sums
    return [*phases, ("step", difference["step"], whole)]


def _step_row(name: str, entry: Mapping[str, Any], share: float | None) -> tuple[str, ...]:
    return (
        name,
        _signed(entry["delta_ms"]),
        _share(share),
        _plus(entry["change"]),
        _interval(entry),
        entry["verdict"] or UNKNOWN,
    )


def _kernels(sides: Sequence[Mapping[str, Any]], difference: Mapping[str, Any], bare: bool) -> Section:
    pair = sides[0], sides[difference["side"]]
    first, other = map(letter, pair)
    numbers = ("change", "bound", f"#{first}", f"#{other}", "#difference", "#share")
    matched = difference["matched_share"] >= WELL_MATCHED
    level = "kernels" if matched else "modules"
    what = "op, module and shapes" if matched else "op and module; shapes differ too much to be matched"
    keys = ("op", "phase", "module", *(("shapes",) if matched else ()))
    return Section(
        f"What changed from {first} to {other}",
        (
            Table(
                "Ops of each phase",
                ("op", "phase", *numbers),
                _part_rows(difference["ops"], ("op", "phase")),
                spare=("bound",),
                choice=part_choice("ops", difference, difference["ops"], ("op", "phase"), _part_row),
            ),
            Table(
                f"Kernels by {what}; layers are taken together",
                (*keys, *numbers),
                _part_rows(difference[level], keys),
                spare=("bound", "shapes", "change", "module") if matched else ("bound", "change", "module"),
                choice=part_choice("kernels", difference, difference[level], keys, _part_row),
            ),
            Paragraph(f"{_timed(pair, bare)} {_WORDS}", "quiet"),
        ),
        lead=f"{percent(difference['matched_share'])} of kernel time is in kernels that both have",
    )


def _timed(sides: Sequence[Mapping[str, Any]], bare: bool) -> str:
    """How kernels and phases of the sides were timed."""
    if not bare:
        return _TIMED["sums"]
    kinds = _kinds(sides)
    if len(kinds) == 1:
        return _TIMED[kinds[0]]
    return " ".join(f"{kind.capitalize()}: {_TIMED[kind]}" for kind in kinds)


def _part_rows(parts: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    shown, rest = parts[:MOST_ROWS], parts[MOST_ROWS:]
    rows = [_part_row(part, keys) for part in shown]
    if rest:
        rows.append((f"{count(len(rest))} more", *[""] * (len(keys) - 1), *_part_numbers("", "", rest)))
    return tuple(rows)


def _part_row(part: Mapping[str, Any], keys: Sequence[str]) -> tuple[str, ...]:
    names = tuple(_short(str(part[key])) for key in keys)
    return names + _part_numbers(part["change"], bounds_text(part), [part])


def _part_numbers(change: str, bound: str, parts: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    before, after = (without_residue(sum(part[name] for part in parts)) for name in ("a_ms", "b_ms"))
    shares = [part["share"] for part in parts]
    share = sum(shares) if all(known(value) for value in shares) else None
    return (change, bound, duration(1e3 * before), duration(1e3 * after), _signed(after - before), _share(share))


def _bounds(sides: Sequence[Mapping[str, Any]]) -> Section:
    bars = tuple(
        Bar(
            letter(side),
            tuple(Part(bound, 100 * side["bounds"][bound], bound) for bound in BOUNDS if side["bounds"].get(bound)),
            ", ".join(f"{bound} {percent(share)}" for bound, share in _largest(side["bounds"])),
            "" if side["kind"] == "measured" else side["kind"],
        )
        for side in sides
    )
    present = [bound for bound in BOUNDS if any(side["bounds"].get(bound) for side in sides)]
    legend = tuple((bound, bound) for bound in present)
    return Section("What holds each", (Bars("Kernel time by what holds it", bars, "%", legend),))


def _largest(bounds: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(bounds.items(), key=lambda entry: -entry[1])[:2]


def _settings(result: Mapping[str, Any]) -> Section:
    sides = result["sides"]
    rows = tuple((entry["name"], *(_value(value) for value in entry["values"])) for entry in result["settings"])
    block = (
        Table("Settings and versions that differ", ("what", *(side["label"] for side in sides)), rows)
        if rows
        else Paragraph("Settings and versions are the same.")
    )
    runs = tuple(
        (letter(side), run["path"] or UNKNOWN, run["created"] or UNKNOWN, run["command"] or UNKNOWN)
        for side in sides
        for run in side["runs"]
    )
    return Section(
        "What differs", (block, Table("Runs", ("side", "folder", "made", "command"), runs, spare=("command",)))
    )


def _warnings(result: Mapping[str, Any]) -> list[str]:
    sides = result["sides"]
    warnings = []
    if len(_kinds(sides)) > 1:
        which = ", ".join(f"{side['label']} is {side['kind']}" for side in sides)
        warnings.append(f"{' and '.join(_kinds(sides))} numbers stand side by side: {which}")
    if len({side["mfu_denominator"] for side in sides if side["mfu_denominator"]}) > 1:
        warnings.append("MFU is taken of different peaks, which stand below the numbers side by side")
    if len({side["power_domain"] for side in sides if side["power_domain"]}) > 1:
        warnings.append("power was measured on different rails; tokens/s/W are not of the same thing")
    return warnings + [f"{letter(side)}: {text}" for side in sides for text in side["warnings"]]
