"""What a suite of the A/B lab is made of, as plain data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import EdgeroofError


class ProviderError(EdgeroofError):
    """A provider cannot do what it said it could."""


@dataclass(frozen=True)
class Settings:
    """How long to measure; see :func:`~edgeroof.kernels.statistics.plan`.

    Attributes:
        pairs: least number of pairs.
        seconds: least time of pairs.
        most_seconds: most time of pairs and of building, for each provider; twice that for the base against itself.
        most_pairs: most pairs.
        precision: half-width of the interval, as a log-ratio, at which more pairs are not worth their time.
        warmup: calls before the first placement.
        energy_seconds: window of the energy meter.
        seed: of inputs and placements.
    """

    pairs: int = 30
    seconds: float = 2.0
    most_seconds: float = 20.0
    most_pairs: int = 4000
    precision: float = 0.01
    warmup: int = 3
    energy_seconds: float = 5.0
    seed: int = 0


@dataclass(frozen=True)
class Problem:
    """One size of an operation.

    Attributes:
        name: what the user types.
        title: for people.
        parameters: elements the operation works on.
        tensors: in how many tensors they come.
        dtype: of those tensors.
        flops: arithmetic of one call, ``None`` when unknown.
        floor_bytes: bytes any implementation at full precision has to move in one call, ``None`` when unknown.
        unit: what does the arithmetic.
        items: what ``parameters`` counts, for people.
    """

    name: str
    title: str
    parameters: int
    tensors: int
    dtype: str = "fp32"
    flops: float | None = None
    floor_bytes: float | None = None
    unit: str = "vector"
    items: str = "parameters"


@dataclass(frozen=True)
class Check:
    """Outcome of comparing a provider with the reference.

    Attributes:
        error: largest deviation, in the suite's measure.
        tolerance: the largest allowed.
        measure: what error is, in words.
        detail: where the largest error was, or why there is none.
    """

    error: float
    tolerance: float
    measure: str = ""
    detail: str = ""

    @property
    def passed(self) -> bool:
        """Whether the error is a number within the tolerance."""
        return self.error <= self.tolerance

    @property
    def severity(self) -> float:
        """How much of its tolerance the error takes; an error that is no number is worse than any number."""
        return self.error / self.tolerance if math.isfinite(self.error) else math.inf


@dataclass(frozen=True)
class Work:
    """A provider built for one problem, ready to be called again and again.

    Attributes:
        call: does the operation once; may return before the device is done.
        bytes_moved: bytes one call moves by the provider's own count, ``None`` when unknown.
        parts: after a call, the times of its named parts in µs.
        verify: makes the first call and compares its outcome with the reference, at the problem's full size.
        first: makes the first call where nothing is verified, such as the capture of a graph; by default ``call`` does.
    """

    call: Callable[[], object]
    bytes_moved: float | None = None
    parts: Callable[[], Mapping[str, float]] | None = None
    verify: Callable[[], Check] | None = None
    first: Callable[[], object] | None = None


def _available(problem: Problem, device: str) -> str | None:
    return None


@dataclass(frozen=True)
class Provider:
    """One implementation of the operation.

    Attributes:
        name: what the user types.
        description: one line for people.
        build: makes the work from a problem and the suite's inputs.
        unavailable: why it cannot be used for a problem on a kind of device (``cpu``, ``cuda``); ``None`` if it can.
        judged: whether ``--fail-if-slower`` is about it: edgeroof's own at full precision.
        build_once: kinds of device on which every build compiles anew, so that there is one build, in one place.
    """

    name: str
    description: str
    build: Callable[[Any, Any], Work]
    unavailable: Callable[[Any, str], str | None] = _available
    judged: bool = False
    build_once: tuple[str, ...] = ()


def _keep_inputs(inputs: Any, seed: int) -> None:
    return None


@dataclass(frozen=True)
class Suite:
    """An operation with its providers, problems, inputs and reference.

    Attributes:
        name: what the user types.
        operation: what is compared, in one line.
        providers: in the order in which they are shown.
        problems: by name.
        defaults: names of the problems to run on each kind of device.
        quick: the same for a quick look.
        baseline: name of the provider that others are compared with by default.
        inputs: makes what all providers of a problem work on: ``inputs(problem, device)``.
        refresh: puts fresh random numbers into the inputs, before each provider: ``refresh(inputs, seed)``.
        check: compares a provider with the reference on fresh random inputs:
            ``check(provider, problem, device, seed)``.
        default_providers: names to compare when the user names none; empty for all.
        notes: what a reader of the results must know.
    """

    name: str
    operation: str
    providers: tuple[Provider, ...]
    problems: Mapping[str, Any]
    defaults: Mapping[str, tuple[str, ...]]
    quick: Mapping[str, tuple[str, ...]]
    baseline: str
    inputs: Callable[[Any, str], Any]
    check: Callable[[Provider, Any, str, int], Check]
    refresh: Callable[[Any, int], None] = _keep_inputs
    default_providers: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
