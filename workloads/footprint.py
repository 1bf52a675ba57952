"""How much memory a step takes, whether a device has it, and the largest batch for which it does.

The parts are what is alive at the peak of a dry run, storage by storage, in the 512-byte blocks of PyTorch's allocator.
Two things a dry run cannot see are added by rule: the workspaces of cuBLAS, and room that the allocator loses to
fragmentation. What the device keeps for itself is left free (:func:`reserved_bytes`). ``docs/dry-run.md`` says where
each figure comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from ..errors import DeviceError

if TYPE_CHECKING:
    from ..profiler.device import Device
    from ..profiler.lifetimes import MemoryTimeline
    from .client_config import ClientConfig
    from .dry import DryStep

_MIB = 1 << 20
_GIB = 1 << 30

#: Smallest block of PyTorch's CUDA allocator (``kMinBlockSize`` in CUDACachingAllocator).
BLOCK = 512

#: Workspace of one cuBLAS handle: ``:4096:2:16:8``, PyTorch's default, and what it takes on Hopper and later. Forward
#: and backward run on threads of their own, each with a handle.
CUBLAS_WORKSPACE = 8_519_680
CUBLAS_WORKSPACE_HOPPER = 32 * _MIB

#: Assumed: share of what comes and goes (activations, temporaries, gradients) that the allocator cannot give out again.
FRAGMENTATION = 0.05

#: Assumed: what the CUDA context and PyTorch's own kernels take on a card of its own memory.
CONTEXT = 600 * _MIB

#: Assumed, for memory that CPU and GPU share: what firmware withholds from Linux, as a share of what is soldered on...
CARVEOUT = 0.04
#: ...and what Linux, the process with its libraries and the CUDA context take of the rest.
UNIFIED_SYSTEM = 4 * _GIB


@dataclass(frozen=True)
class Footprint:
    """Memory of a step at its peak, in bytes.

    Attributes:
        weights: parameters and buffers.
        gradients: those there at the peak.
        states: of the optimizer.
        activations: what the forward pass and the loss allocated and something still needs.
        temporaries: what backward and the optimizer allocated and something still needs, recomputed activations
            included.
        workspace: of cuBLAS, and what fragmentation costs.
    """

    weights: int
    gradients: int
    states: int
    activations: int
    temporaries: int
    workspace: int

    @property
    def total(self) -> int:
        """All parts together."""
        return sum(getattr(self, field.name) for field in fields(self))

    def describe(self) -> dict[str, int]:
        """JSON-ready form, in bytes."""
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"total": self.total}


@dataclass(frozen=True)
class Fit:
    """Whether a step fits on a device.

    Attributes:
        needed: bytes of the step.
        room: bytes the device has for it.
        reserved: bytes the device keeps.
    """

    needed: int
    room: int
    reserved: int

    @property
    def fits(self) -> bool:
        """Whether there is room."""
        return self.needed <= self.room

    def __str__(self) -> str:
        verdict = "fits" if self.fits else "does not fit"
        return (
            f"{verdict}: {self.needed / 1e9:.1f} GB needed, {self.room / 1e9:.1f} GB there "
            f"({self.reserved / 1e9:.1f} GB are the system's)"
        )


@dataclass(frozen=True)
class LargestBatch:
    """The largest batch that fits.

    Attributes:
        batch: 0 when not even one example fits.
        tried: bytes of every batch that was tried.
        capped: the search ended at its limit, and more would fit.
    """

    batch: int
    tried: Mapping[int, int]
    capped: bool = False


def footprint_of(
    memory: MemoryTimeline, *, training: bool = True, compute_capability: tuple[int, int] | None = None
) -> Footprint:
    """The footprint of a recorded step.

    Args:
        memory: lifetimes of its storages.
        training: it has a backward pass, whose thread has a workspace of its own.
        compute_capability: of the device; None means less than 9.0.
    """
    parts = memory.peak(BLOCK)
    moving = sum(parts.get(kind, 0) for kind in ("gradients", "activations", "temporaries"))
    handle = CUBLAS_WORKSPACE_HOPPER if (compute_capability or (0, 0)) >= (9, 0) else CUBLAS_WORKSPACE
    workspace = handle * (2 if training else 1) + int(FRAGMENTATION * moving)
    alive = {kind: parts.get(kind, 0) for kind in ("weights", "gradients", "states", "activations", "temporaries")}
    return Footprint(**alive, workspace=workspace)


def reserved_bytes(device: Device) -> int:
    """Bytes of a device's memory that a step cannot have.

    Raises:
        DeviceError: the device states no memory.
    """
    if device.unified_memory:
        return int(CARVEOUT * _memory(device)) + UNIFIED_SYSTEM
    return CONTEXT if device.kind == "cuda" else 0


def reserved_words(device: Device) -> str:
    """What :func:`reserved_bytes` assumes, for reports.

    Raises:
        DeviceError: the device states no memory.
    """
    size = f"{reserved_bytes(device) / _GIB:.1f} GiB"
    if device.unified_memory:
        return f"{size} of the memory are the system's: {CARVEOUT:.0%} and {UNIFIED_SYSTEM // _GIB} GiB"
    return f"{size} of the memory are the CUDA context's"


def fit(footprint: Footprint, device: Device) -> Fit:
    """Whether a step fits on a device.

    Raises:
        DeviceError: the device states no memory.
    """
    reserved = reserved_bytes(device)
    return Fit(footprint.total, max(0, _memory(device) - reserved), reserved)


def largest_client_batch(config: ClientConfig, device: Device, known: DryStep | None = None) -> LargestBatch:
    """The largest batch of a client's step that fits on a device; dry runs find it.

    Args:
        config: the step.
        device: where it should fit.
        known: a dry run of the same step with any batch, to save one.
    """
    from dataclasses import replace

    from .dry import dry_step

    def total_at(batch: int) -> int:
        changed = replace(config, batch_size=batch, dialogues=_enough(config, batch))
        return dry_step(changed, compute_capability=device.compute_capability).footprint.total

    return largest_batch(total_at, _room(device), _known(known))


def largest_model_batch(device: Device, known: DryStep | None = None, **arguments: Any) -> LargestBatch:
    """The largest batch of a model's pass that fits on a device.

    Args:
        device: where it should fit.
        known: a dry run of the same pass with any batch.
        **arguments: of :func:`~.dry.dry_model`, but for the batch.
    """
    from .dry import dry_model

    def total_at(batch: int) -> int:
        return dry_model(batch=batch, compute_capability=device.compute_capability, **arguments).footprint.total

    return largest_batch(total_at, _room(device), _known(known))


def largest_batch(
    total_at: Callable[[int], int], room: int, known: Mapping[int, int] | None = None, limit: int = 4096
) -> LargestBatch:
    """Search the largest batch whose step fits.

    Memory is nearly affine in the batch: a line through two batches says where to look, and a third dry run there
    verifies it. Where the line was off, the search goes on between what fits and what does not.

    Args:
        total_at: bytes of a step with this batch; it grows with the batch.
        room: bytes there are.
        known: bytes of batches already tried.
        limit: no batch above this one is tried.
    """
    tried = dict(known or {})

    def total(batch: int) -> int:
        if batch not in tried:
            tried[batch] = total_at(batch)
        return tried[batch]

    fits = max((batch for batch, needed in tried.items() if needed <= room), default=0)
    fails = min((batch for batch, needed in tried.items() if needed > room), default=limit + 1)
    while fails - fits > 1:
        line = _line(tried)
        guess = _guess(line, room, fits, fails)
        if total(guess) > room:
            fails = guess
            continue
        fits = guess
        if line is not None and _on_line(line, guess, tried[guess]) and _value(line, guess + 1) > room:
            break
    return LargestBatch(fits, tried, capped=fits == limit)


def _line(tried: Mapping[int, int]) -> tuple[float, float] | None:
    """Offset and slope through the two largest batches tried, None before there are two."""
    if len(tried) < 2:
        return None
    low, high = sorted(tried)[-2:]
    slope = (tried[high] - tried[low]) / (high - low)
    return (tried[high] - slope * high, slope) if slope > 0 else None


def _guess(line: tuple[float, float] | None, room: int, fits: int, fails: int) -> int:
    wanted = 2 * fits or 1 if line is None else int((room - line[0]) / line[1])
    return min(max(wanted, fits + 1), fails - 1)


def _value(line: tuple[float, float], batch: int) -> float:
    return line[0] + line[1] * batch


def _on_line(line: tuple[float, float], batch: int, needed: int) -> bool:
    return abs(_value(line, batch) - needed) < 0.002 * needed


def _enough(config: ClientConfig, batch: int) -> int | None:
    """Dialogues that fill one step of a larger batch; a file of them has as many as it has."""
    needed = batch * config.gradient_accumulation * config.clients
    return config.dialogues if config.data is not None else max(needed, config.dialogues or 0)


def _known(dry: DryStep | None) -> dict[int, int]:
    return {} if dry is None else {int(dry.workload["batch_size"]): dry.footprint.total}


def _room(device: Device) -> int:
    return _memory(device) - reserved_bytes(device)


def _memory(device: Device) -> int:
    if device.memory_bytes is None:
        raise DeviceError(f"{device.title} states no memory; add figures.memory_gib to its device file")
    return device.memory_bytes
