"""One registry of optimizers: name, builder, description, and where each of them works.

Others are added with :func:`register_optimizer`. Every optimizer decays all trainable weights alike
(one parameter group), as ``torch.optim.AdamW(model.parameters())`` does; the step's learning rate is constant.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import UsageError, WorkloadError

if TYPE_CHECKING:
    import torch

LEARNING_RATE = 1e-4
WEIGHT_DECAY = 0.01


@dataclass(frozen=True)
class OptimizerSettings:
    """What a builder may use: hyperparameters, the device the parameters live on, and the norm to clip gradients to.

    An optimizer that clips as part of its step takes ``clip_norm``; for others whoever steps clips, see
    :func:`clips_itself`.
    """

    learning_rate: float = LEARNING_RATE
    weight_decay: float = WEIGHT_DECAY
    device: str = "cpu"
    clip_norm: float | None = None


Builder = Callable[["list[torch.nn.Parameter]", OptimizerSettings], "torch.optim.Optimizer"]


def _works_everywhere(device: str) -> str | None:
    return None


@dataclass(frozen=True)
class OptimizerSpec:
    """An entry of the registry.

    Attributes:
        name: what the user types.
        description: one line for people; it is shown in reports.
        build: makes the optimizer for a list of parameters.
        states: parameter-sized state tensors it keeps, such as 2 for Adam (for memory estimates).
        unavailable: for a device such as ``"cuda:0"``, why the optimizer cannot be used there; None when it can.
    """

    name: str
    description: str
    build: Builder
    states: float = 0.0
    unavailable: Callable[[str], str | None] = _works_everywhere


_registry: dict[str, OptimizerSpec] = {}


def register_optimizer(
    name: str,
    description: str,
    *,
    states: float = 0.0,
    unavailable: Callable[[str], str | None] = _works_everywhere,
) -> Callable[[Builder], Builder]:
    """Add the decorated builder to the registry.

    Raises:
        ValueError: the name is taken.
    """

    def add(build: Builder) -> Builder:
        if name in _registry:
            raise ValueError(f"an optimizer named {name!r} is registered already")
        _registry[name] = OptimizerSpec(name, description, build, states, unavailable)
        return build

    return add


def optimizer_names() -> tuple[str, ...]:
    """Names in the registry, in order of registration."""
    return tuple(_registry)


def optimizer_spec(name: str) -> OptimizerSpec:
    """Look up an optimizer.

    Raises:
        UsageError: no such optimizer; the message lists them.
    """
    if name not in _registry:
        close = difflib.get_close_matches(name.lower().replace("_", "-"), _registry, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UsageError(f"unknown optimizer {name!r}; {hint}optimizers are {', '.join(_registry)}")
    return _registry[name]


def build_optimizer(
    name: str, parameters: list[torch.nn.Parameter], settings: OptimizerSettings
) -> torch.optim.Optimizer:
    """Build a registered optimizer over ``parameters``.

    Raises:
        UsageError: no such optimizer.
        WorkloadError: it does not work on this device, or there is nothing to train.
    """
    spec = optimizer_spec(name)
    reason = spec.unavailable(settings.device)
    if reason:
        raise WorkloadError(f"optimizer {name!r} cannot be used on {settings.device}: {reason}")
    if not parameters:
        raise WorkloadError("the model has no trainable parameters, so there is nothing for an optimizer to do")
    return spec.build(parameters, settings)


def clips_itself(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the optimizer clips gradients as part of its step, so that nobody needs to before it."""
    return getattr(optimizer, "max_grad_norm", None) is not None


def _foreach_by_default(device: str) -> bool | None:
    """What torch chooses; said aloud on CUDA, because a dry run's fake parameters pass for CPU tensors."""
    return None if device == "cpu" else True


def _adamw(
    parameters: list[torch.nn.Parameter],
    settings: OptimizerSettings,
    *,
    foreach: bool | None = None,
    fused: bool | None = None,
) -> torch.optim.Optimizer:
    import torch

    return torch.optim.AdamW(
        parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, foreach=foreach, fused=fused
    )


