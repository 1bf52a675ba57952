"""``opt.step()`` taken apart: its kernels, its passes over memory, and its traffic against the least it could be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ..ops import ITEMSIZE
from .headroom import dominant_bounds

#: Tensors of parameter size that the leanest step reads and writes, each in the type of the parameters.
#: AdamW reads p, g, m, v and writes p, m, v; SGD with momentum reads p, g, m and writes p, m; SGD reads p, g, writes p.
FLOOR_TENSORS: dict[str, int] = {"AdamW": 7, "SGD with momentum": 5, "SGD": 3}


def drill_down(
    kernels: pd.DataFrame,
    bandwidth: float,
    *,
    steps: int = 1,
    parameters: int | None = None,
    floor_name: str = "AdamW",
    dtype: str = "fp32",
    elements_of_op: Mapping[int, int] | None = None,
) -> dict[str, Any]:
    """The ``optimizer`` entry of ``run.json``.

    Args:
        kernels: a classified kernel table.
        bandwidth: of the roof in use, bytes/s.
        steps: number of steps in the table.
        parameters: trainable parameters; per-parameter figures are ``None`` without it.
        floor_name: a key of :data:`FLOOR_TENSORS`.
        dtype: of parameters, gradients and states.
        elements_of_op: for each row of the ops table, how many elements the op goes over.
    """
    rows = kernels[kernels["phase"] == "optimizer"]
    if rows.empty:
        return {"found": False, "reason": "no kernel of an optimizer step was found"}
    total = float(kernels["dur_us"].sum())
    moved = _known_sum(rows["bytes_read"] + rows["bytes_written"], steps)
    floor_bytes = float(ITEMSIZE[dtype] * FLOOR_TENSORS[floor_name])
    return {
        "found": True,
        "ops": _by_op(rows, steps, parameters),
        "dur_us": float(rows["dur_us"].sum()) / steps,
        "share": float(rows["dur_us"].sum()) / total if total else 0.0,
        "kernels": round(len(rows) / steps),
        "parameters": parameters,
        "bytes_per_parameter": moved / parameters if parameters and moved is not None else None,
        "floor_bytes_per_parameter": floor_bytes,
        "floor_name": f"{dtype} {floor_name}",
        "passes": _passes(rows, steps, parameters, elements_of_op),
        "time_at_roof_us": _known_sum(rows["t_roof_us"], steps),
        "time_at_floor_us": floor_bytes * parameters / bandwidth * 1e6 if parameters else None,
    }


def _by_op(rows: pd.DataFrame, steps: int, parameters: int | None) -> list[dict[str, Any]]:
    op = rows["op"].astype(str).where(rows["op"].astype(str) != "", rows["name"].astype(str))
    dominant = dominant_bounds(rows, [op])
    entries = []
    for name, group in rows.groupby(op):
        moved = _known_sum(group["bytes_read"] + group["bytes_written"], steps)
        at_roof_us, dur_us = _known_sum(group["t_roof_us"], steps), float(group["dur_us"].sum()) / steps
        entries.append(
            {
                "op": str(name),
                "kernels": round(len(group) / steps),
                "dur_us": dur_us,
                "bytes_read": _known_sum(group["bytes_read"], steps),
                "bytes_written": _known_sum(group["bytes_written"], steps),
                "bytes_per_parameter": moved / parameters if parameters and moved is not None else None,
                "roof_fraction": at_roof_us / dur_us if dur_us and at_roof_us is not None else None,
                "bound": dominant[name],
            }
        )
    return sorted(entries, key=lambda entry: -float(entry["dur_us"]))


def _known_sum(values: pd.Series, steps: int) -> float | None:
    """Sum per step of what is known; ``None`` when nothing is."""
    return float(values.sum()) / steps if values.notna().any() else None


def _passes(
    rows: pd.DataFrame, steps: int, parameters: int | None, elements_of_op: Mapping[int, int] | None
) -> float | None:
    """How often the step goes over all parameters: elements visited by its ops, divided by the parameters."""
    if not parameters or elements_of_op is None:
        return None
    priced = rows[(rows["op_index"] >= 0) & (rows["bytes_read"] + rows["bytes_written"] > 0)]
    priced = priced.drop_duplicates(["step", "op_index"])  # one op may launch many kernels
    visited = sum(elements_of_op.get(int(index), 0) for index in priced["op_index"])
    return visited / parameters / steps
