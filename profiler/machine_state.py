"""What may disturb a measurement: clocks, temperature, power and throttling of a GPU; what else runs on a CPU."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from .power.nvml import probe
from .tegra import ROOT, is_tegra, read_state, read_text

#: Metrics of NVML that are worth keeping with a measurement.
_KEPT = ("SM clock", "memory clock", "temperature", "power", "power limit", "throttling")
#: NVML's clock throttle reasons that slow a kernel down; an idle GPU and set clocks are no reason to worry.
_THROTTLE_REASONS = {
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}


def machine_state(kind: str, device_index: int = 0) -> dict[str, str]:
    """Clocks, temperature, power and throttling of a GPU, as far as they can be read, or the load of a CPU.

    Args:
        kind: ``cuda`` or ``cpu``.
        device_index: which GPU.

    Returns:
        Name → value with unit; what cannot be read is absent, and ``unknown`` then says why.
    """
    if kind == "cpu":
        return _cpu_state()
    if is_tegra():
        return _tegra_state()
    metrics = {metric.name: metric for metric in probe(device_index)}
    state = {name: metrics[name].value or "" for name in _KEPT if name in metrics and metrics[name].value}
    missing = {metric.reason for name, metric in metrics.items() if metric.value is None}
    return state if state else {"unknown": "; ".join(sorted(missing)) or "NVML gave nothing"}


def throttling(state: Mapping[str, str]) -> list[str]:
    """Why a GPU ran below its clocks, in words, from :func:`machine_state`."""
    try:
        mask = int(state.get("throttling", "").rpartition(" ")[2], 16)
    except ValueError:
        return []
    return [reason for bit, reason in _THROTTLE_REASONS.items() if mask & bit]


class OtherLoad:
    """Which share of the processors other programs used since this object was made."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._wall, self._own, self._busy = time.perf_counter(), _own_seconds(), self._busy_seconds()

    def share(self) -> float | None:
        """Between 0 and 1, ``None`` where the system does not tell."""
        wall = time.perf_counter() - self._wall
        busy_now = self._busy_seconds()
        if busy_now is None or self._busy is None or wall <= 0:
            return None
        others = (busy_now - self._busy) - (_own_seconds() - self._own)
        return min(max(others / (wall * (os.cpu_count() or 1)), 0.0), 1.0)

    def _busy_seconds(self) -> float | None:
        """Time all processors spent on anything, stolen time included, since the system was started."""
        fields = (read_text(self._root / "proc/stat") or "").partition("\n")[0].split()
        if len(fields) < 9 or fields[0] != "cpu":
            return None
        user, nice, system, _idle, _wait, irq, softirq, steal = map(int, fields[1:9])
        return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    """Processor time of this process and of the children it waited for, such as compilers."""
    return sum(os.times()[:4])


def _cpu_state() -> dict[str, str]:
    state = {"load": ", ".join(f"{value:.2f}" for value in os.getloadavg()) + " (1, 5, 15 minutes)"}
    clock = read_text(ROOT / "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq")
    if clock and clock.strip().isdigit():
        state["CPU clock"] = f"{int(clock) / 1e3:.0f} MHz"
    else:
        state["unknown"] = "clocks, temperature, power and throttling cannot be read on this CPU"
    return state


def _tegra_state() -> dict[str, str]:
    state = read_state()
    found = {
        "power mode": state.mode_name,
        "GPU clock": f"{state.gpu_now_mhz:.0f} MHz" if state.gpu_now_mhz else None,
        "memory clock": f"{state.emc_now_mhz:.0f} MHz" if state.emc_now_mhz else None,
        "temperature": _hottest_zone(),
    }
    return {name: value for name, value in found.items() if value} or {"unknown": "this board tells nothing"}


def _hottest_zone() -> str | None:
    values = []
    for path in (ROOT / "sys/class/thermal").glob("thermal_zone*/temp"):
        text = (read_text(path) or "").strip()
        if text.lstrip("-").isdigit():
            values.append(int(text) / 1e3)
    return f"{max(values):.0f} °C" if values else None