@register_optimizer("adamw", "AdamW as torch chooses it: foreach on CUDA, one tensor at a time on CPU", states=2)
def _adamw_default(parameters: list[torch.nn.Parameter], settings: OptimizerSettings) -> torch.optim.Optimizer:
    return _adamw(parameters, settings, foreach=_foreach_by_default(settings.device))


@register_optimizer("adamw-loop", "torch AdamW, a dozen ops per tensor", states=2)
def _adamw_loop(parameters: list[torch.nn.Parameter], settings: OptimizerSettings) -> torch.optim.Optimizer:
    return _adamw(parameters, settings, foreach=False, fused=False)


@register_optimizer("adamw-foreach", "torch AdamW, a dozen ops over lists of all tensors", states=2)
def _adamw_foreach(parameters: list[torch.nn.Parameter], settings: OptimizerSettings) -> torch.optim.Optimizer:
    return _adamw(parameters, settings, foreach=True, fused=False)


@register_optimizer("adamw-fused", "torch AdamW, one op that reads and writes everything once", states=2)
def _adamw_fused(parameters: list[torch.nn.Parameter], settings: OptimizerSettings) -> torch.optim.Optimizer:
    return _adamw(parameters, settings, foreach=False, fused=True)


@register_optimizer("adafactor", "transformers' Adafactor as its Trainer sets it: fixed rate, no parameter scaling")
def _adafactor(parameters: list[torch.nn.Parameter], settings: OptimizerSettings) -> torch.optim.Optimizer:
    from transformers.optimization import Adafactor

    return Adafactor(
        parameters,
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        scale_parameter=False,
        relative_step=False,
    )


@register_optimizer("sgd", "torch SGD without momentum, as torch chooses it: foreach on CUDA, a loop on CPU")
def _sgd(parameters: list[torch.nn.Parameter], settings: OptimizerSettings) -> torch.optim.Optimizer:
    import torch

    return torch.optim.SGD(
        parameters,
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        foreach=_foreach_by_default(settings.device),
    )


@register_optimizer("sgd-momentum", "torch SGD with momentum 0.9, as torch chooses it", states=1)
def _sgd_momentum(parameters: list[torch.nn.Parameter], settings: OptimizerSettings) -> torch.optim.Optimizer:
    import torch

    return torch.optim.SGD(
        parameters,
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        momentum=0.9,
        foreach=_foreach_by_default(settings.device),
    )


def _fused_adamw(
    parameters: list[torch.nn.Parameter], settings: OptimizerSettings, **options: Any
) -> torch.optim.Optimizer:
    from ..kernels.optim import FusedAdamW
    from ..kernels.registration import register_costs

    register_costs()
    return FusedAdamW(
        parameters,
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.clip_norm,
        **options,
    )


@register_optimizer("fused-adamw", "edgeroof's AdamW, one launch over all tensors", states=2)
def _fused_adamw_fp32(parameters: list[torch.nn.Parameter], settings: OptimizerSettings) -> torch.optim.Optimizer:
    return _fused_adamw(parameters, settings)


@register_optimizer("fused-adamw-bf16", "edgeroof's AdamW with bf16 states; slow on a CPU", states=1)
def _fused_adamw_bf16(parameters: list[torch.nn.Parameter], settings: OptimizerSettings) -> torch.optim.Optimizer:
    return _fused_adamw(parameters, settings, state_dtype="bf16", stochastic_rounding=True)


@register_optimizer("fused-adamw-8bit", "edgeroof's AdamW with block-wise 8-bit states; slow on a CPU", states=0.508)
def _fused_adamw_8bit(parameters: list[torch.nn.Parameter], settings: OptimizerSettings) -> torch.optim.Optimizer:
    return _fused_adamw(parameters, settings, state_dtype="int8", stochastic_rounding=True)


@register_optimizer("fused-adafactor", "edgeroof's Adafactor with few passes, set as the Trainer sets transformers'")
def _fused_adafactor(parameters: list[torch.nn.Parameter], settings: OptimizerSettings) -> torch.optim.Optimizer:
    from ..kernels.optim import FusedAdafactor
    from ..kernels.registration import register_costs

    register_costs()
    return FusedAdafactor(
        parameters,
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        scale_parameter=False,
        relative_step=False,
        max_grad_norm=settings.clip_norm,
    )
