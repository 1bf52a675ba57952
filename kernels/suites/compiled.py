"""Optimizers as ``torch.compile`` makes them: the strongest rivals that need no kernel of ours."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Sequence
from typing import Any

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


def why_not(device: str) -> str | None:
    """Why inductor cannot generate code for a kind of device; ``None`` if it can."""
    if device == "cpu":
        return (
            None if any(map(shutil.which, ("g++", "clang++"))) else "inductor needs a C++ compiler; none is installed"
        )
    try:
        import triton  # noqa: F401
    except ImportError:
        return "inductor needs Triton on a GPU; it is not installed"
    return None


class CompiledAdamW:
    """AdamW whose update of one tensor is compiled once, for any size, and called tensor by tensor.

    On a CPU compiling the whole step generates C++ for every tensor anew: 57 s for 18 tensors, with FLAN-T5-small's 190
    still to come. Hyper-parameters and bias corrections are zero-dimensional tensors, so that nothing is recompiled.

    Args:
        parameters: contiguous parameters with gradients.
        lr: learning rate.
        weight_decay: decoupled weight decay.
    """

    def __init__(self, parameters: Sequence[Any], lr: float, weight_decay: float) -> None:
        import torch

        self._lr, self._weight_decay, self._steps = lr, weight_decay, 0
        self._parameters = [parameter for parameter in parameters if parameter.numel()]
        self._states = [(torch.zeros_like(p), torch.zeros_like(p)) for p in self._parameters]
        self._scalars = [torch.empty((), dtype=torch.float32, device=p.device) for p in self._parameters[:1] * 3]

    def step(self) -> None:
        """Update every parameter."""
        import torch

        self._steps += 1
        correction1, correction2 = 1 - BETA1**self._steps, 1 - BETA2**self._steps
        values = (1 - self._lr * self._weight_decay, self._lr / correction1, correction2**0.5)
        for scalar, value in zip(self._scalars, values):
            scalar.fill_(value)
        update = _compiled_update()
        with torch.no_grad():
            for parameter, (average, square) in zip(self._parameters, self._states):
                tensors = (parameter.detach(), parameter.grad, average, square)
                update(*(tensor.view(-1) for tensor in tensors), *self._scalars)


def compiled_step(optimizer: Any) -> Any:
    """A torch optimizer whose whole ``step`` is compiled, as PyTorch's documentation recommends on GPUs."""
    import torch

    return _Compiled(torch.compile(optimizer.step))


class _Compiled:
    def __init__(self, step: Callable[[], object]) -> None:
        self.step = step


@functools.cache
def _compiled_update() -> Callable[..., None]:
    import torch

    return torch.compile(_update, dynamic=True, fullgraph=True)


def _update(p: Any, g: Any, m: Any, v: Any, decay: Any, rate: Any, correction: Any) -> None:
    m.lerp_(g, 1 - BETA1)
    v.mul_(BETA2).addcmul_(g, g, value=1 - BETA2)
    denominator = v.sqrt() / correction + EPSILON
    p.mul_(decay).sub_(rate * m / denominator)


class CompiledAdafactor:
    """Adafactor (fixed rate, no momentum) whose update of one tensor is compiled once and called tensor by tensor.

    Args:
        parameters: contiguous parameters with gradients.
        lr: learning rate.
        weight_decay: decoupled weight decay.
    """

    def __init__(self, parameters: Sequence[Any], lr: float, weight_decay: float) -> None:
        import torch

        self._steps = 0
        self._parameters = [parameter for parameter in parameters if parameter.numel()]
        self._states = [_second_moments(parameter) for parameter in self._parameters]
        device = self._parameters[0].device
        self._rate, self._decay = (torch.tensor(value, device=device) for value in (lr, 1 - lr * weight_decay))
        self._keep = torch.zeros((), device=device)

    def step(self) -> None:
        """Update every parameter."""
        import torch

        self._steps += 1
        self._keep.fill_(1 - self._steps**-0.8)
        scalars = (self._keep, self._rate, self._decay)
        matrix, vector = _compiled_adafactor()
        with torch.no_grad():
            for parameter, state in zip(self._parameters, self._states):
                p, g = parameter.detach(), parameter.grad
                if parameter.dim() >= 2:
                    matrix(p.view(-1, *p.shape[-2:]), g.view(-1, *p.shape[-2:]), *state, *scalars)
                else:
                    vector(p, g, *state, *scalars)


def _second_moments(parameter: Any) -> tuple[Any, ...]:
    """Sums over rows and columns of a matrix, one value per element of a vector; in fp32."""
    import torch

    if parameter.dim() < 2:
        return (torch.zeros_like(parameter, dtype=torch.float32),)
    rows, columns = parameter.shape[-2:]
    batch = parameter.numel() // (rows * columns)
    return tuple(torch.zeros(batch, size, device=parameter.device) for size in (rows, columns))


@functools.cache
def _compiled_adafactor() -> tuple[Callable[..., None], Callable[..., None]]:
    import torch

    return (
        torch.compile(_update_matrix, dynamic=True, fullgraph=True),
        torch.compile(_update_vector, dynamic=True, fullgraph=True),
    )


def _update_matrix(p: Any, g: Any, row: Any, column: Any, keep: Any, rate: Any, decay: Any) -> None:
    g = g.float()
    squares = g * g + 1e-30
    row.mul_(keep).add_(squares.mean(-1) * (1 - keep))
    column.mul_(keep).add_(squares.mean(-2) * (1 - keep))
    rows = (row / row.mean(-1, keepdim=True)).rsqrt().unsqueeze(-1)
    _apply(p, rows * column.rsqrt().unsqueeze(-2) * g, rate, decay)


def _update_vector(p: Any, g: Any, square: Any, keep: Any, rate: Any, decay: Any) -> None:
    g = g.float()
    square.mul_(keep).add_((g * g + 1e-30) * (1 - keep))
    _apply(p, square.rsqrt() * g, rate, decay)


def _apply(p: Any, update: Any, rate: Any, decay: Any) -> None:
    size = (update * update).mean().sqrt()
    p.copy_(p.float() * decay - rate * update / size.clamp(min=1.0))
