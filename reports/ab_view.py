"""What every report of an A/B result shows: plain results in, sentences and rows out. Nothing here measures or judges.

A result is the dict that :func:`edgeroof.kernels.ab.run` makes, or that was read from an ``ab.json``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .text import UNKNOWN, clean, count, duration, number, percent

Result = Mapping[str, Any]

#: Clocks whose comparison is shown under another name; any other key names a part of the call.
CLOCK_NAMES = {"wall": "wall", "device": "device"}
#: Size of a parameter: bytes per parameter over this are passes over memory, one per tensor read or written.
ITEM_BYTES = {"fp32": 4, "bf16": 2}
#: Share of the processors that other programs may use before results are doubted.
QUIET_SHARE = 0.05

VERDICT_MEANINGS = {
    "FASTER": "the whole interval lies above the noise floor",
    "SAME": "the whole interval lies within twice the noise floor (2 % at least, 5 % at most)",
    "SLOWER": "the whole interval lies below the noise floor",
    "UNCLEAR": "the interval is too wide to tell",
    "WRONG": "the results differ from the reference; not timed",
    "FAILED": "it raised an error",
    "BASE": "what the others are compared with",
}


def verdict_of(entry: Mapping[str, Any]) -> str:
    """A provider's verdict as shown: BASE, WRONG, FAILED, MISSING, or the statistics' own."""
    status = entry["status"]
    shown = {"baseline": "BASE", "wrong": "WRONG", "failed": "FAILED", "unavailable": "MISSING"}
    return shown.get(status) or str(entry["verdict"])


def timed(problem: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The results that have times: the base first, then as measured."""
    return [entry for entry in problem["results"] if entry["status"] in ("baseline", "measured")]


