"""Dry runs: a step under fake tensors, which have every shape and type but no memory and no values.

    with fake_tensors() as fakes:
        step = build()                      # a model of any size takes no memory
        dry = record_dry(step, step.batches[0])
    dry.records                             # as the recorder would have seen them
    dry.memory                              # what was alive when, storage by storage

Fake tensors know no values, and a step asks for some. Tensors that are made from values known on the host (token ids,
masks, the step count of an optimizer) stay real as long as they meet nothing fake, so what follows from them is
answered truly. What depends on weights or on random numbers is answered by assumption: a number is 0 (no gradient
overflowed, no layer was dropped), and the tokens of a mixture of experts are spread evenly (:class:`Routing`).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..errors import CaptureError
from .capture import TrainingStep
from .lifetimes import MemoryTimeline, MemoryTracker
from .ops import OpRecord
from .recorder import OpRecorder

#: Values known on the host are computed for real up to this many elements of input.
_KNOWN_ELEMENTS = 1 << 22

_aten = torch.ops.aten

_COUNTING_OPS = frozenset(
    getattr(getattr(_aten, name), overload)
    for name, overload in (
        ("arange", "default"), ("arange", "start"), ("arange", "start_step"), ("ones", "default"), ("zeros", "default"),
        ("full", "default"), ("scalar_tensor", "default"),
    )
)  # fmt: skip
_COUNTING_TYPES = (torch.bool, torch.int64, torch.int32)


@dataclass(frozen=True)
class Routing:
    """How many tokens a mixture of experts is assumed to send to each expert.

    Attributes:
        experts: experts of a layer.
        capacity: most tokens of one sequence that an expert takes; the rest are dropped. None: no limit.
        sequences: sequences in a batch.
        chosen: experts that a token goes to.
        spread: ``"even"``, equally many to every expert; or ``"alike"``, all tokens to the same ones, as when they are
            copies of one token.
    """

    experts: int
    capacity: int | None = None
    sequences: int = 1
    chosen: int = 1
    spread: str = "even"

    @property
    def active(self) -> int:
        """Experts that get any token."""
        return self.experts if self.spread == "even" else self.chosen

    def hits(self, mask: torch.Tensor) -> int:
        """True elements of a mask that says, for one active expert, which tokens are its own."""
        share = mask.numel() // self.active
        return share if self.capacity is None else min(share, self.capacity * self.sequences)


@dataclass(frozen=True)
class DryRecord:
    """What a dry run saw: the ops, in order, and the lifetime of every storage."""

    records: list[OpRecord]
    memory: MemoryTimeline
    result: Any


@contextlib.contextmanager
def fake_tensors() -> Iterator[KnownValues]:
    """Make every tensor fake that is created inside.

    Yields:
        What answers for values; give it the routing of a mixture of experts, without which one is refused.
    """
    with FakeTensorMode(allow_non_fake_inputs=True), KnownValues() as known, _convertible_modules():
        yield known


def record_dry(
    step: TrainingStep, batch: Any, known: KnownValues, owners: Iterable[tuple[str, torch.Tensor]] = ()
) -> DryRecord:
    """Run one step inside :func:`fake_tensors` and record its ops and its memory.

    Args:
        step: built inside the same block, with its optimizer's states allocated.
        batch: what to run.
        known: what :func:`fake_tensors` gave.
        owners: tensors that exist before the step, each after what it is (``weights``, ``states``); made one by one, so
            that nothing keeps them alive.

    Raises:
        CaptureError: the step needs a value that a fake tensor does not have.
    """
    from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

    memory = MemoryTracker(owners)
    try:
        with known.counting(), memory, OpRecorder(step.model) as recorder:
            result = step.run(batch)
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise CaptureError(
            f"{type(step.model).__name__} decides by values what to run ({error}), which a dry run without values "
            "cannot follow"
        ) from error
    return DryRecord(recorder.records, memory.finish(step.model), result)


class KnownValues(TorchDispatchMode):
    """Keeps values that are known real, and answers for those that are not; see the module's description.

    Attributes:
        routing: what to assume of a mixture of experts; None when there is none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.routing: Routing | None = None
        self._counting = False

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Inside, integers and booleans that an op makes from nothing (ranges, masks of ones) are known as well.

        Not while a model is built, whose parameters and buffers must all be fake.
        """
        self._counting = True
        try:
            yield
        finally:
            self._counting = False

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the op on real values where all are known; called by the dispatcher."""
        kwargs = kwargs or {}
        if self._is_known(func, args, kwargs):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        if func is _aten._local_scalar_dense.default:
            return _zero(args[0])
        if self.routing is not None:
            if func is _aten.nonzero.default:
                return self._nonzero(args[0])
            if func is _aten.index.Tensor:
                return func(args[0], self._as_positions(args[1]))
        return func(*args, **kwargs)

    def _is_known(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if tensors:
            fake = any(isinstance(tensor, FakeTensor) for tensor in tensors)
            return not fake and sum(tensor.numel() for tensor in tensors) <= _KNOWN_ELEMENTS
        return self._counting and _counts(func, args, kwargs)

    def _nonzero(self, mask: torch.Tensor) -> torch.Tensor:
        assert self.routing is not None
        if mask.dim() == 1 and mask.shape[0] - self.routing.experts in (0, 1):  # which experts have any token; or none
            with unset_fake_temporarily():
                return torch.arange(self.routing.active).unsqueeze(1)
        return torch.empty((mask.dim(), self.routing.hits(mask)), dtype=torch.int64).t()  # as torch lays it out

    def _as_positions(self, indices: Sequence[torch.Tensor | None]) -> list[torch.Tensor | None]:
        """Boolean masks among the indices as the positions they would select."""
        positions: list[torch.Tensor | None] = []
        for index in indices:
            if index is not None and index.dtype in (torch.bool, torch.uint8):
                positions.extend(self._nonzero(index).unbind(1))
            else:
                positions.append(index)
        return positions


def _counts(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether an op without tensor inputs makes integers, booleans, or a mask of ones."""
    if func not in _COUNTING_OPS:
        return False
    dtype = kwargs.get("dtype")
    if func is _aten.ones.default:
        return math.prod(args[0]) <= _KNOWN_ELEMENTS
    if dtype is None:  # a range of integers is int64
        return func._schema.name == "aten::arange" and all(isinstance(value, int) for value in args)
    return dtype in _COUNTING_TYPES


@contextlib.contextmanager
def _convertible_modules() -> Iterator[None]:
    """``module.to(dtype)`` gives modules new parameters: torch would swap the fake ones in place, which often fails."""

    def to(module: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.nn.Module:
        _, dtype, _, _ = torch._C._nn._parse_to(*args, **kwargs)
        if dtype is not None:
            _convert(module, dtype)
        return module

    with mock.patch.object(torch.nn.Module, "to", to):
        yield


def _convert(module: torch.nn.Module, dtype: torch.dtype) -> None:
    converted: dict[int, torch.nn.Parameter] = {}  # what is shared stays shared
    for child in module.modules():
        for name, parameter in child._parameters.items():
            if parameter is not None and parameter.is_floating_point() and parameter.dtype != dtype:
                if id(parameter) not in converted:
                    new = parameter.detach().to(dtype)
                    converted[id(parameter)] = torch.nn.Parameter(new, requires_grad=parameter.requires_grad)
                child._parameters[name] = converted[id(parameter)]
        for name, buffer in child._buffers.items():
            if buffer is not None and buffer.is_floating_point():
                child._buffers[name] = buffer.to(dtype)


def _zero(scalar: torch.Tensor) -> bool | int | float:
    if scalar.dtype == torch.bool:
        return False
    return 0.0 if scalar.dtype.is_floating_point else 0
