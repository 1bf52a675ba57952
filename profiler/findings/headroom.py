"""Headroom: where the most time could be won, and how bounds share the step."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ..schema import BOUNDS
from .advice import advise

#: Length of the ranking.
RANKED_GROUPS = 10

#: Bounds whose headroom means something; communication has no roof here, and unknown costs have none.
RANKED_BOUNDS = ("memory", "compute", "latency", "inefficient")


def bound_shares(kernels: pd.DataFrame, steps: int = 1) -> list[dict[str, Any]]:
    """Kernel time, its share and its headroom for each bound that occurs, in µs per step.

    Headroom is ``None`` for communication and unknown costs, which have no roof. Kernels above their roof count as
    negative headroom, so that shares and sums stay those of the whole step.

    Args:
        kernels: a classified kernel table.
        steps: number of steps in it.
    """
    total = float(kernels["dur_us"].sum())
    groups = kernels.groupby(kernels["bound"].astype(str)).agg(
        dur_us=("dur_us", "sum"), headroom_us=("headroom_us", "sum"), kernels=("dur_us", "size")
    )
    return [
        {
            "bound": bound,
            "dur_us": float(groups.at[bound, "dur_us"]) / steps,
            "share": float(groups.at[bound, "dur_us"]) / total if total else 0.0,
            "headroom_us": float(groups.at[bound, "headroom_us"]) / steps if bound in RANKED_BOUNDS else None,
            "kernels": round(int(groups.at[bound, "kernels"]) / steps),
        }
        for bound in BOUNDS
        if bound in groups.index
    ]


def rank_headroom(kernels: pd.DataFrame, steps: int = 1) -> list[dict[str, Any]]:
    """The groups of (op, phase) with the most time above their roof, with advice in words.

    Args:
        kernels: a classified kernel table.
        steps: number of steps in it; times are in µs per step, ``share`` is of all kernel time.
    """
    total = float(kernels["dur_us"].sum())
    ranked = kernels[kernels["bound"].isin(RANKED_BOUNDS)]
    keys = [ranked["op"].astype(str), ranked["phase"].astype(str)]
    groups = ranked.groupby(keys).agg(
        dur_us=("dur_us", "sum"),
        headroom_us=("headroom_us", "sum"),
        t_roof_us=("t_roof_us", "sum"),
        kernels=("dur_us", "size"),
    )
    best = groups[groups["headroom_us"] > 0].sort_values("headroom_us", ascending=False).head(RANKED_GROUPS)
    dominant = dominant_bounds(ranked, keys)
    rows = []
    for rank, ((op, phase), group) in enumerate(best.iterrows(), start=1):
        fraction = float(group["t_roof_us"] / group["dur_us"])
        bound = dominant[(op, phase)]
        rows.append(
            {
                "rank": rank,
                "op": op,
                "phase": phase,
                "kernels": round(float(group["kernels"]) / steps),
                "dur_us": float(group["dur_us"]) / steps,
                "headroom_us": float(group["headroom_us"]) / steps,
                "share": float(group["dur_us"]) / total if total else 0.0,
                "bound": bound,
                "roof_fraction": fraction,
                "advice": advise(op, phase, bound, fraction),
            }
        )
    return rows


def dominant_bounds(kernels: pd.DataFrame, keys: list[pd.Series]) -> dict[Any, str]:
    """For each group of ``keys``, the bound that most of its time is under."""
    times = kernels.groupby([*keys, kernels["bound"].astype(str)])["dur_us"].sum()
    winners = times.groupby(level=list(range(len(keys)))).idxmax()
    return {group: winner[-1] for group, winner in winners.items()}
