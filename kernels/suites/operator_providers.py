"""Providers that every operator suite has: PyTorch's own path, the same compiled, edgeroof's, and other libraries'."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
from collections.abc import Callable, Mapping
from typing import Any

from ..declarations import Work
from .compiled import why_not
from .operator_problems import OperatorProblem, OperatorProvider, Run, Sizes


def eager_provider(description: str, run: Run) -> OperatorProvider:
    """PyTorch's own path, as transformers runs it."""
    return OperatorProvider("eager", description, not_built, run=run)


def compiled_provider(run: Run, wanted: Sizes) -> OperatorProvider:
    """PyTorch's own path compiled by inductor, once for each shape."""
    return OperatorProvider(
        "torch-compile",
        "the same compiled by inductor",
        not_built,
        unavailable=lambda problem, device: why_not(device),
        run=compiled(run, backward_again=wanted.mode == "backward"),
        own_shape=True,
    )


def compiled(run: Run, *, backward_again: bool = False) -> Run:
    """``run`` compiled at its first call.

    Args:
        run: what to compile.
        backward_again: whether a graph is walked backward more than once. Inductor reuses the memory of saved tensors
            in the backward pass unless it is told not to, for the whole process.
    """

    @functools.cache
    def make() -> Callable[..., tuple[Any, ...]]:
        import torch
        import torch._functorch.config as config

        if backward_again and hasattr(config, "donated_buffer"):
            config.donated_buffer = False
        return torch.compile(run, fullgraph=True, dynamic=False)

    return lambda tensors, dropout: make()(dict(tensors), dropout)


def our_provider(module: str, run: Run, forms: Mapping[str, str] | None = None) -> OperatorProvider:
    """The operator of edgeroof.

    Args:
        module: of :mod:`edgeroof.kernels`, which must be there.
        run: calls it.
        forms: module of each form of the problem that is another's.
    """

    def imported(problem: OperatorProblem) -> Any:
        return importlib.import_module(f"..{(forms or {}).get(problem.form, module)}", __package__)

    def unavailable(problem: OperatorProblem, device: str) -> str | None:
        try:
            imported(problem)
        except ImportError as error:
            return f"edgeroof's operator cannot be imported: {error}"
        return None

    return OperatorProvider(
        "edgeroof",
        "edgeroof's operator (Triton on a GPU, plain ATen calls on a CPU)",
        not_built,
        unavailable,
        judged=True,
        run=run,
        register_costs=lambda problem: imported(problem).register_costs(),
    )


def triton_provider(run: Run) -> OperatorProvider:
    """The Triton kernel by its own name on a CPU, where it is listed with the reason why it is not timed."""

    def unavailable(problem: OperatorProblem, device: str) -> str | None:
        return "the provider edgeroof is the Triton kernel here" if device == "cuda" else "Triton needs a CUDA device"

    return OperatorProvider("edgeroof-triton", "edgeroof's Triton kernel", not_built, unavailable, run=run)


def library_provider(name: str, description: str, package: str, module: str, run: Run) -> OperatorProvider:
    """Another library's operator for GPUs.

    Args:
        name: what the user types.
        description: one line for people.
        package: what is installed.
        module: what is imported.
        run: calls it.
    """

    def unavailable(problem: OperatorProblem, device: str) -> str | None:
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return f"{package} is not installed"
        if device != "cuda":
            return f"{package} {version} is installed, but its kernels need a GPU"
        try:
            importlib.import_module(module)
        except Exception as error:  # libraries built for another CUDA or Triton fail in many ways
            return f"{package} {version} cannot be imported: {error}"
        return None

    return OperatorProvider(name, description, not_built, unavailable, run=run)


def not_built(problem: Any, inputs: Any) -> Work:
    """Stand in for the build that :func:`~edgeroof.kernels.suites.operators.operator_suite` gives every provider."""
    raise AssertionError("operator_suite gives every provider its build")
