"""Which tensors a step updates, and by what: the Triton engine of their device, or torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from .errors import OptimizerError
from .formats import DTYPE_NAMES, state_format
from .options import AdamWOptions
from .pointers import Member, is_capturing
from .support import triton_unavailable

if TYPE_CHECKING:
    from .adamw_triton import AdamWEngine

TRITON_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass
class Plan:
    """Division of an optimizer's parameters.

    Attributes:
        engine: steps the tensors that Triton serves; None when there are none.
        fallback: for torch, ``(group row, [(number, parameter)])`` of equal group, device and dtype.
        idle: parameters without state that had no gradient yet.
        count: parameters that the optimizer had when the plan was made.
    """

    engine: AdamWEngine | None = None
    fallback: list[tuple[int, list[tuple[int, Tensor]]]] = field(default_factory=list)
    idle: list[Tensor] = field(default_factory=list)
    count: int = 0

    def is_current(self, optimizer: Optimizer) -> bool:
        """Whether the plan still holds; looks up this step's pointers on the way."""
        if sum(len(group["params"]) for group in optimizer.param_groups) != self.count:
            return False
        if any(param.grad is not None for param in self.idle):
            return False
        return self.engine is None or self.engine.refresh()


def numbered_parameters(optimizer: Optimizer) -> Iterator[tuple[int, int, Tensor]]:
    """Every parameter with the row of its group and its number in the optimizer."""
    number = 0
    for row, group in enumerate(optimizer.param_groups):
        for param in group["params"]:
            yield row, number, param
            number += 1


def uses_triton(param: Tensor, backend: str) -> bool:
    """Whether a parameter goes to Triton.

    Raises:
        OptimizerError: Triton was asked for and cannot serve it.
    """
    if param.dtype not in DTYPE_NAMES:
        raise OptimizerError(
            f"parameters of type {param.dtype} are not supported by the fused optimizers; use torch.optim.AdamW"
        )
    if backend == "torch" or param.dtype not in TRITON_DTYPES:
        return False
    if backend == "auto" and param.device.type != "cuda":
        return False
    reason = triton_unavailable(param.device)
    if reason and backend == "triton":
        raise OptimizerError(f"backend='triton' cannot be used: {reason}; backend='torch' can")
    return reason is None


def plan_adamw(optimizer: Any, options: AdamWOptions, shadows: dict[Tensor, Tensor]) -> Plan:
    """Divide the parameters of an AdamW.

    Raises:
        OptimizerError: a graph is being captured, a type is not supported, or clipping would span several devices.
    """
    plan = Plan()
    buckets: dict[tuple[torch.device, torch.dtype], list[Member]] = {}
    batches: dict[tuple[int, torch.device, torch.dtype], list[tuple[int, Tensor]]] = {}
    for row, number, param in numbered_parameters(optimizer):
        plan.count += 1
        triton = uses_triton(param, options.backend)
        if is_capturing(param.device) and triton:
            raise OptimizerError(
                "the step must run once, with all gradients present, before it is captured in a CUDA graph: its state "
                "is allocated then"
            )
        if not triton:
            batches.setdefault((row, param.device, param.dtype), []).append((number, param))
        elif param.grad is None and not optimizer.state.get(param):
            plan.idle.append(param)
        else:
            buckets.setdefault((param.device, param.dtype), []).append(Member(param, row, number))
    plan.fallback = [(key[0], params) for key, params in batches.items()]
    _check_devices(buckets, batches, options)
    if buckets:
        plan.engine = _engine(optimizer, options, shadows, list(buckets.values()))
    return plan


def _check_devices(buckets: dict[Any, Any], batches: dict[Any, Any], options: AdamWOptions) -> None:
    devices = {device for device, _ in buckets}
    if len(devices) > 1:
        raise OptimizerError(
            f"parameters are on {len(devices)} devices; give each device a FusedAdamW of its own"
        )
    mixed = bool(buckets) and bool(batches)
    if options.takes_norm and (mixed or len({device for _, device, _ in batches}) > 1):
        raise OptimizerError(
            "max_grad_norm and skip_nonfinite take one norm over all gradients, which needs all parameters on one "
            "device and in fp32, bf16 or fp16; use torch.nn.utils.clip_grad_norm_ before the step instead"
        )


def _engine(
    optimizer: Any, options: AdamWOptions, shadows: dict[Tensor, Tensor], buckets: list[list[Member]]
) -> AdamWEngine:
    from .adamw import hyper_table
    from .adamw_triton import AdamWBucket, AdamWEngine

    form = state_format(options.state_dtype)
    wants_shadow = options.shadow_dtype is not None
    made = [
        AdamWBucket(
            members, form, optimizer.state, options.seed,
            [optimizer.shadow(member.param) for member in members] if wants_shadow else [],
        )
        for members in buckets
    ]  # fmt: skip
    return AdamWEngine(made, hyper_table(optimizer.param_groups, options, set()))
