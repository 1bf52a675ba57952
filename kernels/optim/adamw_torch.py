"""AdamW on torch's own fused op: the CPU path, and the fallback for types and devices that Triton does not serve.

Plain fp32 (or fp64) states take one call of ``aten::_fused_adamw_`` over all tensors. Everything else (clipping that
must leave the gradients alone, reduced states, bf16 parameters) runs the same op over stretches that fit in a CPU's
cache: decode, step, encode; where gradients are clipped, small tensors share a stretch. That costs arithmetic, not
another pass over memory. Tensors that are not dense are copied, since the op takes
them for flat memory without a check.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .codes import mixed_seed, round_to_bf16
from .layout import flat_view, is_dense, same_order
from .moments import Moments

#: Elements of a stretch: small enough for a CPU's caches, large enough that calls do not count; a multiple of BLOCK.
STRETCH = 256 * 1024
#: The same where only gradients are scaled, in 16 MB: threads that meet less often lose less time to other programs.
SCALED_STRETCH = 4 * 1024 * 1024


@dataclass(frozen=True)
class Hyper:
    """Hyper-parameters of a group. ``lr`` may be a tensor; ``factor`` unscales and clips the gradients."""

    lr: float | Tensor
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    maximize: bool
    factor: float = 1.0


@dataclass(frozen=True)
class Item:
    """One tensor to step, with its state."""

    param: Tensor
    grad: Tensor
    moments: Moments
    step: Tensor
    seed: int
    shadow: Tensor | None

    def is_plain(self) -> bool:
        """Whether the fused op can work on the tensors as they stand."""
        return (
            self.moments.first.dtype == self.param.dtype == self.grad.dtype
            and is_dense(self.param)
            and is_dense(self.grad)
            and same_order(self.param, self.grad)
        )


class PlainBatch:
    """Tensors that were all plain and contiguous at the last step: the next one skips looking at them one by one."""

    def __init__(self, items: Sequence[Item], states: Sequence[dict[str, Any]]) -> None:
        self._params = [item.param for item in items]
        self._dtype = self._params[0].dtype
        self._first = [state["exp_avg"] for state in states]
        self._second = [state["exp_avg_sq"] for state in states]
        self._steps = [item.step for item in items]

    @staticmethod
    def fits(items: Sequence[Item]) -> bool:
        """Whether tensors may be stepped like this."""
        return all(item.is_plain() and item.param.is_contiguous() and item.shadow is None for item in items)

    def gradients(self) -> list[Tensor] | None:
        """This step's gradients, or None when anything has changed since, so that the tensors must be looked at."""
        dtype = self._dtype
        grads = []
        for param in self._params:
            grad = param.grad
            if grad is None or param.dtype != dtype or not (param.is_contiguous() and grad.is_contiguous()):
                return None
            if grad.dtype != dtype:
                return None
            grads.append(grad)
        return grads

    def step(self, grads: list[Tensor], hyper: Hyper) -> None:
        """Step with what :meth:`gradients` gave."""
        torch._foreach_add_(self._steps, 1)
        _fused_scaled(self._params, grads, self._first, self._second, self._steps, hyper)


def adamw_step(items: Sequence[Item], hyper: Hyper, *, stochastic: bool) -> None:
    """Step tensors of one group, device and dtype.

    Args:
        items: the tensors.
        hyper: their hyper-parameters.
        stochastic: whether bf16 parameters are rounded stochastically.
    """
    steps = [item.step for item in items]
    torch._foreach_add_(steps, 1)
    plain = [item for item in items if item.is_plain()]
    _fused_scaled(
        [flat_view(item.param) for item in plain],
        [flat_view(item.grad) for item in plain],
        [item.moments.first for item in plain],
        [item.moments.second for item in plain],
        [item.step for item in plain],
        hyper,
    )
    for item in items if not plain else [item for item in items if not item.is_plain()]:
        _step_in_stretches(item, hyper, stochastic)
    for item in items:
        if item.shadow is not None:
            item.shadow.copy_(item.param)


def _fused_scaled(
    params: list[Tensor],
    grads: list[Tensor],
    first: list[Tensor],
    second: list[Tensor],
    steps: list[Tensor],
    hyper: Hyper,
) -> None:
    """The fused op on gradients times ``hyper.factor``, which themselves stay as they are."""
    if hyper.factor == 1.0:
        if params:
            _fused(params, grads, first, second, steps, hyper)
        return
    for some in _batches([param.numel() for param in params]):
        if params[some.start].numel() <= SCALED_STRETCH:
            scaled = list(torch._foreach_mul(grads[some], hyper.factor))
            _fused(params[some], scaled, first[some], second[some], steps[some], hyper)
            continue
        flat = [flat_view(tensors[some.start]) for tensors in (params, grads, first, second)]
        for start in range(0, flat[0].numel(), SCALED_STRETCH):
            param, grad, mean, square = (tensor[start : start + SCALED_STRETCH] for tensor in flat)
            _fused([param], [grad * hyper.factor], [mean], [square], steps[some], hyper)


def _batches(sizes: Sequence[int]) -> Iterator[slice]:
    """Neighbours that together have no more than a stretch; a larger one stands alone."""
    begin = count = 0
    for index, size in enumerate(sizes):
        if index > begin and count + size > SCALED_STRETCH:
            yield slice(begin, index)
            begin, count = index, 0
        count += size
    if sizes:
        yield slice(begin, len(sizes))


def _fused(
    params: list[Tensor],
    grads: list[Tensor],
    first: list[Tensor],
    second: list[Tensor],
    steps: list[Tensor],
    hyper: Hyper,
) -> None:
    torch._fused_adamw_(
        params, grads, first, second, [], steps, amsgrad=False, lr=hyper.lr,  # type: ignore[arg-type]
        beta1=hyper.betas[0], beta2=hyper.betas[1], weight_decay=hyper.weight_decay, eps=hyper.eps,
        maximize=hyper.maximize,
    )  # fmt: skip


def _step_in_stretches(item: Item, hyper: Hyper, stochastic: bool) -> None:
    work = item.param if is_dense(item.param) else item.param.contiguous()
    grad = item.grad
    if not (is_dense(grad) and same_order(grad, work)):
        grad = torch.empty_strided(work.shape, work.stride(), dtype=grad.dtype, device=grad.device).copy_(grad)
    flat_param, flat_grad = flat_view(work), flat_view(grad)
    wide = torch.float64 if work.dtype == torch.float64 else torch.float32
    generator = _generator(item) if stochastic or item.moments.first.dtype != wide else None
    for start in range(0, flat_param.numel(), STRETCH):
        target = flat_param[start : start + STRETCH]
        part = item.moments.part(start, target.numel())
        first, second = part.values()
        values = target.to(wide)
        gradient = flat_grad[start : start + STRETCH].to(wide)
        if hyper.factor != 1.0:
            gradient = gradient * hyper.factor
        _fused([values], [gradient], [first], [second], [item.step], hyper)
        if first is not part.first:
            part.write(first, second, generator)
        if target.dtype != wide:
            rounds = stochastic and generator is not None and target.dtype == torch.bfloat16
            target.copy_(round_to_bf16(values, generator) if rounds and generator is not None else values)
    if work is not item.param:
        item.param.copy_(work)


def _generator(item: Item) -> torch.Generator:
    """Random numbers that depend on the tensor and its step alone, so that a resumed run repeats itself."""
    generator = torch.Generator(device=item.param.device)
    return generator.manual_seed(mixed_seed(item.seed, int(item.step)))
