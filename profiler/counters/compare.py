"""Our byte and FLOP counts beside the counters, op by op, and why they differ.

Our bytes are compulsory traffic: what an op must move if nothing it needs is in a cache. Counters say what passed
between L2 and DRAM. Fewer bytes than ours mean that data was found in L2, or that what was written is still there; more
mean that data was read again, or sectors only in part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from .launches import Launch

#: Counts that differ by less are called equal.
_TOLERANCE = 0.1

#: L2 hit share from which hits are named as the reason for fewer bytes.
_HITS = 0.3

COLUMNS = (
    "op", "kernels", "dur_us", "our_bytes", "counter_bytes", "bytes_ratio", "l2_hit_share", "our_flops",
    "counter_flops", "flops_ratio", "reason",
)  # fmt: skip


def compare_by_op(kernels: pd.DataFrame, launch_of: Mapping[int, int], launches: Sequence[Launch]) -> pd.DataFrame:
    """One row per op, the one with most time first.

    Args:
        kernels: the kernel table with our own counts, its index 0, 1, 2, …
        launch_of: row of a kernel to its launch.
        launches: the counters.

    Returns:
        The columns of :data:`COLUMNS`: sums over the kernels of an op that have both our count and a counter, per
        table; a ratio is the counter over ours; what is not known is NaN.
    """
    rows = [_facts(kernels.loc[row], launches[index]) for row, index in launch_of.items()]
    facts = pd.DataFrame(rows)
    summed = [_op_row(str(op), group) for op, group in facts.groupby("op", sort=False)]
    table = pd.DataFrame(summed, columns=list(COLUMNS))
    return table.sort_values("dur_us", ascending=False, ignore_index=True)


def _facts(kernel: pd.Series, launch: Launch) -> dict[str, Any]:
    moved = None
    if launch.bytes_read is not None and launch.bytes_written is not None:
        moved = launch.bytes_read + launch.bytes_written
    return {
        "op": str(kernel["op"]) or "(unlinked)",
        "unit": str(kernel["unit"]),
        "dur_us": float(kernel["dur_us"]),
        "our_bytes": float(kernel["bytes_read"] + kernel["bytes_written"]),
        "counter_bytes": _or_nan(moved),
        "l2_bytes": _or_nan(launch.l2_bytes),
        "l2_hit_share": _or_nan(launch.l2_hit_share),
        "our_flops": float(kernel["flops"]),
        "counter_flops": _or_nan(launch.total_flops),
    }


def _op_row(op: str, group: pd.DataFrame) -> dict[str, Any]:
    with_bytes = group.dropna(subset=["our_bytes", "counter_bytes"])
    with_flops = group.dropna(subset=["our_flops", "counter_flops"])
    row: dict[str, Any] = {
        "op": op,
        "kernels": len(group),
        "dur_us": float(group["dur_us"].sum()),
        "our_bytes": _sum(with_bytes["our_bytes"]),
        "counter_bytes": _sum(with_bytes["counter_bytes"]),
        "l2_hit_share": _weighted(group["l2_hit_share"], group["l2_bytes"].fillna(1.0)),
        "our_flops": _sum(with_flops["our_flops"]),
        "counter_flops": _sum(with_flops["counter_flops"]),
    }
    row["bytes_ratio"] = _ratio(row["counter_bytes"], row["our_bytes"])
    row["flops_ratio"] = _ratio(row["counter_flops"], row["our_flops"])
    row["reason"] = "; ".join([*_why_bytes(row), *_why_flops(row, matrix=bool((group["unit"] == "tensor").any()))])
    return row


def _why_bytes(row: Mapping[str, Any]) -> list[str]:
    ratio, hits = row["bytes_ratio"], row["l2_hit_share"]
    if not row["our_bytes"] >= 0:
        return ["bytes: no counter, or no count of ours"]
    if ratio < 1 - _TOLERANCE:
        known = f" ({hits:.0%} of sectors hit)" if hits >= _HITS else ""
        return [f"fewer bytes: found in L2{known}, or written there and not yet to DRAM"]
    if ratio > 1 + _TOLERANCE:
        return ["more bytes: read again after L2 lost them, whole sectors for parts, or a second pass"]
    return []


def _why_flops(row: Mapping[str, Any], *, matrix: bool) -> list[str]:
    ratio = row["flops_ratio"]
    if ratio > 1 + _TOLERANCE:
        padding = "tiles padded beyond the matrix" if matrix else "masked lanes and address arithmetic in floats"
        return [f"more FLOPs: {padding}, or functions such as exp made of many"]
    if ratio < 1 - _TOLERANCE:
        return ["fewer FLOPs: special-function units are not counted, or our formula counts work that was skipped"]
    return []


def _sum(values: pd.Series) -> float:
    return float(values.sum()) if len(values) else float("nan")


def _weighted(values: pd.Series, weights: pd.Series) -> float:
    known = values.notna()
    total = float(weights[known].sum())
    return float((values[known] * weights[known]).sum()) / total if total else float("nan")


def _ratio(counter: float, ours: float) -> float:
    return counter / ours if ours > 0 else float("nan")


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
