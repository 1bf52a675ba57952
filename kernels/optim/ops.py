"""The steps as custom ops, so that a profile sees one op per launch with its tensors and can price it.

Handing hundreds of tensors to the dispatcher costs more than the launch, so the ops are used only while somebody
watches: a profiler, or a dispatch mode such as the op recorder or fake tensors. Otherwise the launch is called plainly.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_LIBRARY = torch.library.Library("edgeroof", "FRAGMENT")
_LIBRARY.define(
    "fused_adamw_(Tensor(a!)[] params, Tensor[] grads, Tensor(b!)[] states, Tensor(c!)[] shadows, "
    "int gradient_reads, int call) -> ()"
)
_LIBRARY.define(
    "fused_adafactor_(Tensor(a!)[] params, Tensor[] grads, Tensor(b!)[] states, bool scale_parameter, "
    "int gradient_reads, int call) -> ()"
)
_LIBRARY.define("gradient_norm(Tensor[] grads, Tensor(a!) partials, int call) -> ()")

_calls: dict[int, Callable[[], None]] = {}
_numbers = itertools.count()


def _run(*arguments: object) -> None:
    call = arguments[-1]
    assert isinstance(call, int)
    with torch.no_grad():
        _calls[call]()


def _pretend(*arguments: object) -> None:
    """With fake tensors there is nothing to compute."""


for _name in ("fused_adamw_", "fused_adafactor_", "gradient_norm"):
    _LIBRARY.impl(_name, _run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"edgeroof::{_name}", _pretend, lib=_LIBRARY)


def watched() -> bool:
    """Whether a profiler or a dispatch mode would see an op."""
    return torch._C._len_torch_dispatch_stack() > 0 or torch.autograd._profiler_enabled()


def _call(op: Callable[..., None], arguments: Sequence[object], launch: Callable[[], None]) -> None:
    number = next(_numbers)
    _calls[number] = launch
    try:
        op(*arguments, number)
    finally:
        del _calls[number]


def fused_adamw(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    states: Sequence[Tensor],
    shadows: Sequence[Tensor],
    gradient_reads: int,
    launch: Callable[[], None],
) -> None:
    """Run ``launch`` inside ``edgeroof::fused_adamw_``.

    Args:
        params: parameters that are updated.
        grads: their gradients.
        states: all that is kept for them: moments and scales.
        shadows: copies of the parameters that are only written.
        gradient_reads: how often the launch reads the gradients.
        launch: does the work.
    """
    op = torch.ops.edgeroof.fused_adamw_
    _call(op, (list(params), list(grads), list(states), list(shadows), gradient_reads), launch)


def fused_adafactor(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    states: Sequence[Tensor],
    scale_parameter: bool,
    gradient_reads: int,
    launch: Callable[[], None],
) -> None:
    """Run ``launch`` inside ``edgeroof::fused_adafactor_``; the arguments are like those of :func:`fused_adamw`."""
    op = torch.ops.edgeroof.fused_adafactor_
    _call(op, (list(params), list(grads), list(states), scale_parameter, gradient_reads), launch)


def gradient_norm(grads: Sequence[Tensor], partials: Tensor, launch: Callable[[], None]) -> None:
    """Run ``launch`` inside ``edgeroof::gradient_norm``."""
    _call(torch.ops.edgeroof.gradient_norm, (list(grads), partials), launch)
