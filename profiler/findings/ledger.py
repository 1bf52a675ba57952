"""The coverage ledger: how much of the kernel time is accounted for, and how well."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ..schema import PROVENANCES

#: How many ops without a price are named.
NAMED_UNKNOWN_OPS = 10


def coverage_ledger(kernels: pd.DataFrame, steps: int = 1) -> dict[str, Any]:
    """Shares of kernel time: linked to an op, priced by each provenance, communication, unlinked.

    Args:
        kernels: the kernel table.
        steps: number of steps in the table; durations are per step.

    Returns:
        The ``ledger`` entry of ``run.json``. Shares are of the summed kernel durations.
    """
    total = float(kernels["dur_us"].sum())
    linked = _time(kernels, kernels["linked"].astype(bool))
    provenance = kernels["provenance"].astype(str)
    return {
        "kernel_us": total / steps,
        "kernels": round(len(kernels) / steps),
        "linked_share": _share(linked, total),
        "unlinked_share": _share(total - linked, total),
        "unlinked_us": (total - linked) / steps,
        "priced_share": {name: _share(_time(kernels, provenance == name), total) for name in PROVENANCES},
        "communication_share": _share(_time(kernels, kernels["phase"] == "communication"), total),
        "unknown_ops": _unknown_ops(kernels, total, steps),
    }


def _unknown_ops(kernels: pd.DataFrame, total: float, steps: int) -> list[dict[str, Any]]:
    """Ops whose cost nobody knows, by time; unlinked kernels and communication have rows of their own elsewhere."""
    rows = (kernels["provenance"] == "unknown") & kernels["linked"].astype(bool) & (kernels["phase"] != "communication")
    unknown = kernels[rows]
    times = unknown.groupby(unknown["op"].astype(str))["dur_us"].agg(["sum", "size"])
    times = times.sort_values("sum", ascending=False).head(NAMED_UNKNOWN_OPS)
    return [
        {
            "op": str(op),
            "dur_us": float(row["sum"]) / steps,
            "share": _share(float(row["sum"]), total),
            "kernels": round(int(row["size"]) / steps),
        }
        for op, row in times.iterrows()
    ]


def _time(kernels: pd.DataFrame, rows: pd.Series) -> float:
    return float(kernels.loc[rows, "dur_us"].sum())


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
