"""What optimizer suites share: problems, the tensors providers work on, and the check against float64."""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..declarations import Check, Problem, Provider, Suite, Work
from .t5_shapes import FLAN_T5, Shape, elements, lora_shapes, parameter_shapes

LORA_RANK = 8
ITEM_BYTES = {"fp32": 4, "bf16": 2}
_EPSILON = {"fp32": 2.0**-23, "bf16": 2.0**-7}

#: Sizes that cross the branches of vectorised and chunked kernels: empty, single, around 16, and past 65,536 elements.
CHECK_SHAPES: tuple[Shape, ...] = (
    (0,), (1,), (15,), (16,), (17,), (33, 65), (127,), (512,), (65, 129), (3, 5, 7), (4097,), (65_537,), (32, 6),
    (256, 512),
)  # fmt: skip
CHECK_STEPS = 3
#: Error that rounding inside the update may cause, relative to the largest update of the tensor. It lets a bias
#: correction in fp32 pass (1 - 0.999 has a relative error of 3e-5) and catches wrong arithmetic, which is off by 1e-3.
UPDATE_TOLERANCE = 1e-4

#: Elements beyond which only one tensor of a shape is compared at full size.
LARGE_TENSOR = 1 << 22

#: ``clip_grad_norm_``: read the gradient for the norm, then read and write it.
CLIP_PASSES = 3

MEASURE = "largest deviation from float64, relative to the tensor's largest update"


class Hyper(NamedTuple):
    """Hyper-parameters of a step."""

    lr: float
    weight_decay: float


#: Large steps make the update stand out of the rounding of the parameters; the time of a step doesn't depend on it.
HYPER = Hyper(lr=1e-2, weight_decay=0.1)


@dataclass(frozen=True)
class OptimizerProblem(Problem):
    """One optimizer step over tensors of given shapes.

    Attributes:
        shapes: of the parameters.
        clip_norm: the gradient is clipped to this norm within the call; ``None`` does not clip.
    """

    shapes: tuple[Shape, ...] = field(default=(), repr=False)
    clip_norm: float | None = None

    @property
    def item_bytes(self) -> int:
        """Bytes of one element of a parameter."""
        return ITEM_BYTES[self.dtype]


@dataclass
class Tensors:
    """Parameters with their gradients; every provider of a problem updates the same ones."""

    parameters: list[Any]

    @property
    def gradients(self) -> list[Any]:
        """The gradients, in the order of the parameters."""
        return [parameter.grad for parameter in self.parameters]


#: (parameters, gradients of each step, hyper-parameters) in float64 → the parameters afterwards.
Reference = Callable[[list[Any], list[list[Any]], Hyper], list[Any]]
#: (parameters, problem, hyper-parameters) → something with ``step()``.
Maker = Callable[[list[Any], OptimizerProblem, Hyper], Any]


@dataclass(frozen=True)
class OptimizerProvider(Provider):
    """A provider that builds an optimizer and calls its ``step``.

    Attributes:
        make: builds the optimizer.
        bytes_moved: bytes of one call, clipping included, ``None`` when unknown.
        clips_itself: whether ``step`` clips; otherwise ``clip_grad_norm_`` goes before it.
        graph: replay the step from a CUDA graph.
        tolerance: allowed relative error of the update; larger for states of few bits.
        elementwise: whether an element's update depends on no other element, clipping aside.
    """

    make: Maker = field(default=lambda parameters, problem, hyper: None, repr=False)
    bytes_moved: Callable[[OptimizerProblem], float | None] = field(default=lambda problem: None, repr=False)
    clips_itself: bool = False
    graph: bool = False
    tolerance: float = UPDATE_TOLERANCE
    elementwise: bool = False


def t5_problems(
    flops_per_parameter: float,
    floor_bytes: Callable[[Sequence[Shape], int], float],
    dtype: str = "fp32",
    clip_norm: float | None = None,
) -> dict[str, OptimizerProblem]:
    """FLAN-T5 from small to xl, all parameters and LoRA adapters.

    Args:
        flops_per_parameter: arithmetic of the operation, without clipping.
        floor_bytes: bytes the operation has to move for tensors of given shapes and item size, without clipping.
        dtype: of parameters and gradients.
        clip_norm: see :class:`OptimizerProblem`.
    """
    problems = {}
    for name, size in FLAN_T5.items():
        for prefix, shapes, title in (
            ("", parameter_shapes(size), f"FLAN-T5-{name}"),
            ("lora-", lora_shapes(size, LORA_RANK), f"FLAN-T5-{name} LoRA r={LORA_RANK}"),
        ):
            count, item = elements(shapes), ITEM_BYTES[dtype]
            clipping = clip_norm is not None
            problems[f"{prefix}{name}"] = OptimizerProblem(
                name=f"{prefix}{name}",
                title=f"{title}, {dtype}{', clipped' if clipping else ''}",
                parameters=count,
                tensors=len(shapes),
                dtype=dtype,
                flops=(flops_per_parameter + (3 if clipping else 0)) * count,
                floor_bytes=floor_bytes(shapes, item) + (item * count if clipping else 0),
                shapes=tuple(shapes),
                clip_norm=clip_norm,
            )
    return problems


