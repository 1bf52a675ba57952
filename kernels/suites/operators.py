"""An operator suite put together: what one call of a provider is, and the bytes that it moves."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

from ..declarations import Suite, Work
from .operator_check import Call, check_on_fresh_inputs, compare_with_truth
from .operator_problems import Operation, OperatorProblem, OperatorProvider, Tensors


def operator_suite(name: str, operation: str, providers: Sequence[OperatorProvider], **options: Any) -> Suite:
    """Assemble a suite; see :class:`~edgeroof.kernels.declarations.Suite` for the options.

    Args:
        name: what the user types.
        operation: what is compared, in one line.
        providers: PyTorch's own path first, called ``eager``.
        **options: ``problems``, ``defaults``, ``quick``, ``of`` (the :class:`Operation`) and others.
    """
    of: Operation = options.pop("of")
    notes = (
        "All providers work on the same tensors. A call allocates its results anew, as a training step does.",
        "Bytes are those of the ops that a provider dispatches, by the profiler's rules; what is compiled isn't seen.",
        *options.pop("notes", ()),
    )
    return Suite(
        name=name,
        operation=operation,
        providers=tuple(dataclasses.replace(provider, build=_builder(provider, of)) for provider in providers),
        baseline="eager",
        inputs=lambda problem, device: of.make(problem, device, 0),
        refresh=refresh,
        check=functools.partial(check_on_fresh_inputs, of),
        notes=notes,
        **options,
    )


def refresh(tensors: Tensors, seed: int) -> None:
    """Draw what gets a gradient anew, in place and of the same spread."""
    import torch

    with torch.no_grad():
        for tensor in tensors.values():
            if tensor.requires_grad:
                generator = torch.Generator(tensor.device).manual_seed(seed)
                tensor.normal_(float(tensor.float().mean()), float(tensor.float().std()), generator=generator)


def _builder(provider: OperatorProvider, of: Operation) -> Callable[[OperatorProblem, Tensors], Work]:
    counted: dict[OperatorProblem, float | None] = {}

    def build(problem: OperatorProblem, tensors: Tensors) -> Work:
        call = Call(provider.run, problem, tensors)
        if problem not in counted:
            provider.register_costs(problem)
            counted[problem] = None if provider.own_shape else dispatched_bytes(call)
        verify = functools.partial(compare_with_truth, provider.run, of, problem, tensors)
        return Work(call, counted[problem], verify=verify)

    return build


def dispatched_bytes(call: Callable[[], object]) -> float | None:
    """Bytes of the ops of a call by the profiler's rules; ``None`` if one of them has no rule.

    The first call may prepare what later ones find, so the second is counted.
    """
    import torch

    from ...profiler.costs import price
    from ...profiler.recorder import OpRecorder

    call()
    with OpRecorder(torch.nn.Module()) as recorder:
        call()
    costs = [price(record) for record in recorder.records]
    priced = [cost.bytes for cost in costs if cost is not None]
    return float(sum(priced)) if len(priced) == len(costs) and costs else None
