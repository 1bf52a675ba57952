"""The paper's qualitative claims beside what was found here, judged by rules that are stated with every verdict.

The paper's precision, sequence length, power mode and link rates are not known, so no absolute number of it is
compared. A claim is called confirmed or contradicted only if all settings that it may have meant say the same.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..reports.text import number, percent

Judgement = Literal["agrees", "disagrees", "can't be said"]

#: Models that the paper's claims are about.
PAPER_MODELS = {"small", "base", "large", "xl"}
#: MFU that the paper says an Orin stays below.
LOW_MFU = 0.10
#: How many times as large a share is "much larger".
MUCH_LARGER = 2.0
#: What doubling the clients must win at least, else federating is pointless.
WORTHWHILE = 1.10
#: G below which a round is called "near zero".
NEAR_ZERO = 0.1
#: Points with metered power that a statement on energy needs.
LEAST_METERED = 3

Data = Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """A claim and what is found here.

    Attributes:
        claim: of the paper, in our words.
        verdict: what the rule says.
        why: the numbers behind it.
        rule: how it is decided.
        basis: where the numbers come from.
        board: what only a board can tell.
    """

    claim: str
    verdict: Judgement
    why: str
    rule: str
    basis: str
    board: str


def judge(data: Data) -> list[Verdict]:
    """All claims; one whose experiment has not been run, or not with the paper's models, can't be said."""
    claims = (low_mfu, memory_to_blame, optimizer_share, lte_pointless, energy_follows_mfu)
    verdicts = [claim(data) for claim in claims]
    return verdicts if PAPER_MODELS & set(data["plan"]["models"]) else [_of_other_models(v) for v in verdicts]


def _of_other_models(verdict: Verdict) -> Verdict:
    why = "The models of this plan are none of the paper's, so its numbers are no evidence."
    return dataclasses.replace(verdict, verdict="can't be said", why=why)


def _together(cases: Sequence[bool | None]) -> Judgement:
    """One verdict from cases that confirm (``True``), contradict (``False``) or are undecided (``None``)."""
    if cases and all(case is True for case in cases):
        return "agrees"
    if cases and all(case is False for case in cases):
        return "disagrees"
    return "can't be said"


def _all_or_none(holds: Sequence[bool]) -> bool | None:
    """``True`` if it holds at every point, ``False`` if at none, else ``None``."""
    return True if holds and all(holds) else False if holds and not any(holds) else None


def usable(row: Data) -> bool:
    """Whether a point of the scaling experiment is not projected to exceed the device's memory."""
    return not (row["memory"] and not row["memory"]["fits"])


def _on_edge(data: Data) -> dict[str, list[Data]]:
    """Points on the edge device that fit, by precision."""
    found: dict[str, list[Data]] = {}
    for row in data["scaling"] or ():
        if row["device"] == data["plan"]["edge"] and usable(row):
            found.setdefault(row["precision"], []).append(row)
    return found


def mfu_interval(row: Data, peak_gflops: float | None = None) -> tuple[float, float, float]:
    """MFU of a point with the ends that its step time allows.

    Args:
        row: the point.
        peak_gflops: another peak than that of its precision.
    """
    value, step = row["mfu"], row["step_ms"]
    if peak_gflops:
        value = row["model_flops"] / (step["value"] * 1e-3 * peak_gflops * 1e9)
    return value, value * step["value"] / step["high"], value * step["value"] / step["low"]


def low_mfu(data: Data) -> Verdict:
    """MFU on the edge device stays below a tenth."""
    cases: list[bool | None] = []
    told = []
    for precision, rows in _on_edge(data).items():
        known = [row for row in rows if row["mfu"] is not None]
        peaks: list[tuple[str, float | None]] = [("against the peak of that precision", None)]
        matrix = next((row["matrix_peak_gflops"] for row in known), None)
        if matrix and precision in ("fp32", "tf32"):
            peaks.append(("against the 16-bit matrix peak", matrix))
        for name, peak in peaks if known else ():
            intervals = [mfu_interval(row, peak) for row in known]
            cases.append(_side([(low, high) for _, low, high in intervals], LOW_MFU))
            least, most = min(value for value, _, _ in intervals), max(value for value, _, _ in intervals)
            told.append(f"{precision} {name}: {percent(least)} to {percent(most)} ({_together(cases[-1:])})")
    return Verdict(
        "On an Orin, MFU stays below 10 %",
        _together(cases),
        _why(told, "The paper states neither precision nor denominator, and they decide."),
        f"In every precision and against every denominator: agrees if all intervals lie below {percent(LOW_MFU)}, "
        "disagrees if all lie above, over all points that fit into memory.",
        "projected",
        "what the board's kernels reach, and its clocks under load",
    )


