"""What the optimizer tests share: backends, parameters that cross every branch, and the float64 truth over steps."""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from edgeroof.kernels.optim import FusedAdamW
from edgeroof.kernels.reference import AdamWState, adamw_reference
from edgeroof.kernels.support import triton_unavailable

DEVICE = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")

_REASON = triton_unavailable(DEVICE)
TRITON = pytest.param("triton", marks=pytest.mark.skipif(_REASON is not None, reason=f"no Triton here: {_REASON}"))
both_backends = pytest.mark.parametrize("backend", ["torch", TRITON])
needs_triton = pytest.mark.skipif(_REASON is not None, reason=f"no Triton here: {_REASON}")

SMALL = [(3, 5), (17,), (1,), (300,)]


def make_params(
    shapes: Iterable[Sequence[int]], dtype: torch.dtype = torch.float32, seed: int = 0
) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(tuple(shape), generator=generator).to(DEVICE, dtype)) for shape in shapes]


def set_grads(params: Iterable[Tensor], seed: int, scale: float = 1.0) -> None:
    generator = torch.Generator().manual_seed(1000 + seed)
    for param in params:
        param.grad = (scale * torch.randn(param.shape, generator=generator)).to(param.device, param.dtype)


def train(optimizer: torch.optim.Optimizer, params: Sequence[Tensor], steps: int, first: int = 0) -> None:
    for step in range(first, first + steps):
        set_grads(params, step)
        optimizer.step()


def truth(
    params: Sequence[Tensor], steps: int, factor: Callable[[int], float] = lambda step: 1.0, **hyper: Any
) -> list:
    """Float64 parameters after ``steps`` of :func:`train` from the given ones."""
    copies = [param.detach().clone() for param in params]
    values = [copy.double() for copy in copies]
    states = [AdamWState.zeros_like(copy) for copy in copies]
    for step in range(steps):
        set_grads(copies, step)
        values = [
            adamw_reference(value, copy.grad, state, grad_factor=factor(step), **hyper)
            for value, copy, state in zip(values, copies, states)
        ]
    return values


def worst(params: Iterable[Tensor], values: Iterable[Tensor]) -> float:
    errors = [(param.detach().double() - value).abs().max() for param, value in zip(params, values) if param.numel()]
    return float(torch.stack(errors).max().detach())


def ulp(params: Iterable[Tensor]) -> float:
    """Distance of neighbouring numbers at the largest parameter."""
    return max(float(torch.finfo(param.dtype).eps * param.detach().abs().max()) for param in params if param.numel())


def fused(params: Iterable[Any], backend: str, **options: Any) -> FusedAdamW:
    return FusedAdamW(params, backend=backend, **options)


def snapshot(optimizer: torch.optim.Optimizer, params: Sequence[Tensor]) -> list[Tensor]:
    """Copies of parameters and of all tensors in their state."""
    kept = [param.detach().clone() for param in params]
    for param in params:
        kept += [value.clone() for value in optimizer.state[param].values() if isinstance(value, Tensor)]
    return kept


def subprocess_environment() -> dict[str, str]:
    """Environment of a process that compiles kernels instead of interpreting them."""
    return {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
