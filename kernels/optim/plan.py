"""Which tensors a step updates, and by what: the Triton engine of their device, or torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import is_
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..support import triton_unavailable
from .engine import Engine
from .errors import OptimizerError
from .formats import DTYPE_NAMES
from .pointers import Member, is_capturing
from .state_watch import StateWatch

TRITON_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


EngineT = TypeVar("EngineT", bound=Engine[Any])
Batch = tuple[int, list[tuple[int, Tensor]]]


@dataclass
class Plan(Generic[EngineT]):
    """Division of an optimizer's parameters.

    Attributes:
        buckets: what goes to Triton, by device and dtype.
        fallback: for torch, ``(group row, [(number, parameter)])`` of equal group, device and dtype.
        idle: parameters for Triton without state that had no gradient yet.
        groups: the parameters of every group when the plan was made.
        watch: notices when states are replaced; None before the first step.
        engine: steps the buckets; None when there are none.
        plain: by place in ``fallback``, batches that an optimizer keeps ready because they need no preparation.
    """

    buckets: dict[tuple[torch.device, torch.dtype], list[Member]] = field(default_factory=dict)
    fallback: list[Batch] = field(default_factory=list)
    idle: list[Tensor] = field(default_factory=list)
    groups: list[list[Tensor]] = field(default_factory=list)
    watch: StateWatch | None = None
    engine: EngineT | None = None
    plain: dict[int, Any] = field(default_factory=dict)

    def is_current(self, optimizer: Optimizer) -> bool:
        """Whether the plan still holds; looks up this step's pointers on the way."""
        groups = [group["params"] for group in optimizer.param_groups]
        if len(groups) != len(self.groups) or not all(map(_same, groups, self.groups)):
            return False
        if self.watch is not None and not self.watch.holds(optimizer.state):
            return False
        if any(param.grad is not None for param in self.idle):
            return False
        return self.engine is None or self.engine.refresh()


def _same(params: Sequence[Tensor], kept: Sequence[Tensor]) -> bool:
    return len(params) == len(kept) and all(map(is_, params, kept))


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
            f"parameters of type {param.dtype} are not supported by the fused optimizers; use those of torch.optim"
        )
    if backend == "torch" or param.dtype not in TRITON_DTYPES:
        return False
    if backend == "auto" and param.device.type != "cuda":
        return False
    reason = triton_unavailable(param.device)
    if reason and backend == "triton":
        raise OptimizerError(f"backend='triton' cannot be used: {reason}; backend='torch' can")
    return reason is None


def divide(optimizer: Optimizer, backend: str) -> Plan[Any]:
    """Divide the parameters of an optimizer; the engine is still to be made.

    Raises:
        OptimizerError: a graph is being captured, a type is not supported, or there are several GPUs.
    """
    plan: Plan[Any] = Plan(groups=[list(group["params"]) for group in optimizer.param_groups])
    batches: dict[tuple[int, torch.device, torch.dtype], list[tuple[int, Tensor]]] = {}
    for row, number, param in numbered_parameters(optimizer):
        triton = uses_triton(param, backend)
        if triton and is_capturing(param.device):
            raise OptimizerError(
                "the step must run once, with all gradients present, before it is captured in a CUDA graph: its state "
                "is allocated then"
            )
        if not triton:
            batches.setdefault((row, param.device, param.dtype), []).append((number, param))
        elif param.grad is None and not optimizer.state.get(param):
            plan.idle.append(param)
        else:
            plan.buckets.setdefault((param.device, param.dtype), []).append(Member(param, row, number))
    plan.fallback = [(row, params) for (row, _, _), params in batches.items()]
    devices = {device for device, _ in plan.buckets}
    if len(devices) > 1:
        raise OptimizerError(f"parameters are on {len(devices)} GPUs; give each of them an optimizer of its own")
    return plan


def check_one_norm(plan: Plan[Any]) -> None:
    """Make sure that one norm over all gradients can be taken.

    Raises:
        OptimizerError: they are on several devices, or some of them in types that Triton does not serve.
    """
    devices = {param.device for _, params in plan.fallback for _, param in params}
    if len(devices) > 1 or (plan.buckets and plan.fallback):
        raise OptimizerError(
            "max_grad_norm and skip_nonfinite take one norm over all gradients, which needs all parameters on one "
            "device and in fp32, bf16 or fp16; use torch.nn.utils.clip_grad_norm_ before the step instead"
        )
