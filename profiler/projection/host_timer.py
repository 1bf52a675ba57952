"""What a timer on the host that never waits for the device would say of a projected step; all of it simulated.

The host issues kernels and runs ahead of the device until the queue of launches is full; from then on it can only
issue as fast as the device finishes. Who reads the clock at the borders of phases sees when kernels were issued, not
when they ran. What is still queued at the end of the step is waited for there, as a loop does that reads its loss, and
is booked on the last phase.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..costs import Cost
from ..ops import OpRecord
from .timeline import JETSON_HOST_US, SERVER_HOST_US
from .work import SYNCHRONISING, work_of

if TYPE_CHECKING:
    from ..device import Device

#: Launches that a CUDA stream takes before the host has to wait: an assumption, from what is commonly observed.
QUEUE_LAUNCHES = 1024


def host_us_of(device: Device) -> float:
    """The host's time to issue one launch in microseconds, an assumption: a Jetson's cores take longer."""
    return JETSON_HOST_US if device.unified_memory else SERVER_HOST_US


def host_phases(
    priced: Sequence[tuple[OpRecord, Cost | None]],
    durations_us: Sequence[float],
    host_us: float,
    queue_launches: int = QUEUE_LAUNCHES,
) -> dict[str, float]:
    """Microseconds of each phase by the host's clock; together they are the step's.

    Args:
        priced: records that run a kernel, in order, with their costs.
        durations_us: of their kernels on the device.
        host_us: to issue one launch.
        queue_launches: how far the host may run ahead.
    """
    ends: deque[float] = deque(maxlen=queue_launches)
    host = device = 0.0
    phases: dict[str, float] = {}
    for (record, cost), duration in zip(priced, durations_us):
        before = host
        launches = work_of(record, cost).launches if cost else 1
        for _ in range(launches):
            host = max(host, ends[0] if len(ends) == queue_launches else 0.0) + host_us
            device = max(device, host) + duration / launches
            ends.append(device)
        if record.name in SYNCHRONISING:
            host = max(host, device)
        phases[record.phase] = phases.get(record.phase, 0.0) + host - before
    if phases:
        last = next(reversed(phases))
        phases[last] += max(0.0, device - host)
    return phases
