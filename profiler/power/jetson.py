"""Jetson boards through their own power monitors: INA3221 (up to Orin) and INA238 (Thor) under ``/sys/class/hwmon``.

An INA3221 gives millivolts and milliamperes for up to three labelled rails, an INA238 microwatts. An AGX Orin has no
rail for the whole module; its four rails are summed, and the reading names them. Orin NX and Nano have ``VDD_IN``,
which is the module's whole input, and then only that counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .common import EnergyMeter, NullMeter, PowerMeter

#: Rails that are the whole module's (or board's) input: where there is one, the others are parts of it.
TOTAL_RAILS = ("VDD_IN", "VIN")
#: What AGX Orin's four rails cover is not documented in full; said with every reading that sums them.
AGX_ORIN_CAVEAT = (
    "no rail measures the whole module; VDDQ_VDD2_1V8AO may be fed from VIN_SYS_5V0 and then counts twice, about 1 W"
)


@dataclass(frozen=True)
class Rail:
    """One monitored supply and how to read its watts."""

    name: str
    read_w: Callable[[], float]


def jetson_meter(
    root: Path = Path("/"),
    *,
    clock: Callable[[], float] = time.perf_counter,
    background: bool = True,
    jtop_total_w: Callable[[], float | None] | None = None,
) -> EnergyMeter:
    """Meter of the module's rails; a :class:`NullMeter` with the reason where there are none.

    Args:
        root: root of the file system to read.
        clock: see :class:`SamplingMeter`.
        background: see :class:`SamplingMeter`.
        jtop_total_w: the total that jetson-stats reports, ``None`` without it; asked once, after the window.
    """
    rails = find_rails(root)
    if not rails:
        return NullMeter("Jetson: no INA3221 or INA238 power monitor under /sys/class/hwmon")
    summed = choose_rails(rails)
    try:
        for rail in summed:
            rail.read_w()
    except (OSError, ValueError) as error:
        return NullMeter(f"Jetson: a power rail cannot be read: {error}; run as root if this is about permission")
    return JetsonMeter(summed, rails, clock=clock, background=background, jtop_total_w=jtop_total_w or read_jtop_total)


class JetsonMeter(PowerMeter):
    """Sums rails, sampled every 10 ms; afterwards compares their sum with jetson-stats' total where it is installed."""

    def __init__(
        self,
        summed: list[Rail],
        rails: list[Rail],
        *,
        clock: Callable[[], float],
        background: bool,
        jtop_total_w: Callable[[], float | None],
    ) -> None:
        names = [rail.name for rail in summed]
        super().__init__(
            {rail.name: rail.read_w for rail in summed},
            domain=" + ".join(names),
            method="power rails from sysfs, sampled every 10 ms and integrated",
            interval_s=0.01,
            clock=clock,
            background=background,
        )
        self.rails = rails
        self._summed = summed
        self._jtop_total_w = jtop_total_w

    def total_w(self) -> float:
        """Sum of the chosen rails now, in watts."""
        return sum(rail.read_w() for rail in self._summed)

    def _remark(self) -> str:
        caveat = AGX_ORIN_CAVEAT if "VIN_SYS_5V0" in self.domain else ""
        jtop = self._jtop_total_w()
        if jtop is None:
            return caveat
        check = f"right after the window the rails read {self.total_w():.1f} W and jetson-stats {jtop:.1f} W"
        return f"{caveat}; {check}" if caveat else check


def find_rails(root: Path = Path("/")) -> list[Rail]:
    """Every labelled rail of every power monitor."""
    rails: list[Rail] = []
    for folder in _monitor_folders(root):
        chip = _read(folder / "name")
        if chip == "ina3221":
            rails += _ina3221_rails(folder)
        elif chip == "ina238":
            rails += _ina238_rails(folder)
    return rails


def choose_rails(rails: list[Rail]) -> list[Rail]:
    """The rails to sum: the module's input where there is one, else all."""
    total = [rail for rail in rails if rail.name in TOTAL_RAILS]
    return total[:1] or rails


def read_jtop_total() -> float | None:
    """Total power in watts as jetson-stats (jtop) reports it; ``None`` without the package or its service."""
    try:
        from jtop import jtop
    except ImportError:
        return None
    try:
        with jtop() as jetson:
            if jetson.ok():
                return jetson.power["tot"]["power"] / 1e3
    except Exception:  # jtop raises its own errors when the service is absent; a cross-check may not stop a run
        return None
    return None


def _monitor_folders(root: Path) -> list[Path]:
    """Folders of hwmon devices; older kernels only list them below the I2C driver."""
    folders = sorted((root / "sys/class/hwmon").glob("hwmon*"))
    return folders or sorted((root / "sys/bus/i2c/drivers").glob("ina*/*/hwmon/hwmon*"))


def _ina3221_rails(folder: Path) -> list[Rail]:
    """Channels 1 to 3; in7 and curr4 are sums over the chip, and a channel labelled NC is not connected."""
    rails = []
    for channel in (1, 2, 3):
        label = _read(folder / f"in{channel}_label")
        if label and label != "NC" and (folder / f"curr{channel}_input").exists():
            rails.append(Rail(label, _volts_times_amperes(folder, channel)))
    return rails


def _ina238_rails(folder: Path) -> list[Rail]:
    label = _read(folder / "power1_label") or _read(folder / "label") or _read(folder / "in1_label") or folder.name
    return [Rail(label, lambda: int((folder / "power1_input").read_text()) / 1e6)]


def _volts_times_amperes(folder: Path, channel: int) -> Callable[[], float]:
    millivolts, milliamperes = folder / f"in{channel}_input", folder / f"curr{channel}_input"
    return lambda: int(millivolts.read_text()) * int(milliamperes.read_text()) / 1e6


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
