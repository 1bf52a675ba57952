"""CPUs through RAPL, the energy counters under ``/sys/class/powercap``.

The kernel gives microjoules that start over at ``max_energy_range_uj``. Packages are summed, with their DRAM zones
where there are any. Core and uncore are parts of a package, and ``psys`` covers the packages too: they are left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from .common import CounterMeter, EnergyMeter, NullMeter

#: At 500 W the smallest counters (65 kJ) turn every two minutes.
POLL_S = 10.0


def rapl_meter(
    root: Path = Path("/"), *, clock: Callable[[], float] = time.perf_counter, background: bool = True
) -> EnergyMeter:
    """Meter of the CPU packages; a :class:`NullMeter` with the reason where they cannot be read."""
    zones = find_zones(root)
    if not zones:
        return NullMeter(
            "RAPL: no CPU package under /sys/class/powercap (a virtual machine, a container, or an ARM CPU)"
        )
    try:
        wraps_at = {name: _joules(zone / "max_energy_range_uj") for name, zone in zones.items()}
        for zone in zones.values():
            _joules(zone / "energy_uj")
    except PermissionError as error:
        return NullMeter(
            f"RAPL: no permission to read {error.filename}; run as root, or: sudo chmod a+r {error.filename}"
        )
    except (OSError, ValueError) as error:
        return NullMeter(f"RAPL: {error}")
    return CounterMeter(
        {name: _reader(zone) for name, zone in zones.items()},
        wraps_at=wraps_at,
        domain=" + ".join(zones),
        method="RAPL energy counters",
        interval_s=POLL_S,
        clock=clock,
        background=background,
    )


def find_zones(root: Path = Path("/")) -> dict[str, Path]:
    """Zones to sum: packages and their DRAM, by name, such as ``package-0`` and ``package-0 dram``."""
    zones: dict[str, Path] = {}
    for folder in sorted((root / "sys/class/powercap").glob("intel-rapl:*")):
        name = _zone_name(folder)
        if name.startswith("package"):
            zones[name] = folder
        elif name == "dram":
            package = _zone_name(folder.parent / folder.name.rpartition(":")[0])
            zones[f"{package} dram"] = folder
    return zones


def _zone_name(folder: Path) -> str:
    try:
        return (folder / "name").read_text().strip()
    except OSError:
        return ""


def _reader(zone: Path) -> Callable[[], float]:
    return lambda: _joules(zone / "energy_uj")


def _joules(path: Path) -> float:
    return int(path.read_text()) / 1e6
