"""Projected times of a device that is not there: of a kernel from its record and cost, of a step from all of them.

    projector = Projector(load_device("orin"))
    step = projector.step([(record, cost), ...])
    step.total, step.phases["backward"], step.kernels[0].how

Everything here is projected, and every time has an interval (see :mod:`.intervals`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..costs import Cost
from ..device import Device
from ..ops import OpRecord
from .access import overfetched_bytes
from .coefficients import Coefficients, load_coefficients
from .hardware import Hardware, describe_hardware
from .intervals import (
    CPU,
    SMALL_BOARD,
    UNKNOWN_POWER,
    UNMEASURED,
    UNMEASURED_BOARD,
    Interval,
    kernel_interval,
    step_interval,
)
from .kernel_time import KernelTime, other_kernel, product_kernels, totals
from .power import sustained_clock_share
from .residency import Residency
from .timeline import JETSON_HOST_US, SERVER_HOST_US, Timeline
from .work import SYNCHRONISING, Work, work_of

#: Share of its calibrated roofs that an op reaches on a CPU: an assumption.
_CPU_EFFICIENCY = 0.75

#: Boards of up to this limit, in W, are cooled by the server's air alone.
_SMALL_BOARD_W = 100.0

#: Below this share of the clock a kernel that arithmetic bounds is bound by power.
_FULL_CLOCK = 0.97


@dataclass(frozen=True)
class Projection:
    """A projected time in microseconds, with the interval that nine in ten measurements should lie in.

    ``limit`` is ``compute``, ``power`` (compute at a clock that the power limit holds down), ``memory`` or ``latency``;
    ``how`` says in words how the time came about.
    """

    us: float
    low_us: float
    high_us: float
    limit: str
    how: str


@dataclass(frozen=True)
class StepProjection:
    """A projected step.

    Attributes:
        kernels: one entry a record, in order.
        starts_us: when each starts.
        total: the whole step, gaps included; its interval is that of whole steps.
        phases: likewise by phase.
        idle_us: how long the device waits for the host.
        clock_share: share of its clock that the board holds in products.
        notes: assumptions that were made, in words.
    """

    kernels: tuple[Projection, ...]
    starts_us: tuple[float, ...]
    total: Projection
    phases: dict[str, Projection]
    idle_us: float
    clock_share: float
    notes: tuple[str, ...]


class Projector:
    """Projects kernels and steps on one device.

    Args:
        device: a GPU, or a CPU with roofs.
        coefficients: of the efficiency model; by default those shipped.
        tf32: whether fp32 products run in TF32 on matrix units.

    Raises:
        DeviceError: the device lacks what the model needs.
    """

    def __init__(self, device: Device, coefficients: Coefficients | None = None, *, tf32: bool = False) -> None:
        self.device = device
        self.coefficients = coefficients or load_coefficients()
        self._roof = device.roof
        self._hardware = None if device.kind == "cpu" else describe_hardware(device)
        self._tf32 = tf32

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed of the device."""
        if self._hardware is None:
            return (f"a CPU: {_CPU_EFFICIENCY:.0%} of its roofs, an assumption",)
        return self._hardware.assumed

    def kernel_us(self, record: OpRecord, cost: Cost) -> Projection:
        """Time of one kernel by itself, at the clock that it would hold without end.

        Args:
            record: the op.
            cost: its FLOPs and bytes.
        """
        if self._hardware is None:
            return self._on_cpu(cost)
        share = sustained_clock_share(self._hardware, self.coefficients)
        work = self._work(record, cost)
        products = product_kernels([work], self._hardware, self.coefficients, None)
        return self._projection(work, self._time(record, cost, work, products, 0.0, share))

    def step(self, records: Sequence[tuple[OpRecord, Cost | None]]) -> StepProjection:
        """Time of a whole step: kernels in order, L2 between them, one clock for all, and the host that issues them.

        Args:
            records: the ops of the step with their costs; one without a cost takes a launch and no more.
        """
        if self._hardware is None:
            kernels = [self._on_cpu(cost) if cost else self._unpriced() for _, cost in records]
            timeline = Timeline(0.0)
            starts = [timeline.run(kernel.us, record.phase) for (record, _), kernel in zip(records, kernels)]
            return self._assemble(kernels, starts, timeline, CPU, 1.0)
        return self._step_on_gpu(records, self._hardware)

    def _step_on_gpu(self, records: Sequence[tuple[OpRecord, Cost | None]], hardware: Hardware) -> StepProjection:
        works = [self._work(record, cost) if cost else None for record, cost in records]
        share = self._clock_share(records, works, hardware)
        products = product_kernels(filter(None, works), hardware, self.coefficients, share)
        residency = Residency(hardware.l2_bytes)
        timeline = Timeline(JETSON_HOST_US if hardware.unified else SERVER_HOST_US)
        kernels: list[Projection] = []
        starts: list[float] = []
        for (record, cost), work in zip(records, works):
            resident = residency.read_hits(record)
            if cost is None or work is None:
                kernels.append(self._unpriced())
            else:
                time = self._time(record, cost, work, products, resident, share)
                kernels.append(self._projection(work, time))
            launches = work.launches if work else 1
            waits = record.name in SYNCHRONISING
            starts.append(timeline.run(kernels[-1].us, record.phase, launches=launches, waits=waits))
        unmeasured = sum(k.us for k, work in zip(kernels, works) if work and _unmeasured(work))
        widening = UNMEASURED * unmeasured / max(timeline.device_us, 1e-9)
        return self._assemble(kernels, starts, timeline, widening, share)

    def _clock_share(
        self, records: Iterable[tuple[OpRecord, Cost | None]], works: Sequence[Work | None], hardware: Hardware
    ) -> float:
        """The clock that the whole step holds: products at the full clock first, then what power allows."""
        counts = Counter(work for work in works if work and work.kind == "product")
        products = product_kernels(counts, hardware, self.coefficients, 1.0)
        compute, memory, busy = totals(products, counts, hardware)
        for (record, cost), work in zip(records, works):
            if cost and work and work.kind != "product":
                time = self._time(record, cost, work, products, 0.0, 1.0)
                compute, memory = compute + time.compute_s, memory + time.memory_s
        return sustained_clock_share(hardware, self.coefficients, compute, memory, busy)

    def _work(self, record: OpRecord, cost: Cost) -> Work:
        if self._tf32 and cost.dtype == "fp32" and self._roof.peak("tf32", "tensor") is not None:
            tensor = work_of(record, cost._replace(dtype="tf32", unit="tensor"))
            if tensor.kind == "product":
                return tensor
        return work_of(record, cost)

    def _time(
        self,
        record: OpRecord,
        cost: Cost,
        work: Work,
        products: dict[Work, KernelTime],
        resident: float,
        share: float,
    ) -> KernelTime:
        if work.kind == "product":
            return products[work]
        assert self._hardware is not None
        overfetched = overfetched_bytes(record, self._hardware.l2_bytes) if work.kind == "stream" else 0.0
        return other_kernel(
            work, cost, self._hardware, self.coefficients,
            resident=resident, overfetched=overfetched, clock_share=share,
        )  # fmt: skip

    def _projection(self, work: Work, time: KernelTime) -> Projection:
        c = self.coefficients
        gap_us = work.launches * c.gap_us
        us = time.seconds * 1e6 + gap_us
        widening = UNMEASURED if _unmeasured(work) else 0.0
        interval = kernel_interval(c, work.kind, work.batched, widening + self._board_widening())
        limit = "compute" if time.compute_s > time.memory_s else "memory"
        if limit == "compute" and time.clock_share < _FULL_CLOCK:
            limit = "power"
        if gap_us > us / 2:
            limit = "latency"
        return _projected(us, interval, limit, time.how)

    def _assemble(
        self, kernels: list[Projection], starts: list[float], timeline: Timeline, widening: float, share: float
    ) -> StepProjection:
        interval = step_interval(self.coefficients, widening + self._board_widening())
        limits = {"host": timeline.idle_us}
        for kernel in kernels:
            limits[kernel.limit] = limits.get(kernel.limit, 0.0) + kernel.us
        limit = max(limits, key=lambda name: limits[name])
        how = f"{len(kernels)} kernels"
        phases = {name: _projected(us, interval, limit, how) for name, us in timeline.phases_us.items()}
        total = _projected(timeline.device_us, interval, limit, how)
        return StepProjection(tuple(kernels), tuple(starts), total, phases, timeline.idle_us, share, self.notes)

    def _board_widening(self) -> float:
        """What the device itself adds to an interval, for what no measured GPU could teach about it."""
        if self._hardware is None:
            return 0.0
        unlike = UNMEASURED_BOARD if self._hardware.unified else 0.0
        power_w = self._hardware.power_w
        if power_w is None:
            return unlike + UNKNOWN_POWER
        return unlike + (SMALL_BOARD if power_w <= _SMALL_BOARD_W and not self._hardware.unified else 0.0)

    def _on_cpu(self, cost: Cost) -> Projection:
        peak = self._roof.peak(cost.dtype, "tensor" if cost.unit == "tensor" else "vector")
        compute = cost.flops / peak.flops_per_s if peak and cost.flops else 0.0
        memory = cost.bytes / self._roof.bandwidth
        us = max(compute, memory) * 1e6 / _CPU_EFFICIENCY + self._roof.launch_floor_us
        limit = "latency" if self._roof.launch_floor_us > us / 2 else "compute" if compute > memory else "memory"
        return _projected(us, step_interval(Coefficients(), CPU), limit, f"{_CPU_EFFICIENCY:.0%} of the roof")

    def _unpriced(self) -> Projection:
        us = self._roof.launch_floor_us if self._hardware is None else self.coefficients.gap_us
        return _projected(us, step_interval(self.coefficients, UNMEASURED), "latency", "no cost is known; a launch")


def _projected(us: float, interval: Interval, limit: str, how: str) -> Projection:
    return Projection(us, us * interval.low, us * interval.high, limit, how)


def _unmeasured(work: Work) -> bool:
    return work.unit == "tensor" or work.kind == "compute"
