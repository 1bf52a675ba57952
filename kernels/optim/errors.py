"""Errors of the optimizers; each is also the built-in error that ``torch.optim`` would raise in its place."""

from __future__ import annotations

from ...errors import EdgeroofError, UsageError


class OptimizerError(EdgeroofError, RuntimeError):
    """A step cannot be made: a sparse gradient, a parameter on the wrong device, a change under graph capture."""


class OptimizerUsageError(UsageError, ValueError):
    """A hyper-parameter or an option makes no sense."""
