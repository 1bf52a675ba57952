"""Fused optimizers: drop-in replacements that pass over memory once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adafactor import FusedAdafactor
    from .adamw import FusedAdamW

__all__ = ["FusedAdafactor", "FusedAdamW"]


def __getattr__(name: str) -> Any:
    """Import an optimizer, and with it torch, when it is asked for."""
    if name == "FusedAdamW":
        from .adamw import FusedAdamW

        return FusedAdamW
    if name == "FusedAdafactor":
        from .adafactor import FusedAdafactor

        return FusedAdafactor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