def optimizer_suite(
    name: str,
    operation: str,
    *,
    providers: tuple[OptimizerProvider, ...],
    problems: dict[str, OptimizerProblem],
    clip_norm: float | None,
    baseline: str,
    reference: Reference,
    notes: tuple[str, ...],
) -> Suite:
    """A suite of optimizer steps on FLAN-T5.

    Args:
        name: what the user types.
        operation: one phrase for people.
        providers: who takes part.
        problems: those of :func:`t5_problems`.
        clip_norm: the gradient is clipped to this norm within the call; ``None`` does not clip.
        baseline: provider that others are compared with.
        reference: the float64 truth.
        notes: what to know besides that all providers update the same tensors.
    """
    clipping = "" if clip_norm is None else f" with the gradient clipped to norm {clip_norm:g}"
    shared = "All providers update the same parameters from the same gradients; optimizer states are their own."
    return Suite(
        name=name,
        operation=operation + clipping,
        providers=providers,
        problems=problems,
        defaults={"cpu": ("lora-small", "small"), "cuda": ("lora-small", "small", "base", "large", "xl")},
        quick={"cpu": ("lora-small",), "cuda": ("lora-small", "small")},
        baseline=baseline,
        inputs=problem_tensors,
        check=optimizer_check(reference),
        refresh=refresh,
        notes=(shared, *notes),
    )


def without_ours(name: str) -> str | None:
    """Why one of our optimizers cannot be used; ``None`` if it can."""
    try:
        getattr(importlib.import_module("..optim", __package__), name)
    except (ImportError, AttributeError) as error:
        return f"edgeroof's {name} cannot be imported: {error}"
    return None


def make_tensors(shapes: Sequence[Shape], dtype: str, device: str, seed: int) -> Tensors:
    """Random parameters of the size of a trained model's, with random gradients."""
    import torch

    kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    parameters = []
    for shape in shapes:
        parameter = torch.nn.Parameter(torch.empty(shape, dtype=kind, device=device))
        parameter.grad = torch.empty_like(parameter)
        parameters.append(parameter)
    tensors = Tensors(parameters)
    refresh(tensors, seed)
    return tensors


def refresh(tensors: Tensors, seed: int) -> None:
    """Fill parameters and gradients with random numbers in place."""
    import torch

    device = tensors.parameters[0].device
    generator = torch.Generator(device=device).manual_seed(seed)
    with torch.no_grad():
        for parameter in tensors.parameters:
            parameter.normal_(0, 0.05, generator=generator)
            parameter.grad.normal_(0, 1e-3, generator=generator)


def problem_tensors(problem: OptimizerProblem, device: str) -> Tensors:
    """The tensors of a problem."""
    return make_tensors(problem.shapes, problem.dtype, device, seed=0)


def optimizer_provider(
    name: str,
    description: str,
    make: Maker,
    reference: Reference,
    **options: Any,
) -> OptimizerProvider:
    """Assemble an :class:`OptimizerProvider`.

    Args:
        name: what the user types.
        description: one line for people.
        make: builds the optimizer.
        reference: the float64 truth.
        **options: other fields of :class:`OptimizerProvider`.
    """

    def build(problem: OptimizerProblem, tensors: Tensors) -> Work:
        step = Step(provider, problem, tensors, HYPER)
        verify = functools.partial(check_at_size, step, provider, reference)
        return Work(step, provider.bytes_moved(problem), verify=verify, first=step.first)

    provider = OptimizerProvider(name, description, build, make=make, **options)
    return provider


class Step:
    """One optimizer step as a client does it: clip, then update.

    Args:
        provider: whose step.
        problem: dtype and clipping.
        tensors: what it updates.
        hyper: learning rate and weight decay.
    """

    def __init__(self, provider: OptimizerProvider, problem: OptimizerProblem, tensors: Tensors, hyper: Hyper) -> None:
        self.problem, self.tensors, self.hyper = problem, tensors, hyper
        self._graph = provider.graph
        self._clip_norm = None if provider.clips_itself else problem.clip_norm
        self._optimizer = provider.make(tensors.parameters, problem, hyper)
        self._run: Callable[[], object] = self._eager

    def __call__(self) -> None:
        """Do one step."""
        self._run()

    def first(self) -> int:
        """Make the first call, which for a CUDA graph means to capture and replay it; returns the steps taken."""
        if not self._graph:
            self._run()
            return 1
        self._run = _captured(self._eager)
        self._run()
        return _GRAPH_WARMUP + 1

    def _eager(self) -> None:
        if self._clip_norm is not None:
            import torch

            torch.nn.utils.clip_grad_norm_(self.tensors.parameters, self._clip_norm)
        self._optimizer.step()


_GRAPH_WARMUP = 2


