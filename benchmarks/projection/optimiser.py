"""Robust least squares in a few parameters: Levenberg-Marquardt with numeric derivatives, deterministic."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

#: Residuals beyond this (in the residual's own unit) count linearly, not squared.
_LINEAR_FROM = 1.0

_STEP = 1e-3
_LONGEST_STEP = 0.5


def minimise(residuals: Callable[[np.ndarray], np.ndarray], start: np.ndarray, iterations: int = 40) -> np.ndarray:
    """Parameters near ``start`` that minimise the pseudo-Huber loss of ``residuals``."""
    x = start.copy()
    r = residuals(x)
    loss, damping = _loss(r), 1e-2
    for _ in range(iterations):
        weights = 1.0 / np.sqrt(1.0 + (r / _LINEAR_FROM) ** 2)
        jacobian = np.stack([(residuals(x + step) - r) / _STEP for step in np.eye(len(x)) * _STEP], axis=1)
        curvature = jacobian.T @ (weights[:, None] * jacobian)
        gradient = jacobian.T @ (weights * r)
        before = loss
        for _ in range(8):
            damped = curvature + damping * np.diag(np.diag(curvature) + 1e-9)
            move = np.clip(-np.linalg.solve(damped, gradient), -_LONGEST_STEP, _LONGEST_STEP)
            moved = residuals(x + move)
            if _loss(moved) < loss:
                x, r, loss = x + move, moved, _loss(moved)
                damping = max(damping / 3, 1e-7)
                break
            damping *= 4
        if before - loss < 1e-4 * before:
            break
    return x


def _loss(r: np.ndarray) -> float:
    return float(np.sum(np.sqrt(1.0 + (r / _LINEAR_FROM) ** 2) - 1.0))
