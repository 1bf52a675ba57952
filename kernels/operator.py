"""What the fused operators share: their library, which path runs them, and the seeds of their dropout.

An operator is functional: it allocates what it returns and changes nothing. Its gradient is an operator of its own, so
that dispatch modes, the profiler, the table of costs and ``torch.compile`` see both.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from .support import triton_unavailable

NAMESPACE = "edgeroof"


def define(schema: str, run: Callable[..., Any], fake: Callable[..., Any]) -> Callable[..., Any]:
    """Define an operator.

    Args:
        schema: name, arguments and results, such as ``"softmax(Tensor scores, float dropout) -> Tensor"``. A name with
            a namespace, ``"mylib::softmax(…"``, stays outside of edgeroof's own.
        run: computes it on every kind of device, below autograd, with autocast off: types are what the arguments are.
        fake: makes results of the right shape, strides and dtype from fake tensors.

    Returns:
        The operator, to be called. Give it a gradient with :func:`differentiate`.
    """
    namespace, name = _split(schema.partition("(")[0])
    library = _library(namespace)
    library.define(schema.removeprefix(f"{namespace}::"), tags=(torch.Tag.pt2_compliant_tag,))
    library.impl(name, _without_autocast(run), "CompositeExplicitAutograd")
    torch.library.register_fake(f"{namespace}::{name}", fake, lib=library)
    return getattr(getattr(torch.ops, namespace), name)


def _without_autocast(run: Callable[..., Any]) -> Callable[..., Any]:
    """``run`` with autocast off for the device of its first tensor; entering ``torch.autocast`` would take 3 µs."""

    @wraps(run)
    def alone(*arguments: Any, **options: Any) -> Any:
        kind = next((one.device.type for one in arguments if isinstance(one, Tensor)), "cpu")
        if not (torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)):
            return run(*arguments, **options)
        torch.set_autocast_enabled(kind, False)
        try:
            return run(*arguments, **options)
        finally:
            torch.set_autocast_enabled(kind, True)

    return alone


def differentiate(name: str, backward: Callable[..., Any], setup_context: Callable[..., None]) -> None:
    """Give the operator ``name`` a gradient; see :func:`torch.library.register_autograd`."""
    namespace, name = _split(name)
    library = _library(namespace)
    torch.library.register_autograd(f"{namespace}::{name}", backward, setup_context=setup_context, lib=library)


def _split(name: str) -> tuple[str, str]:
    """Namespace and name of an operator."""
    namespace, found, rest = name.partition("::")
    return (namespace, rest) if found else (NAMESPACE, name)


@cache
def _library(namespace: str) -> torch.library.Library:
    """The library that holds a namespace's operators for as long as the process lives."""
    return torch.library.Library(namespace, "FRAGMENT")


def refuse_second_derivative(name: str, instead: str) -> None:
    """Refuse to run inside a backward pass with ``create_graph=True``.

    Args:
        name: of the operator.
        instead: what has a second derivative.

    Raises:
        UsageError: this is such a pass.
    """
    if torch.is_grad_enabled():
        raise UsageError(f"the fused {name} has no second derivative; use {instead} with create_graph=True")


def use_triton(tensor: Tensor) -> bool:
    """Whether the Triton kernel runs for a tensor: on CUDA, or on a CPU under Triton's interpreter."""
    return triton_unavailable(tensor.device) is None


def new_seed(device: torch.device) -> Tensor:
    """A seed for dropout, int64 of shape [1].

    It stays on the device and comes from torch's own generator there, so that checkpointing, which restores the
    generator, and CUDA graphs, which advance it, replay and renew it as they do for torch's dropout.
    """
    return torch.randint(0, 2**62, (1,), dtype=torch.int64, device=device)


def keep_mask(seed: Tensor, shape: tuple[int, ...], dropout: float) -> Tensor:
    """What dropout keeps, boolean, drawn from a seed in torch's path; the same seed gives the same mask.

    Reading the seed waits for its device, which costs nothing on a CPU.
    """
    generator = torch.Generator(seed.device)
    number = int(seed.item())
    generator.manual_seed(number ^ number >> 32)  # a CPU's generator heeds 32 bits
    return torch.rand(shape, generator=generator, device=seed.device) >= dropout
