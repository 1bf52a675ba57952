"""Where works lie in memory: a comparison is made in several places, so that no provider owes its time to one of them.

Two instances of one and the same optimizer differ by up to 3 % for as long as they live: the one built first lies
elsewhere in the heap than the one built after it, and pages, cache sets and address bits fall differently. So both
sides are taken down and built again, in turn the base and the other first, behind an allocation of random size.
Placements come in twos, one of either order, so that what the order of building is worth cancels.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from .declarations import Provider, ProviderError, Settings, Work
from .sampling import Pairs, Stopwatch, measure_pairs, one_call_seconds
from .statistics import FEWEST_PAIRS, Plan, interval_of, is_precise, plan

#: Bootstrap samples where an interval decides only whether to go on.
FEW_DRAWS = 400
#: Bytes of the allocation before each build: within the small blocks of the allocators of CPU and GPU.
LARGEST_SHIM = 1 << 16


class Site:
    """A provider at work on one problem; it can be taken down and built again.

    Args:
        provider: what to build.
        problem: for what.
        inputs: what all providers of the problem work on.
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, provider: Provider, problem: Any, inputs: Any, device: str) -> None:
        self.provider = provider
        self._problem, self._inputs, self._device = problem, inputs, device
        self._work: Work | None = None
        self._shim: Any = None

    @property
    def movable(self) -> bool:
        """Whether it may be built again: not where building compiles for minutes."""
        return self._device not in self.provider.build_once

    @property
    def work(self) -> Work:
        """The work as it stands, built and called once if there was none."""
        return self._work or self.ready()

    def build(self) -> Work:
        """Build the work without calling it."""
        self._work = self.provider.build(self._problem, self._inputs)
        return self._work

    def ready(self) -> Work:
        """Build the work and make its first call."""
        work = self.build()
        (work.first or work.call)()
        return work

    def take_down(self) -> None:
        """Let go of the work, unless it must stay."""
        if self.movable:
            self._work = self._shim = None

    def put_up(self, draw: random.Random) -> None:
        """Build the work again where it is down, behind an allocation of random size."""
        if self._work is None:
            self._shim = _allocate(draw.randrange(1, LARGEST_SHIM), self._device)
            self.ready()


def move(base: Site, other: Site, number: int, draw: random.Random, release: Callable[[], None]) -> None:
    """Take both sides down and build them elsewhere.

    Args:
        base: the base's site.
        other: the other provider's.
        number: of the placement; the base is built first in even ones.
        draw: of the random sizes.
        release: gives freed memory back, before anything is built: both sides never lie in memory twice.
    """
    base.take_down()
    other.take_down()
    release()
    for site in (base, other) if number % 2 == 0 else (other, base):
        site.put_up(draw)


def take_pairs(
    base: Site, other: Site, settings: Settings, watch: Stopwatch, release: Callable[[], None]
) -> dict[str, Pairs]:
    """Pairs from as many placements as the plan asks for, and from more until they are precise or time is up.

    Args:
        base: the base's site.
        other: the other provider's.
        settings: how long to measure.
        watch: times the calls.
        release: gives freed memory back.

    Returns:
        The pairs of each clock: ``wall``, ``device`` where it differs, and the works' parts.

    Raises:
        ProviderError: a pair takes so long that the fewest pairs would exceed the time by far.
    """
    draw = random.Random(settings.seed)
    began = watch.seconds()
    planned = _plan(base, other, settings, watch, lambda: move(base, other, 0, draw, release))
    found: dict[str, Pairs] = {}
    done = 0
    while True:
        if done:
            move(base, other, done, draw, release)
        pairs = measure_pairs(base.work, other.work, planned.pairs, watch, other_first=done // 2 % 2 == 1)
        for key, series in pairs.items():
            found.setdefault(key, Pairs()).extend(series)
        done += 1
        if planned.placements == 1:
            return found
        if done < planned.placements or done % 2:
            continue
        if _enough(found["wall"], settings) or (watch.seconds() - began) * (1 + 2 / done) > settings.most_seconds:
            return found


def _plan(base: Site, other: Site, settings: Settings, watch: Stopwatch, build: Callable[[], None]) -> Plan:
    """Time a pair and building, and plan by them."""
    each = one_call_seconds(base.work, watch) + one_call_seconds(other.work, watch)
    if FEWEST_PAIRS * each > 2 * settings.most_seconds:
        limit = f"{FEWEST_PAIRS} pairs would exceed --most-seconds {settings.most_seconds:g}"
        raise ProviderError(f"too slow to compare: a pair takes {each:.3g} s, so {limit} by far")
    build_seconds = None
    if base.movable or other.movable:
        began = watch.seconds()
        build()
        watch.synchronize()
        build_seconds = watch.seconds() - began
    limits = {name: getattr(settings, name) for name in ("pairs", "seconds", "most_seconds", "most_pairs")}
    return plan(each, build_seconds, **limits)


def _enough(pairs: Pairs, settings: Settings) -> bool:
    interval = interval_of(pairs.base, pairs.other, pairs.placements, draws=FEW_DRAWS)
    return len(pairs.base) >= settings.most_pairs or is_precise(interval, settings.precision)


def _allocate(size: int, device: str) -> Any:
    import torch

    return torch.empty(size, dtype=torch.uint8, device=device)
