"""Points of a sweep: the numbers of each, how long the rest takes, and where more of an axis stops paying."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .profiler.energy_range import projected_tokens_per_joule

#: Folder of the points' runs, in that of a sweep.
POINTS = "points"
#: Axes whose values are numbers, in the order in which they become the x axis of a figure.
NUMERIC = ("batch_size", "source_length")
#: Axes as people call them, where that is not their name with spaces.
TITLES = {"source_length": "source tokens"}
#: The knee: the least value of the axis that reaches this share of the best throughput.
KNEE_SHARE = 0.9
#: Parameters of the models known by name, in millions, to guess how long a point takes.
_SIZES = {"tiny": 2, "small": 77, "base": 248, "large": 783, "xl": 2850}


def describe_point(
    point: Mapping[str, Any], record: Mapping[str, Any], summary: Mapping[str, Any] | None
) -> dict[str, Any]:
    """A point as the report shows it.

    Args:
        point: its ``name`` and ``config``.
        record: its ``status``, with the ``reason`` and the ``seconds`` it took.
        summary: of its run; ``None`` where there is none.
    """
    described = {
        "name": point["name"],
        "config": dict(point["config"]),
        "status": record["status"],
        "reason": record.get("reason"),
        "seconds": record.get("seconds"),
    }
    return described | (_numbers(summary) if summary else {})


def _numbers(summary: Mapping[str, Any]) -> dict[str, Any]:
    metrics, projection = summary["metrics"], summary.get("projection")
    step = metrics["step_time_ms"]
    interval = projection["step_time_ms"] if projection else {"low": step["p25"], "high": step["p75"]}
    fit = projection.get("memory") if projection else None
    return {
        "device": summary["device"]["title"],
        "step_ms": {"value": step["median"], "low": interval["low"], "high": interval["high"]},
        "mfu": (metrics.get("mfu") or {}).get("value"),
        "tokens_per_s": metrics["tokens_per_s"]["non_padding"],
        "padded_tokens_per_s": metrics["tokens_per_s"]["padded"],
        "tokens_per_s_per_w": _per_watt(metrics, projection),
        "peak_memory_bytes": (metrics.get("peak_memory") or {}).get("bytes"),
        "fits": fit["fits"] if fit else None,
        "bounds": {entry["bound"]: entry["share"] for entry in summary["bounds"]},
    }


def _per_watt(metrics: Mapping[str, Any], projection: Mapping[str, Any] | None) -> dict[str, float | None] | None:
    """Tokens/s/W, measured; or the range that the projected power mode allows, without a value."""
    if projection is None:
        value = (metrics.get("power") or {}).get("tokens_per_s_per_w")
        return None if value is None else {"value": value, "low": None, "high": None}
    found = projected_tokens_per_joule(metrics, projection)
    return None if found is None else {"value": None, **found}


def fits(point: Mapping[str, Any]) -> bool:
    """Whether a point has numbers and is not projected to exceed the device's memory."""
    return point["status"] == "finished" and point["fits"] is not False


def varied(axes: Mapping[str, Sequence[Any]]) -> list[str]:
    """The axes that have several values."""
    return [name for name, values in axes.items() if len(values) > 1]


def in_words(config: Mapping[str, Any], axes: Mapping[str, Sequence[Any]]) -> str:
    """What tells a point from the others: ``batch size 4, precision bf16``; all of it where there is one point only."""
    names = varied(axes) or list(axes)
    return ", ".join(f"{TITLES.get(name, name.replace('_', ' '))} {config[name]}" for name in names)


def x_axis(axes: Mapping[str, Sequence[Any]]) -> str | None:
    """The axis that figures run along: the first with several numbers."""
    return next((name for name in NUMERIC if len(axes.get(name, ())) > 1), None)


def series(
    axes: Mapping[str, Sequence[Any]], points: Sequence[Mapping[str, Any]]
) -> dict[str, list[Mapping[str, Any]]]:
    """Finished points along the x axis, by the settings that they have in common besides."""
    axis = x_axis(axes)
    others = [name for name in varied(axes) if name != axis]
    found: dict[str, list[Mapping[str, Any]]] = {}
    for point in points:
        if point["status"] == "finished":
            name = ", ".join(str(point["config"][name]) for name in others) or "all"
            found.setdefault(name, []).append(point)
    if axis:
        for line in found.values():
            line.sort(key=lambda point: point["config"][axis])
    return found


def knees(axes: Mapping[str, Sequence[Any]], points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of every series, the least value of the x axis that reaches :data:`KNEE_SHARE` of the best tokens per second.

    Tokens are counted with padding here: how many of a batch are none depends on the few dialogues drawn for it, which
    says nothing of the device and would bend the curve.
    ``rising`` says that this is the largest value that has run and fits: throughput may well grow beyond it.
    """
    axis = x_axis(axes)
    found = []
    for name, line in series(axes, points).items() if axis else ():
        usable = [point for point in line if fits(point)]
        if len(usable) < 2:
            continue
        best = max(point["padded_tokens_per_s"] for point in usable)
        knee = next(point for point in usable if point["padded_tokens_per_s"] >= KNEE_SHARE * best)
        found.append(
            {
                "series": name,
                "axis": axis,
                "at": knee["config"][axis],
                "padded_tokens_per_s": knee["padded_tokens_per_s"],
                "best_padded_tokens_per_s": best,
                "rising": knee is usable[-1],
            }
        )
    return found


def remaining_seconds(
    took: Sequence[tuple[Mapping[str, Any], float]], left: Sequence[Mapping[str, Any]]
) -> tuple[float, float] | None:
    """Between what seconds the points left will take; ``None`` before the first has been run.

    A point costs something fixed and something that grows with its work. How much of either is not known, so both
    extremes are told: every point takes as long as those before did, or as much longer as it has more work.

    Args:
        took: settings of finished points and their seconds.
        left: settings of the points left.
    """
    if not took:
        return None
    seconds = sum(taken for _, taken in took)
    flat = seconds / len(took) * len(left)
    proportional = seconds / sum(_work(config) for config, _ in took) * sum(_work(config) for config in left)
    return min(flat, proportional), max(flat, proportional)


def _work(config: Mapping[str, Any]) -> float:
    """Tokens times parameters, in no particular unit."""
    tokens = (config.get("source_length") or 512) + (config.get("target_length") or 96)
    return float((config.get("batch_size") or 4) * tokens * _SIZES.get(str(config.get("model", "small")), 100))