def _captured(call: Callable[[], object]) -> Callable[[], object]:
    """A CUDA graph's replay of ``call``, which runs a few times before the capture, as PyTorch asks for."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_GRAPH_WARMUP):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def optimizer_check(reference: Reference) -> Callable[[Provider, Any, str, int], Check]:
    """The check of a suite: a few steps on fresh random tensors of awkward sizes, each with fresh gradients.

    Args:
        reference: the float64 truth.
    """

    def check(provider: Provider, problem: OptimizerProblem, device: str, seed: int) -> Check:
        assert isinstance(provider, OptimizerProvider)
        return check_on_fresh_inputs(provider, problem, device, seed, reference)

    return check


def check_on_fresh_inputs(
    provider: OptimizerProvider, problem: OptimizerProblem, device: str, seed: int, reference: Reference
) -> Check:
    """Compare a provider with the reference after :data:`CHECK_STEPS` steps; see :func:`optimizer_check`."""
    tensors = make_tensors(CHECK_SHAPES, problem.dtype, device, seed + 1)
    before = _doubles(tensors.parameters)
    step = Step(provider, problem, tensors, HYPER)
    gradients = []
    for number in range(CHECK_STEPS):
        fresh = make_tensors(CHECK_SHAPES, problem.dtype, device, seed + 2 + number).gradients
        for parameter, gradient in zip(tensors.parameters, fresh):
            parameter.grad = gradient
        gradients.append(_clipped(_doubles(fresh), problem.clip_norm))
        step()
    expected = reference(before, gradients, HYPER)
    return _compare(tensors.parameters, before, expected, problem.dtype, CHECK_STEPS, provider.tolerance)


def check_at_size(step: Step, provider: OptimizerProvider, reference: Reference) -> Check:
    """Make a work's first call and compare it with the reference, at the first and the last tensor of every shape.

    Of large tensors the last is enough, and of that both ends where elements don't depend on each other: a float64
    reference of FLAN-T5's embeddings takes longer than the step.
    """
    parameters, problem = step.tensors.parameters, step.problem
    shapes = [tuple(parameter.shape) for parameter in parameters]
    last = {shape: index for index, shape in enumerate(shapes)}
    small = {shapes.index(shape) for shape in last if math.prod(shape) <= LARGE_TENSOR}
    chosen = sorted({*last.values(), *small})
    coefficient = _clip_coefficient(step.tensors.gradients, problem.clip_norm)
    parts = [part for index in chosen for part in _ends(parameters[index].detach(), provider.elementwise)]
    slopes = [part for index in chosen for part in _ends(parameters[index].grad, provider.elementwise)]
    before, gradients = [part.clone() for part in parts], [part.clone() for part in slopes]
    steps = step.first()
    worst = Check(0.0, 1.0, MEASURE)
    for part, start, gradient in zip(parts, before, gradients):  # one by one: float64 copies of xl are large
        old, constant = [start.double()], [gradient.double() * coefficient]
        expected = reference(old, [constant] * steps, step.hyper)
        found = _compare([part], old, expected, problem.dtype, steps, provider.tolerance)
        worst = max(worst, found, key=lambda check: check.severity)
    return worst


def _ends(tensor: Any, elementwise: bool) -> list[Any]:
    """The whole tensor, or both ends of a large one whose elements can be looked at apart; views."""
    if not elementwise or tensor.numel() <= LARGE_TENSOR or not tensor.is_contiguous():
        return [tensor]
    flat = tensor.view(-1)
    return [flat[: LARGE_TENSOR // 4], flat[-(LARGE_TENSOR // 4) :]]


def _compare(
    parameters: list[Any], before: list[Any], expected: list[Any], dtype: str, steps: int, tolerance: float
) -> Check:
    """The worst tensor's error, against what rounding the parameters at every step, and the update, may cause."""
    worst = Check(0.0, 1.0, MEASURE)
    epsilon = _EPSILON[dtype]
    for parameter, old, new in zip(parameters, before, expected):
        if parameter.numel() == 0:
            continue
        update = float((new - old).abs().max())
        error = float((parameter.detach().double() - new).abs().max()) / update
        size = max(float(old.abs().max()), float(new.abs().max())) / update
        allowed = steps * epsilon * size + max(tolerance, 4 * epsilon)
        found = Check(error, allowed, MEASURE, f"in a tensor of shape {tuple(parameter.shape)}")
        worst = max(worst, found, key=lambda check: check.severity)
    return worst


def _doubles(tensors: Sequence[Any]) -> list[Any]:
    return [tensor.detach().double().clone() for tensor in tensors]


def _clipped(gradients: list[Any], clip_norm: float | None) -> list[Any]:
    coefficient = _clip_coefficient(gradients, clip_norm)
    return [gradient * coefficient for gradient in gradients]


def _clip_coefficient(gradients: Sequence[Any], clip_norm: float | None) -> float:
    """What ``clip_grad_norm_`` multiplies gradients with, from a norm in float64."""
    if clip_norm is None:
        return 1.0
    import torch

    squares = sum(float(torch.linalg.vector_norm(gradient, dtype=torch.float64)) ** 2 for gradient in gradients)
    return min(1.0, clip_norm / (math.sqrt(squares) + 1e-6))
