"""What operator suites are made of: problems cut from FLAN-T5, operations, providers, as plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import UsageError
from ..declarations import Problem, Provider
from .optimizers import ITEM_BYTES
from .t5_shapes import FLAN_T5, T5Size

MODES = ("forward", "backward", "both")
#: Examples and tokens of a step where none are given; a CPU's is short, so that a suite takes a few minutes.
SIZES = {
    "cpu": {"batch_size": 2, "source_length": 128, "target_length": 32},
    "cuda": {"batch_size": 32, "source_length": 512, "target_length": 96},
}
#: The second batch size that has problems of its own, with this in their names.
SMALLER_BATCH = 8
#: What transformers trains T5 with.
DROPOUT = 0.1

#: Named tensors of a call; those that require a gradient get one.
Tensors = dict[str, Any]
#: (tensors, dropout) → outputs.
Run = Callable[[Mapping[str, Any], float], tuple[Any, ...]]


@dataclass(frozen=True)
class OperatorProblem(Problem):
    """One call of an operator on tensors of a FLAN-T5.

    Attributes:
        form: which of the operation's forms, such as ``add`` for a norm with the residual sum before it.
        place: where in the model: ``encoder``, ``decoder``, ``cross``, or empty.
        shape: of the tensor that the operator is about.
        width: of the model, where the shape does not tell.
        mode: one of :data:`MODES`.
        dropout: share of elements that is dropped.
    """

    form: str = ""
    place: str = ""
    shape: tuple[int, ...] = ()
    width: int = 0
    mode: str = "both"
    dropout: float = 0.0


@dataclass(frozen=True)
class Operation:
    """What is special about one operator.

    Attributes:
        make: tensors of a problem: ``make(problem, device, seed)``.
        truth: outputs in float64: ``truth(problem, tensors, kept)``, with what dropout keeps, or ``None``.
        kept: what dropout kept, from tensors, outputs and gradients by name, and which elements tell (``None``: all);
            ``None`` for an operator without dropout, or whose results do not show it; it is checked without.
        eager: PyTorch's own path.
        awkward: a shape that crosses branches, from a problem's own: no power of two, short.
    """

    make: Callable[[OperatorProblem, str, int], Tensors]
    truth: Callable[[OperatorProblem, Mapping[str, Any], Any], tuple[Any, ...]]
    eager: Run
    awkward: Callable[[OperatorProblem], tuple[int, ...]]
    kept: Callable[[Mapping[str, Any], Sequence[Any], Mapping[str, Any]], tuple[Any, Any]] | None = None


@dataclass(frozen=True)
class OperatorProvider(Provider):
    """A provider with the function it calls.

    Attributes:
        run: computes the outputs.
        register_costs: teaches the profiler to price the ops that the provider brings along for a problem.
        own_shape: whether the check uses the problem's own shape, because each shape is compiled anew.
    """

    run: Run = lambda tensors, dropout: ()
    register_costs: Callable[[OperatorProblem], None] = lambda problem: None
    own_shape: bool = False


@dataclass(frozen=True)
class Sizes:
    """Settings of an operator suite.

    Attributes:
        kind: ``cpu`` or ``cuda``.
        dtype: ``fp32`` or ``bf16``.
        mode: one of :data:`MODES`.
        batch_size: examples.
        source_length: tokens of the encoder.
        target_length: tokens of the decoder.
        dropout: share of elements that is dropped where the model has a dropout.
    """

    kind: str
    dtype: str
    mode: str
    batch_size: int
    source_length: int
    target_length: int
    dropout: float = DROPOUT

    @property
    def item(self) -> int:
        """Bytes of an element."""
        return ITEM_BYTES[self.dtype]

    def of_mode(self, forward: float, backward: float) -> float:
        """What a call of this mode takes, of what its passes take."""
        return {"forward": forward, "backward": backward, "both": forward + backward}[self.mode]


#: (size of the model, sizes) → problems without name and title: place or form → problem.
Cut = Callable[[T5Size, Sizes], Mapping[str, OperatorProblem]]


def sizes(kind: str, dtype: str, mode: str | None, dropout: float | None = None, **given: int | None) -> Sizes:
    """Settings with a device's, and the model's, defaults for what is ``None``.

    Raises:
        UsageError: a setting makes no sense.
    """
    mode = mode or "both"
    if mode not in MODES:
        raise UsageError(f"mode is {mode!r}; it must be {', '.join(MODES)}")
    chosen = SIZES[kind] | {name: value for name, value in given.items() if value is not None}
    for name, value in chosen.items():
        if value < 1:
            raise UsageError(f"{name} is {value}; it must be at least 1")
    dropout = DROPOUT if dropout is None else dropout
    if not 0 <= dropout < 1:
        raise UsageError(f"dropout is {dropout}; it must be at least 0 and below 1")
    return Sizes(kind, dtype, mode, **chosen, dropout=dropout)


def cut_problems(cut: Cut, wanted: Sizes) -> dict[str, OperatorProblem]:
    """Problems ``MODEL-PLACE`` of all sizes of FLAN-T5, and ``MODEL-PLACE-b8`` for batches of eight.

    Args:
        cut: cuts a model's problems.
        wanted: of which sizes.
    """
    problems = {}
    for suffix, batch in (("", wanted.batch_size), (f"-b{SMALLER_BATCH}", SMALLER_BATCH)):
        of_batch = dataclasses.replace(wanted, batch_size=batch)
        for model, numbers in FLAN_T5.items():
            for key, problem in cut(numbers, of_batch).items():
                name = f"{model}-{key}{suffix}" if key else f"{model}{suffix}"
                title = f"{problem.title} of FLAN-T5-{model}, {' × '.join(map(str, problem.shape))}, {wanted.dtype}"
                problems[name] = dataclasses.replace(
                    problem, name=name, title=f"{title}, {_pass(wanted.mode)}", mode=wanted.mode, dtype=wanted.dtype
                )
    return problems


def _pass(mode: str) -> str:
    return {"forward": "forward", "backward": "backward", "both": "forward and backward"}[mode]