def _side(intervals: Sequence[tuple[float, float]], border: float) -> bool | None:
    """``True`` if all intervals lie below a border, ``False`` if all above."""
    if intervals and all(high < border for _, high in intervals):
        return True
    return False if intervals and all(low >= border for low, _ in intervals) else None


def _why(told: Sequence[str], more: str = "") -> str:
    return " ".join(
        filter(None, ["; ".join(told) + "." if told else "This experiment has not been run.", more if told else ""])
    )


def memory_to_blame(data: Data) -> Verdict:
    """Memory bandwidth is what holds the edge device back."""
    cases: list[bool | None] = []
    told = []
    for precision, rows in _on_edge(data).items():
        shares = [row["bounds"].get("memory", 0.0) for row in rows]
        holds = [share >= max(row["bounds"].values()) for share, row in zip(shares, rows)]
        cases.append(_all_or_none(holds))
        told.append(
            f"{precision}: memory holds most at {sum(holds)} of {len(holds)} points, {percent(min(shares))} to "
            f"{percent(max(shares))} of kernel time ({_together(cases[-1:])})"
        )
    return Verdict(
        "Memory bandwidth is to blame for the low MFU on an Orin",
        _together(cases),
        _why(told),
        "In every precision: agrees if memory holds more kernel time than any other bound at all points that fit, "
        "disagrees if at none.",
        "projected",
        "the traffic itself, by hardware counters",
    )


def optimizer_shares(data: Data) -> list[dict[str, Any]]:
    """Share of the optimizer's phase at every point that fits on both devices, and how they compare."""
    edge, centre = data["plan"]["edge"], data["plan"]["centre"]
    rows = {(row["device"], row["model"], row["precision"], row["batch_size"]): row for row in data["scaling"] or ()}
    found = []
    for (device, *point), row in rows.items():
        other = rows.get((centre, *point))
        if device != edge or other is None or not (usable(row) and usable(other)):
            continue
        here, there = _optimizer_share(row), _optimizer_share(other)
        if here and there:
            model, precision, batch = point
            found.append(
                {
                    "model": model,
                    "precision": precision,
                    "batch_size": batch,
                    "edge": here,
                    "centre": there,
                    "ratio": here / there,
                }
            )
    return found


def _optimizer_share(row: Data) -> float:
    return float(row["phases"].get("optimizer", {"value": 0.0})["value"] / row["step_ms"]["value"])


def optimizer_share(data: Data) -> Verdict:
    """The optimizer's step takes a much larger share on the edge device."""
    by_precision: dict[str, list[dict[str, Any]]] = {}
    for entry in optimizer_shares(data):
        by_precision.setdefault(entry["precision"], []).append(entry)
    cases, told = [], []
    for precision, own in by_precision.items():
        ratios = [entry["ratio"] for entry in own]
        cases.append(_all_or_none([ratio >= MUCH_LARGER for ratio in ratios]))
        told.append(
            f"{precision}: {_range([e['edge'] for e in own])} against {_range([e['centre'] for e in own])}, "
            f"{number(min(ratios))} to {number(max(ratios))} times as much ({_together(cases[-1:])})"
        )
    return Verdict(
        "opt.step() takes a far larger share of a step on an Orin than on an A100",
        _together(cases),
        _why(told, _timers(data)),
        f"Device-true shares, same model, precision and batch on both: agrees if at least {number(MUCH_LARGER)} times "
        "as large at all points that fit on both, disagrees if at none. The projected values decide, for their errors "
        "are largely common to both devices.",
        "projected; other timers simulated",
        "host time of the board's cores between launches, and what its timer really waits for",
    )


