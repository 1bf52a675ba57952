"""Two breakdowns matched part by part: new, gone, faster, slower, and each part's share of the difference."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from .breakdown import NO_KERNEL, rounded

#: A part whose time changes by less than this is called the same; the word describes, it is no verdict.
SAME_WITHIN = 0.02
#: Differences in ms that are the rounding of sums, where what is left of a phase beside its kernels is nothing.
ROUNDING_MS = 1e-9
#: A difference below this share of the step explains nothing: its shares would be noise over noise.
NOTHING = 1e-6


def match(first: pd.DataFrame, other: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Match the parts of two steps.

    Args:
        first: from :func:`~.breakdown.breakdown`.
        other: likewise.
        keys: columns that a part is known by.

    Returns:
        One row per part of either, largest change first: the keys, ``a_ms``, ``b_ms``, ``a_kernels``, ``b_kernels``,
        ``delta_ms`` (other less first), ``share`` of the whole difference (shares add up to 1; NaN where there is no
        difference), and ``change``: new, gone, faster, slower or same.
    """
    sums = [
        parts.groupby(list(keys), sort=False)[["ms", "kernels"]].sum().add_prefix(prefix)
        for parts, prefix in ((first, "a_"), (other, "b_"))
    ]
    joined = sums[0].join(sums[1], how="outer", sort=False)
    joined["change"] = [_change(a, b) for a, b in zip(joined["a_ms"], joined["b_ms"])]
    joined = joined.fillna(dict.fromkeys(("a_ms", "b_ms", "a_kernels", "b_kernels"), 0.0))
    # Parts may be below zero: what rounding leaves is measured by their sizes, not by a sum that may be nothing.
    whole = max(joined["a_ms"].abs().sum(), joined["b_ms"].abs().sum())
    joined["delta_ms"] = [rounded(b - a, whole) for a, b in zip(joined["a_ms"], joined["b_ms"])]
    total = joined["b_ms"].sum() - joined["a_ms"].sum()
    explains = abs(total) > NOTHING * whole
    joined["share"] = joined["delta_ms"] / total if explains else float("nan")
    order = joined["delta_ms"].abs().sort_values(ascending=False, kind="stable").index
    return joined.loc[order].reset_index()


def with_bounds(matched: pd.DataFrame, held: Sequence[pd.DataFrame], keys: Sequence[str]) -> pd.DataFrame:
    """Add ``a_bound`` and ``b_bound``: what holds most of a part's time on each side, ``None`` without kernels.

    Args:
        matched: from :func:`match`, with the same keys.
        held: of the first side and of the other, from :func:`~.breakdown.held_parts`.
        keys: columns that a part is known by.
    """
    found = matched.copy()
    parts = [tuple(row) for row in matched[list(keys)].itertuples(index=False)]
    for name, own in zip(("a_bound", "b_bound"), held):
        times = own.groupby([*keys, "bound"], sort=False)["ms"].sum().reset_index()
        most = times.loc[times.groupby(list(keys), sort=False)["ms"].idxmax()]
        bounds = {tuple(row[:-1]): row[-1] for row in most[[*keys, "bound"]].itertuples(index=False)}
        found[name] = pd.Series([bounds.get(part) for part in parts], index=found.index, dtype=object)
    return found


def matched_share(matched: pd.DataFrame) -> float:
    """Share of both steps' kernel time in kernels that both have; time without a kernel is no match."""
    kernels = matched[matched["op"] != NO_KERNEL]
    time = kernels["a_ms"].abs() + kernels["b_ms"].abs()
    both = ~kernels["change"].isin(["new", "gone"])
    return float(time[both].sum() / time.sum()) if time.sum() else 1.0


def _change(first: float, other: float) -> str:
    if pd.isna(first):
        return "new"
    if pd.isna(other):
        return "gone"
    if abs(other - first) <= max(SAME_WITHIN * max(abs(first), abs(other)), ROUNDING_MS):
        return "same"
    return "faster" if other < first else "slower"