def listed(problem: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The results that get a row: everything but providers that are not there."""
    return [entry for entry in problem["results"] if entry["status"] != "unavailable"]


def items(problem: Mapping[str, Any]) -> str:
    """What a problem's size counts: parameters, or the elements of an operator's tensor."""
    return clean(problem.get("items") or "parameters")


def item(problem: Mapping[str, Any]) -> str:
    """One of :func:`items`."""
    return items(problem).removesuffix("s")


def size_text(problem: Mapping[str, Any]) -> str:
    """How large a problem is."""
    return f"{count(problem['parameters'])} {items(problem)} in {count(problem['tensors'])} tensors"


def error_measure(result: Result) -> str:
    """What the errors are, in the suite's words."""
    measures = (entry.get("error_measure") for problem in result["problems"] for entry in problem["results"])
    return clean(next(filter(None, measures), "deviation from the reference"))


def main_clock(entry: Mapping[str, Any]) -> str:
    """The clock whose time is shown: the device's where there is one."""
    return "device" if "device" in entry["times_us"] else "wall"


def time_us(entry: Mapping[str, Any]) -> float:
    """Median time of a call in µs, on the main clock."""
    return float(entry["times_us"][main_clock(entry)]["median"])


def ratio_text(comparison: Mapping[str, Any] | None) -> str:
    """A ratio with its interval: ``1.25× (1.22–1.28)``; how many times as fast as the base."""
    if not comparison:
        return ""
    return f"{number(comparison['ratio'])}× ({number(comparison['low'])}–{number(comparison['high'])})"


def headlines(result: Result) -> list[str]:
    """The answer, a sentence for each problem: the base's time, then edgeroof's own, then the others by speed."""
    return [_headline(problem) for problem in result["problems"]]


def _headline(problem: Mapping[str, Any]) -> str:
    base = next(entry for entry in problem["results"] if entry["status"] == "baseline")
    measured = [entry for entry in timed(problem) if entry is not base]
    measured.sort(key=lambda entry: (not entry["judged"], -entry["comparisons"]["wall"]["ratio"]))
    found = [f"{entry['provider']} {_in_words(entry['comparisons']['wall'])}" for entry in measured]
    wrong = [f"{entry['provider']} is wrong" for entry in problem["results"] if entry["status"] == "wrong"]
    lead = f"{problem['title']}: {base['provider']} takes {duration(time_us(base))}"
    return "; ".join([lead, *found, *wrong]) + "."


def _in_words(comparison: Mapping[str, Any]) -> str:
    ratio = comparison["ratio"]
    if comparison["verdict"] == "FASTER":
        return f"is {number(ratio)} times as fast"
    if comparison["verdict"] == "SLOWER":
        return f"takes {number(1 / ratio)} times as long"
    return "is the same" if comparison["verdict"] == "SAME" else f"is unclear ({ratio_text(comparison)})"


def noise_text(problem: Mapping[str, Any]) -> str:
    """The A/A run in one line."""
    wall = problem["aa"]["comparisons"]["wall"]
    return (
        f"A/A says {wall['verdict']}: {ratio_text(wall)} over {wall['pairs']} pairs{_places(wall)}; "
        f"differences must exceed {percent(floor_ratio(problem) - 1)}"
    )


def _places(comparison: Mapping[str, Any]) -> str:
    placements = comparison.get("placements", 1)
    return f" in {placements} places" if placements > 1 else ""


def warnings(result: Result) -> list[str]:
    """What stands against believing the result."""
    found = []
    others = (result.get("machine") or {}).get("others")
    if others is not None and others > QUIET_SHARE:
        found.append(
            f"Other programs used {percent(others)} of the processors meanwhile: run again on a quiet machine."
        )
    for problem in result["problems"]:
        if problem["aa"]["verdict"] != "SAME":
            found.append(f"{problem['name']}: A/A says {problem['aa']['verdict']}, so small differences mean nothing.")
        if problem["cache"] == "warm":
            found.append(
                f"{problem['name']}: the working set fits in the cache and stays there between calls, "
                "as it would not in a training step; a share of the roof may exceed 100 %."
            )
        for entry in timed(problem):
            reasons = entry.get("state", {}).get("throttled") or []
            if reasons:
                found.append(f"{problem['name']}, {entry['provider']}: the GPU was throttled ({', '.join(reasons)}).")
            pairs = entry["comparisons"]["wall"]["pairs"] if entry["status"] == "measured" else None
            placements = entry["comparisons"]["wall"].get("placements") if entry["status"] == "measured" else None
            if placements == 1:
                found.append(
                    f"{problem['name']}, {entry['provider']}: one place in memory only, since building takes so long; "
                    "the interval does not know what another place would change."
                )
            if pairs is not None and pairs < result["settings"]["pairs"]:
                found.append(f"{problem['name']}, {entry['provider']}: {pairs} pairs only, for lack of time.")
    return found


def missing(problem: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Provider and reason, of everything that has no time."""
    return [
        (entry["provider"], f"{verdict_of(entry).lower()}: {clean(entry['reason'])}")
        for entry in problem["results"]
        if entry["status"] not in ("baseline", "measured")
    ]


def energy_text(entry: Mapping[str, Any]) -> str:
    """Energy of one call, empty without a meter."""
    energy = entry.get("energy") or {}
    if not energy.get("available"):
        return ""
    return f"{number(energy['joules_per_call'] * 1e3)} mJ"


def energy_reason(result: Result) -> str:
    """Why there is no energy, empty where there is."""
    reasons = {
        entry["energy"].get("reason", "")
        for problem in result["problems"]
        for entry in timed(problem)
        if not entry["energy"]["available"]
    }
    return "; ".join(sorted(clean(reason) for reason in reasons if reason))


def parts(problem: Mapping[str, Any]) -> list[str]:
    """Names of the parts of a call that were compared by themselves, such as a step's optimizer phase."""
    keys: dict[str, None] = {}
    for entry in timed(problem):
        keys |= dict.fromkeys(key for key in entry["times_us"] if key not in CLOCK_NAMES)
    return list(keys)


def part_rows(problem: Mapping[str, Any]) -> list[list[str]]:
    """Part, provider, verdict, ratio and time of every part that was compared."""
    rows = []
    for part in parts(problem):
        for entry in timed(problem):
            comparison = entry["comparisons"].get(part) if entry["status"] == "measured" else None
            verdict = comparison["verdict"] if comparison else verdict_of(entry)
            time = (entry["times_us"].get(part) or {}).get("median")
            rows.append([part, entry["provider"], verdict, ratio_text(comparison) or UNKNOWN, duration(time)])
    return rows


def floor_ratio(problem: Mapping[str, Any]) -> float:
    """What a ratio must exceed to count, from the A/A run."""
    wall = problem["aa"]["comparisons"]["wall"]
    return math.exp(max(abs(math.log(wall["low"])), abs(math.log(wall["high"])), math.log(wall["floor"])))


def setting(result: Result) -> str:
    """Where and how it was measured, in one line."""
    device, environment = result.get("device") or {}, result.get("environment") or {}
    threads = environment.get("torch_threads")
    pieces = [
        clean(device.get("title") or "unknown device"),
        f"torch {clean(environment['torch'])}" if environment.get("torch") else "",
        f"{threads} thread{'s' if threads != 1 else ''}" if threads and device.get("kind") == "cpu" else "",
        f"at least {result['settings']['pairs']} pairs and {number(result['settings']['seconds'])} s each",
        clean(result.get("created") or ""),
    ]
    return " · ".join(piece for piece in pieces if piece)


def roof_text(result: Result) -> str:
    """The roof that shares are of."""
    device = result["device"]
    roofs = {roof["source"]: roof for roof in device.get("roofs") or []}
    roof = roofs.get(device.get("roof_used") or "")
    if not roof:
        return "no roof is known"
    return f"{roof['source']} roof: {number(roof['bandwidth_gbs'], 4)} GB/s, bytes read and written"
