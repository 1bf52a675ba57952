"""Kernels summed into groups that fit a figure or a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..profiler.module_names import module_group
from .text import clean

if TYPE_CHECKING:
    from ..profiler.run import Run

#: Keys of a row of the kernel table: the same kernel on the same shapes, over all layers of the model.
TABLE_KEYS = (
    "op", "phase", "bound", "dtype", "unit", "shapes", "name", "module_group", "autograd", "provenance",
)  # fmt: skip

#: Most rows of the kernel table before the smallest are merged.
MAX_ROWS = 2_000
#: Stands for a key over which small groups were merged.
VARIOUS = "(various)"

_SUMMED = ("flops", "bytes_read", "bytes_written", "t_roof_us", "headroom_us")
_LONGEST_NAME = 4_000


def profiled_steps(run: Run) -> int:
    """Steps that the kernel table holds, at least 1."""
    return max(1, int(run.summary.get("profiled_steps") or 1))


def group_kernels(run: Run, keys: Sequence[str]) -> pd.DataFrame:
    """Sum kernels that agree on every key.

    Args:
        run: the run; its kernel table may hold several profiled steps.
        keys: columns of the kernel table, or ``module_group``.

    Returns:
        One row per group, most time first, indexed from 0. Besides the keys (as cleaned strings, ``""`` when unknown):
        ``kernels`` (per step), ``time_us``, ``share`` of all kernel time, ``flops``, ``bytes_read``, ``bytes_written``,
        ``bytes``, ``t_roof_us``, ``headroom_us`` (all per step), ``intensity`` (FLOP/byte), ``gflops`` and
        ``bandwidth_gbs`` (achieved), ``roof_fraction``. NaN where nothing in the group is known.
    """
    return _finished(_summed(_keyed(run, keys), keys))


def table_rows(run: Run, *, limit: int = MAX_ROWS) -> pd.DataFrame:
    """Rows of the kernel table: :func:`group_kernels` by :data:`TABLE_KEYS`, never many more than ``limit``.

    Beyond the ``limit`` largest groups, the rest are merged over their shapes and modules, and if that is not enough
    over their kernel names too; a merged value reads :data:`VARIOUS`. So every kernel is in exactly one row.
    """
    groups = _summed(_keyed(run, TABLE_KEYS), TABLE_KEYS)
    for blurred in (("shapes", "module_group"), ("name", "op")):
        if len(groups) <= limit:
            break
        largest = groups.nlargest(limit, "time_us").index
        tail = groups.drop(index=largest)
        for key in blurred:
            tail[key] = VARIOUS
        groups = pd.concat([groups.loc[largest], _summed(tail, TABLE_KEYS)], ignore_index=True)
        limit += limit // 2
    return _finished(groups)


def _keyed(run: Run, keys: Sequence[str]) -> pd.DataFrame:
    """The key columns and the numbers to sum of every kernel, each kernel as its share of one step."""
    kernels = run.kernels
    frame = pd.DataFrame({key: _key_column(kernels, key) for key in keys}, index=kernels.index)
    frame["kernels"] = 1.0
    frame["time_us"] = kernels["dur_us"].astype("float64")
    for column in _SUMMED:
        frame[column] = kernels[column].astype("float64") if column in kernels else np.nan
    # Only time whose roof is known may stand under a roof fraction.
    frame["roofed_us"] = frame["time_us"].where(frame["t_roof_us"].notna())
    numbers = [column for column in frame.columns if column not in keys]
    frame[numbers] = frame[numbers] / profiled_steps(run)
    return frame


def _summed(frame: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    groups = frame.groupby(list(keys), observed=True, sort=False).sum(min_count=1).reset_index()
    for key in keys:
        groups[key] = groups[key].astype(str).astype(object)
    return groups


def _finished(groups: pd.DataFrame) -> pd.DataFrame:
    """Add the columns that are ratios of sums, and sort by time."""
    total = groups["time_us"].sum()
    groups["share"] = groups["time_us"] / total if total else 0.0
    groups["bytes"] = groups[["bytes_read", "bytes_written"]].sum(axis=1, min_count=1)
    time_s = (groups["time_us"] * 1e-6).replace(0, np.nan)
    groups["intensity"] = groups["flops"] / groups["bytes"].replace(0, np.nan)
    groups["gflops"] = groups["flops"] / time_s / 1e9
    groups["bandwidth_gbs"] = groups["bytes"] / time_s / 1e9
    groups["roof_fraction"] = groups["t_roof_us"] / groups["roofed_us"].replace(0, np.nan)
    groups = groups.drop(columns="roofed_us")
    return groups.sort_values("time_us", ascending=False, kind="stable").reset_index(drop=True)


def _key_column(kernels: pd.DataFrame, key: str) -> pd.Categorical:
    """One key as a categorical of cleaned strings; distinct names that clean to the same text become one."""
    source = "module" if key == "module_group" else key
    column = kernels[source].astype("category").cat
    names = [clean(name)[:_LONGEST_NAME] for name in column.categories]
    if key == "module_group":
        names = [module_group(name) for name in names]
    labels = list(dict.fromkeys([*names, ""]))
    position = {label: index for index, label in enumerate(labels)}
    lookup = np.array([*(position[name] for name in names), position[""]], dtype=np.int64)
    return pd.Categorical.from_codes(lookup[column.codes.to_numpy()], categories=pd.Index(labels, dtype=object))
