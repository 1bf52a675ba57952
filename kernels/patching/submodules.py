"""When a fused forward may compute what a submodule would: only where that is known to be all that it does.

Anything else is called as the module it is, so that other classes, replaced forwards and hooks have their say.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

from torch import nn

from ...profiler.recorder import only_watches


def rate_of(dropout: Any) -> float | None:
    """Probability with which a plain ``nn.Dropout`` drops now; ``None`` where the module has to be called."""
    if type(dropout) is not nn.Dropout or is_altered(dropout):
        return None
    return dropout.p if dropout.training else 0.0


def is_altered(module: nn.Module) -> bool:
    """Whether a module has a forward of its own or hooks, apart from those of the profiler, which only watch."""
    hooks = chain(
        module._forward_pre_hooks.values(), module._forward_hooks.values(),
        module._backward_pre_hooks.values(), module._backward_hooks.values(),
    )  # fmt: skip
    return "forward" in vars(module) or not all(only_watches(hook) for hook in hooks)
