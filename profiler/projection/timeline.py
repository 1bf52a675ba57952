"""Host and device in turn: the host issues kernels, the device runs them in order, and whoever is late makes gaps."""

from __future__ import annotations

from dataclasses import dataclass, field

#: Assumptions: time of a host to dispatch and launch one op of PyTorch in eager mode, in microseconds. A server's core,
#: and the ARM core of a Jetson, which is about three times slower at it.
SERVER_HOST_US = 6.0
JETSON_HOST_US = 18.0


@dataclass
class Timeline:
    """Clocks of both sides, in microseconds.

    Attributes:
        host_us_per_launch: what one launch costs the host.
        device_us: when the device is done with what it was given.
        idle_us: how long it had nothing to do.
        phases_us: time by phase, gaps included, in order of appearance.
    """

    host_us_per_launch: float
    device_us: float = 0.0
    idle_us: float = 0.0
    phases_us: dict[str, float] = field(default_factory=dict)
    _host_us: float = 0.0

    def run(self, kernel_us: float, phase: str, *, launches: int = 1, waits: bool = False) -> float:
        """Issue an op of ``kernel_us``; ``waits`` says that the host needs its result before it goes on.

        Returns:
            When it starts.
        """
        self._host_us += self.host_us_per_launch * launches
        start = max(self.device_us, self._host_us)
        end = start + kernel_us
        self.idle_us += start - self.device_us
        self.phases_us[phase] = self.phases_us.get(phase, 0.0) + end - self.device_us
        self.device_us = end
        if waits:
            self._host_us = max(self._host_us, end)
        return start
