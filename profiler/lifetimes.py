"""Lifetimes of storages: when each was allocated and freed during a step, and what was alive at the peak.

The tracker sees the storage behind every op's outputs and asks to be told when it is freed, so the peak is that of the
step as it runs, not a sum over it. It works on real and on fake tensors alike. What an op allocates and frees inside
itself is not seen.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .phases import current_phase


class Storage(NamedTuple):
    """One storage: its size, the phase that allocated it (``""`` before the step), and what it is for.

    ``kind`` is the owner's name for what existed before the step, ``gradients`` for the gradients that the step leaves
    behind, ``activations`` for what a forward pass or a loss allocated and ``temporaries`` for the rest.
    """

    nbytes: int
    phase: str
    kind: str


@dataclass(frozen=True)
class MemoryTimeline:
    """Allocations and frees of a step, in order.

    Attributes:
        storages: every storage that was alive at some time.
        events: index into ``storages`` of what was allocated, or ``-1 - index`` of what was freed.
    """

    storages: tuple[Storage, ...]
    events: tuple[int, ...]

    def peak(self, rounding: int = 1) -> dict[str, int]:
        """Bytes alive at the moment when most are, by kind.

        Args:
            rounding: every storage takes a multiple of this many bytes, as an allocator's smallest block.
        """
        best, total, at_peak = 0, 0, -1
        for position, (_, change) in enumerate(self._changes(rounding)):
            total += change
            if total > best:
                best, at_peak = total, position
        return self._alive(at_peak, rounding)

    def highest(self, rounding: int = 1) -> dict[str, int]:
        """The most bytes that each kind ever takes, not all at the same moment."""
        alive: dict[str, int] = {}
        highest: dict[str, int] = {}
        for kind, change in self._changes(rounding):
            alive[kind] = alive.get(kind, 0) + change
            highest[kind] = max(highest.get(kind, 0), alive[kind])
        return highest

    def _alive(self, position: int, rounding: int) -> dict[str, int]:
        alive: dict[str, int] = {}
        for kind, change in itertools.islice(self._changes(rounding), position + 1):
            alive[kind] = alive.get(kind, 0) + change
        return alive

    def _changes(self, rounding: int) -> Iterator[tuple[str, int]]:
        """What each event adds to the memory in use, with the kind it is of."""
        for event in self.events:
            storage = self.storages[event if event >= 0 else -1 - event]
            nbytes = -(-storage.nbytes // rounding) * rounding
            yield storage.kind, nbytes if event >= 0 else -nbytes


@dataclass
class _Open:
    nbytes: int
    phase: str
    kind: str
    reference: Any = field(repr=False, default=None)


class MemoryTracker(TorchDispatchMode):
    """Context manager that follows every storage allocated inside it.

    Args:
        owners: tensors that exist already, each after what it is.
    """

    def __init__(self, owners: Iterable[tuple[str, torch.Tensor]] = ()) -> None:
        super().__init__()
        self._storages: list[_Open] = []
        self._events: list[int] = []
        self._index_of: dict[int, int] = {}  # of storages that are alive, by their address
        for kind, tensor in owners:
            self._see(tensor, "", kind)

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the op and note what it allocated; called by the dispatcher."""
        result = func(*args, **(kwargs or {}))
        phase = current_phase()
        kind = "activations" if phase in ("data", "forward", "loss") else "temporaries"
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._see(leaf, phase, kind)
        return result

    def finish(self, model: torch.nn.Module) -> MemoryTimeline:
        """The timeline so far; storages that now hold a gradient of ``model`` count as gradients."""
        for parameter in model.parameters():
            if parameter.grad is not None:
                index = self._index_of.get(parameter.grad.untyped_storage()._cdata)
                if index is not None:
                    self._storages[index].kind = "gradients"
        events = tuple(self._events)
        return MemoryTimeline(tuple(Storage(s.nbytes, s.phase, s.kind) for s in self._storages), events)

    def _see(self, tensor: torch.Tensor, phase: str, kind: str) -> None:
        if tensor.layout is not torch.strided:
            return
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address in self._index_of:
            return
        index = len(self._storages)
        self._index_of[address] = index
        self._events.append(index)
        reference = weakref.ref(storage, self._freed(address, index))
        self._storages.append(_Open(storage.nbytes(), phase, kind, reference))

    def _freed(self, address: int, index: int) -> Any:
        def note(reference: Any) -> None:
            if self._index_of.get(address) == index:
                del self._index_of[address]
            self._events.append(-1 - index)

        return note
