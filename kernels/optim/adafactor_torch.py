"""Adafactor with torch ops, in stretches of rows that fit in a CPU's cache.

Three passes read the gradient (factors, root mean square of the update, update), the last also reads and writes the
parameter; temporaries stay in the cache. transformers' own step makes about twenty passes over memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

#: Elements of a stretch: small enough for a CPU's caches, large enough that calls do not count.
STRETCH = 256 * 1024


@dataclass(frozen=True)
class AdafactorHyper:
    """Hyper-parameters of a group, as ``transformers.optimization.Adafactor`` names them."""

    lr: float | None
    eps: tuple[float, float]
    clip_threshold: float
    decay_rate: float
    beta1: float | None
    weight_decay: float
    scale_parameter: bool
    relative_step: bool
    warmup_init: bool

    @classmethod
    def of(cls, group: dict[str, Any]) -> AdafactorHyper:
        """Take them from a parameter group."""
        values = {name: group[name] for name in cls.__dataclass_fields__}
        if values["lr"] is not None:
            values["lr"] = float(values["lr"])
        return cls(**values)

    def rate(self, step: float, rms: float) -> float:
        """Learning rate of one tensor, before clipping."""
        rate = self.lr if self.lr is not None else 0.0
        if self.relative_step:
            rate = min(1e-6 * step if self.warmup_init else 1e-2, step**-0.5)
        return rate * (max(self.eps[1], rms) if self.scale_parameter else 1.0)


def adafactor_step(
    param: Tensor, grad: Tensor, state: dict[str, Any], hyper: AdafactorHyper, factor: float = 1.0
) -> None:
    """One step of one tensor.

    Args:
        param: updated in place; any layout.
        grad: its gradient.
        state: ``step`` and ``RMS`` (0-dim tensors) and the moments, updated in place.
        hyper: the group's hyper-parameters.
        factor: unscales and clips the gradient, which itself stays as it is.
    """
    if not param.numel():
        state["step"] += 1
        return
    state["step"] += 1
    step = float(state["step"])
    work = param if param.is_contiguous() else param.contiguous()
    grad = grad.contiguous()
    if hyper.scale_parameter:
        state["RMS"].fill_(float(work.norm(2, dtype=_wide(work))) / work.numel() ** 0.5)
    rate = hyper.rate(step, float(state["RMS"]))
    take = step**hyper.decay_rate
    update: _FactoredUpdate | _FullUpdate
    if param.dim() >= 2:
        update = _FactoredUpdate(work, grad, state, take, hyper, factor)
    else:
        update = _FullUpdate(work, grad, state, take, hyper, factor)
    total = sum(float(torch.dot(piece, piece)) for _, piece in update.pieces())
    scale = rate / max(1.0, (total / param.numel()) ** 0.5 / hyper.clip_threshold)
    average = state.get("exp_avg")
    flat, flat_average = work.view(-1), None if average is None else average.view(-1)
    for where, piece in update.pieces():
        _apply(flat[where], piece.mul_(scale), flat_average, where, hyper, rate)
    if work is not param:
        param.copy_(work)


def _apply(
    target: Tensor, update: Tensor, average: Tensor | None, where: slice, hyper: AdafactorHyper, rate: float
) -> None:
    values = target.to(update.dtype)
    if average is not None:
        assert hyper.beta1 is not None
        update = average[where].mul_(hyper.beta1).add_(update, alpha=1 - hyper.beta1)
    if hyper.weight_decay:
        values.mul_(1 - hyper.weight_decay * rate)
    values.sub_(update)
    if values is not target:
        target.copy_(values)


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def _scaled(gradient: Tensor, factor: float) -> Tensor:
    return gradient if factor == 1.0 else gradient * factor


class _FullUpdate:
    """Update of a tensor whose second moment is kept in full."""

    def __init__(
        self, param: Tensor, grad: Tensor, state: dict[str, Any], take: float, hyper: AdafactorHyper, factor: float
    ) -> None:
        self._grad = _scaled(grad.view(-1).to(_wide(param)), factor)
        self._square = state["exp_avg_sq"].view(-1)
        self._square.mul_(1 - take).add_(self._grad.square().add_(hyper.eps[0]), alpha=take)

    def pieces(self) -> Iterator[tuple[slice, Tensor]]:
        """Stretches and their raw update, in fresh memory."""
        for start in range(0, self._grad.numel(), STRETCH):
            where = slice(start, start + STRETCH)
            yield where, self._square[where].rsqrt().mul_(self._grad[where])


class _FactoredUpdate:
    """Update of a stack of matrices whose second moments are factored."""

    def __init__(
        self, param: Tensor, grad: Tensor, state: dict[str, Any], take: float, hyper: AdafactorHyper, factor: float
    ) -> None:
        rows, cols = param.shape[-2:]
        self._wide, self._factor = _wide(param), factor
        self._grad = grad.view(-1, rows, cols)
        self._step = max(1, STRETCH // cols)
        row, col = state["exp_avg_sq_row"].view(-1, rows), state["exp_avg_sq_col"].view(-1, cols)
        row_means, col_sums = torch.empty_like(row), torch.zeros_like(col)
        ones = torch.ones(max(cols, self._step), dtype=self._wide, device=param.device)
        for matrix, first, block in self._blocks():
            wide = _scaled(block.to(self._wide), self._factor)
            square = wide * wide
            torch.mv(square, ones[:cols], out=row_means[matrix, first : first + len(block)])  # sums, still
            col_sums[matrix].addmv_(square.t(), ones[: len(block)])
        row_means.div_(cols)
        eps = hyper.eps[0]
        row.mul_(1 - take).add_(row_means.add_(eps), alpha=take)
        col.mul_(1 - take).add_(col_sums.div_(rows).add_(eps), alpha=take)
        self._row_factor = (row / row.mean(dim=-1, keepdim=True)).rsqrt_()
        self._col_factor = col.rsqrt()

    def _blocks(self) -> Iterator[tuple[int, int, Tensor]]:
        matrices, rows, _ = self._grad.shape
        for matrix in range(matrices):
            for first in range(0, rows, self._step):
                yield matrix, first, self._grad[matrix, first : first + self._step]

    def pieces(self) -> Iterator[tuple[slice, Tensor]]:
        """Stretches of the flat tensor and their raw update, in fresh memory."""
        _, rows, cols = self._grad.shape
        for matrix, first, block in self._blocks():
            factor = self._row_factor[matrix, first : first + len(block), None]
            start = (matrix * rows + first) * cols
            update = _scaled(block.to(self._wide), self._factor) * factor
            yield slice(start, start + block.numel()), update.mul_(self._col_factor[matrix]).view(-1)
