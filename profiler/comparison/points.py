"""Where the parts of a step lie under the roof: one figure may hold those of several devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from .breakdown import NO_KERNEL

#: Points of a run that are shown: those with most time.
MOST_POINTS = 30


def roofline_points(parts: pd.DataFrame, limit: int = MOST_POINTS) -> list[dict[str, Any]]:
    """Ops of each phase as points: FLOP per byte, GFLOP/s, share of kernel time; those with most time first.

    Args:
        parts: from :func:`~.breakdown.breakdown`.
        limit: most of them.
    """
    kernels = parts[parts["op"] != NO_KERNEL]
    total = kernels["ms"].sum()
    known = kernels[(kernels["flops"] > 0) & (kernels["bytes"] > 0) & (kernels["ms"] > 0)]
    groups = known.groupby(["phase", "op"], sort=False)[["ms", "flops", "bytes"]].sum().reset_index()
    return [
        {
            "phase": row.phase,
            "op": row.op,
            "intensity": row.flops / row.bytes,
            "gflops": row.flops / row.ms / 1e6,
            "share": row.ms / total,
        }
        for row in groups.nlargest(limit, "ms").itertuples()
    ]


def roof_used(device: Mapping[str, Any], precision: str | None) -> dict[str, Any] | None:
    """The roof that a run was judged by: bandwidth, and the highest peak of its precision (else of all).

    Args:
        device: the ``device`` entry of a summary.
        precision: of the workload.
    """
    roofs = [roof for roof in device["roofs"] if roof["source"] == device.get("roof_used")] or device["roofs"]
    if not roofs or not roofs[0].get("bandwidth_gbs"):
        return None
    peaks = [
        (gflops, dtype, unit) for unit, found in roofs[0]["peaks_gflops"].items() for dtype, gflops in found.items()
    ]
    wanted = "bf16" if precision == "bf16-pure" else precision
    own = [peak for peak in peaks if peak[1] == wanted] or peaks
    if not own:
        return None
    gflops, dtype, unit = max(own)
    return {
        "source": roofs[0]["source"],
        "bandwidth_gbs": roofs[0]["bandwidth_gbs"],
        "gflops": gflops,
        "peak": f"{dtype} {unit}",
    }
