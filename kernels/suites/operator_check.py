"""One call of an operator's provider, and the check of its outputs and gradients against float64.

The check makes the provider's own call with dropout on: what was dropped shows in its results, and the float64
reference is given the same mask, so that a backward pass that drops other elements than the forward is noticed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from ..declarations import Check, Provider
from .operator_problems import Operation, OperatorProblem, OperatorProvider, Run, Tensors

#: An error may be this many times that of PyTorch's own path in the same dtype, and the constant more.
TIMES_EAGER, ALLOWANCE = 2.0, 1e-5
#: What PyTorch's own path may be off by; beyond it, the reference or the inputs are wrong.
PLAUSIBLE = {"fp32": 1e-3, "bf16": 0.1}
#: Standard deviations by which the dropped share may differ from what was asked for.
DROPPED_DEVIATIONS = 6.0
MEASURE = "largest deviation of outputs and gradients from float64, relative to each one's largest value"


class Call:
    """One call of a provider in the problem's mode.

    Args:
        run: the provider's function.
        problem: mode and dropout.
        tensors: what it works on.
    """

    def __init__(self, run: Run, problem: OperatorProblem, tensors: Tensors) -> None:
        self._run, self._problem, self._tensors = run, problem, tensors
        self._leaves = [tensor for tensor in tensors.values() if tensor.requires_grad]
        self._given: list[Any] | None = None  # gradients of the outputs, drawn at the first call
        self._outputs: tuple[Any, ...] = ()

    def __call__(self) -> None:
        """Do it."""
        if self._problem.mode == "forward":
            import torch

            with torch.no_grad():
                self._run(self._tensors, self._problem.dropout)
        elif self._problem.mode == "both":
            self._backward(self._run(self._tensors, self._problem.dropout), retain=False)
        else:
            self._outputs = self._outputs or self._run(self._tensors, self._problem.dropout)
            self._backward(self._outputs, retain=True)

    def evaluate(self) -> tuple[tuple[Any, ...], list[Any]]:
        """Outputs and gradients of one forward and backward pass."""
        outputs = self._run(self._tensors, self._problem.dropout)
        return outputs, self._backward(outputs, retain=False)

    def given(self, outputs: Sequence[Any]) -> list[Any]:
        """Gradients of the outputs, always the same: random, or 1 for a loss."""
        import torch

        if self._given is None:
            generator = torch.Generator(outputs[0].device).manual_seed(1)
            self._given = [
                torch.randn(output.shape, generator=generator, device=output.device).to(output.dtype)
                if output.dim()
                else torch.ones_like(output)
                for output in outputs
            ]
        return self._given

    def _backward(self, outputs: Sequence[Any], retain: bool) -> list[Any]:
        import torch

        given = self.given(outputs)
        return list(torch.autograd.grad(list(outputs), self._leaves, given, retain_graph=retain, allow_unused=True))


def check_on_fresh_inputs(of: Operation, provider: Provider, problem: OperatorProblem, device: str, seed: int) -> Check:
    """Outputs and gradients on fresh random inputs of an awkward shape, or of its own for what is compiled."""
    assert isinstance(provider, OperatorProvider)
    shape = problem.shape if provider.own_shape else of.awkward(problem)
    fresh = dataclasses.replace(problem, shape=shape)
    return compare_with_truth(provider.run, of, fresh, of.make(fresh, device, seed + 1))


def compare_with_truth(run: Run, of: Operation, problem: OperatorProblem, tensors: Tensors) -> Check:
    """The worst of outputs and gradients, against what PyTorch's own path is off by on the same inputs.

    A gradient that PyTorch's own path does not have is measured by the worst of those that it has.
    """
    if of.kept is None:
        problem = dataclasses.replace(problem, dropout=0.0)
    found = _errors(run, of, problem, tensors)
    if isinstance(found, Check):
        return found
    eager = found if run is of.eager else _errors(of.eager, of, problem, tensors)
    if isinstance(eager, Check):
        return dataclasses.replace(eager, detail=f"PyTorch's own path: {eager.detail}")
    worst = Check(0.0, 1.0, MEASURE)
    for name, error in found.items():
        own = eager.get(name, max(eager.values()))
        if not own <= PLAUSIBLE[problem.dtype]:
            return Check(own, PLAUSIBLE[problem.dtype], MEASURE, f"in {name} by PyTorch's own path")
        allowed = TIMES_EAGER * own + ALLOWANCE
        worst = max(worst, Check(error, allowed, MEASURE, f"in {name}"), key=lambda check: check.severity)
    return worst


def _errors(run: Run, of: Operation, problem: OperatorProblem, tensors: Tensors) -> dict[str, float] | Check:
    """Errors of outputs and gradients by name, or why there are none: the wrong share was dropped."""
    call = Call(run, problem, tensors)
    outputs, gradients = call.evaluate()
    names = [name for name, tensor in tensors.items() if tensor.requires_grad]
    by_name = {name: gradient for name, gradient in zip(names, gradients) if gradient is not None}
    kept = None
    if of.kept and problem.dropout:
        kept, telling = of.kept(tensors, outputs, by_name)
        share = _share_dropped(kept if telling is None else kept[telling.expand_as(kept)], problem.dropout)
        if not share.passed:
            return share
    exact = {name: _double(tensor) for name, tensor in tensors.items()}
    true_outputs = of.truth(problem, exact, kept)
    leaves = [exact[name] for name in by_name]
    true_gradients = _gradients(true_outputs, leaves, call.given(outputs))
    pairs = {f"output {number}": pair for number, pair in enumerate(zip(outputs, true_outputs))}
    pairs |= {f"the gradient of {name}": (by_name[name], true) for name, true in zip(by_name, true_gradients)}
    return {name: _deviation(found, true) for name, (found, true) in pairs.items()}


def _share_dropped(kept: Any, wanted: float) -> Check:
    dropped = 1 - float(kept.double().mean())
    deviation = (wanted * (1 - wanted) / kept.numel()) ** 0.5
    detail = f"{dropped:.3%} were dropped instead of {wanted:.3%}"
    return Check(abs(dropped - wanted), DROPPED_DEVIATIONS * deviation, "share of elements dropped", detail)


def _gradients(outputs: Sequence[Any], leaves: Sequence[Any], given: Sequence[Any]) -> tuple[Any, ...]:
    import torch

    return torch.autograd.grad(list(outputs), list(leaves), [gradient.double() for gradient in given])


def _deviation(found: Any, true: Any) -> float:
    largest = float(true.detach().abs().max()) or 1.0
    return float((found.detach().double() - true.detach()).abs().max()) / largest


def _double(tensor: Any) -> Any:
    if not tensor.is_floating_point():
        return tensor
    return tensor.detach().double().requires_grad_(tensor.requires_grad)
