"""Costs of edgeroof's own operators, for the profiler's table: one call registers all of them."""

from __future__ import annotations

import importlib

#: Modules of this package that have a ``register_costs()``.
MODULES = (
    "optim.costs",
    "softmax",
    "attention",
    "rms_norm",
    "gated_gelu",
    "cross_entropy",
    "linear_cross_entropy",
)


def register_costs() -> None:
    """Teach the profiler to price every operator of this package; doing so again changes nothing."""
    for name in MODULES:
        importlib.import_module(f".{name}", __package__).register_costs()