def _range(values: Sequence[float]) -> str:
    return f"{percent(min(values))} to {percent(max(values))}"


def _timers(data: Data) -> str:
    """What other ways of timing would have made of the same steps."""
    parts = []
    for entry in data["breakdown"] or ():
        total = sum(entry["host_ms"].values())
        if total:
            parts.append(f"{percent(entry['host_ms'].get('optimizer', 0.0) / total)} on {entry['device']}")
    if not parts:
        return ""
    return (
        f"A timer that does not wait for the device would say {' and '.join(parts)}, one around opt.step(closure) "
        "100 % on either: such a share may be an artefact of the timer."
    )


def lte_pointless(data: Data) -> Verdict:
    """Over LTE a round hardly computes, so that more clients hardly help."""
    border = pointless_below()
    cases: list[bool | None] = []
    told = []
    for device, rows in plain_rows(data).items():
        cases.append(_side([(_end(row, "granularity_low"), _end(row, "granularity_high")) for row in rows], border))
        values = [row["granularity"] for row in rows]
        near = sum(value < NEAR_ZERO for value in values)
        told.append(
            f"{device}: G {number(min(values))} to {number(max(values))}, below {number(NEAR_ZERO)} for {near} of "
            f"{len(values)} models ({_together(cases[-1:])})"
        )
    return Verdict(
        "Over LTE, federating full weights is pointless: G is near zero",
        _together(cases),
        _why(told, "The paper's LTE rates are not known; the link here has public ones." if told else ""),
        f"On every device: agrees if the upper end of G stays below {number(border)} for all models that fit, where "
        f"doubling the clients makes a round less than {percent(WORTHWHILE - 1)} faster, disagrees if all lower ends "
        "lie above.",
        "step times projected, transfers by the links' model",
        "the step time, and the rates of a real cell",
    )


def plain_rows(data: Data) -> dict[str, list[Data]]:
    """Granularity of all weights as they are over the slowest link, of models that fit, by device."""
    result = data["links"]
    found: dict[str, list[Data]] = {}
    for row in result["rows"] if result else ():
        case = result["cases"][row["case"]]
        plain = case["lora_rank"] is None and row["codec"] == next(iter(result["codecs"]))
        if plain and row["link"] == result["links"][-1]["name"] and case["fits"] is not False:
            found.setdefault(case["device"], []).append(row)
    return found


def _end(row: Data, name: str) -> float:
    return float(row["granularity"] if row[name] is None else row[name])


def pointless_below() -> float:
    """G at which doubling the clients makes a round :data:`WORTHWHILE` times as fast: (G + 1) / (G / 2 + 1)."""
    return (WORTHWHILE - 1) / (1 - WORTHWHILE / 2)


def energy_follows_mfu(data: Data) -> Verdict:
    """Tokens/s/W rise and fall with MFU."""
    here = data["here"]
    metered = [(here["mfu"], here["power"]["tokens_per_s_per_w"])] if here and here["power"].get("available") else []
    follows = follows_order(metered)
    told = [f"{len(metered)} points with metered power on this machine, {LEAST_METERED} are needed"]
    return Verdict(
        "Energy efficiency (tokens/s/W) follows MFU",
        _together([follows]),
        _why(
            told,
            "A projection knows the power of a mode as a range only, and with constant power both are proportional for "
            "one model by arithmetic: it can't test this.",
        ),
        f"Among at least {LEAST_METERED} points with metered power: agrees if every pair is ordered alike by both, "
        "disagrees if every pair is ordered the other way.",
        "measured here, where there is a meter",
        "power on its rails over batch sizes and models",
    )


def follows_order(points: Sequence[tuple[float, float]]) -> bool | None:
    """Whether two numbers of each point rise together: ``True`` for all pairs, ``False`` for none; ``None`` else."""
    if len(points) < LEAST_METERED:
        return None
    alike = [(a[0] - b[0]) * (a[1] - b[1]) for a, b in itertools.combinations(points, 2)]
    return _all_or_none([product > 0 for product in alike])
