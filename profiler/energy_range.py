"""Tokens per joule of a projected step: a range, since only the limits of what the board draws are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def projected_tokens_per_joule(metrics: Mapping[str, Any], projection: Mapping[str, Any]) -> dict[str, float] | None:
    """Between what tokens/s/W lies in the power mode that was chosen; ``None`` where its energy is not known.

    Args:
        metrics: of a projected run's summary.
        projection: likewise.

    Returns:
        ``low``, at the budget of the mode, and ``high``, at what the board is assumed to draw at rest; in tokens/J
        that are no padding.
    """
    energy = next((mode.get("energy_j") for mode in projection.get("power_modes", ()) if mode["chosen"]), None)
    if not energy:
        return None
    tokens = metrics["tokens_per_s"]["non_padding"] * metrics["step_time_ms"]["median"] * 1e-3
    return {"low": tokens / energy["high"], "high": tokens / energy["low"]}
