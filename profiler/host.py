"""What this machine's CPU and memory are, from ``/proc`` and ``/sys``."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from .tegra import ROOT, read_int, read_text

_SUFFIXES = {"K": 1024, "M": 1024**2, "G": 1024**3}


@dataclass(frozen=True)
class HostInfo:
    """``cores`` counts physical cores this process may use; caches and memory are in bytes."""

    model: str
    cores: int
    l2_bytes: int | None
    llc_bytes: int | None
    memory_bytes: int


def read_host(root: Path = ROOT) -> HostInfo:
    """Describe this machine."""
    caches = _caches(root)
    return HostInfo(
        model=_cpu_model(root),
        cores=_cores(root),
        l2_bytes=caches.get(2),
        llc_bytes=caches[max(caches)] if caches else None,
        memory_bytes=_meminfo(root).get("MemTotal", 0),
    )


def available_memory(root: Path = ROOT) -> int:
    """Bytes that can be allocated without swapping (MemAvailable); also right where CPU and GPU share their memory."""
    info = _meminfo(root)
    return info.get("MemAvailable", info.get("MemFree", 0))


def _cpu_model(root: Path) -> str:
    """Model name of the first CPU; ARM kernels give none there, so the board's model stands in."""
    for line in (read_text(root / "proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() in ("model name", "hardware") and value.strip():
            return value.strip()
    board = (read_text(root / "proc/device-tree/model") or "").strip("\0 \n")
    return board or f"{platform.machine()} CPU"


def _cores(root: Path) -> int:
    """Physical cores among the CPUs this process may run on (hyper-threads of a core count once)."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    topology = root / "sys/devices/system/cpu"
    siblings = {
        (read_text(topology / f"cpu{cpu}/topology/thread_siblings_list") or f"{cpu}").strip() for cpu in allowed
    }
    return len(siblings)


def _caches(root: Path) -> dict[int, int]:
    """Size in bytes of the first CPU's data and unified caches, by level."""
    sizes: dict[int, int] = {}
    for folder in sorted((root / "sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, size = read_int(folder / "level"), _size(read_text(folder / "size"))
        if level and size and (read_text(folder / "type") or "").strip() != "Instruction":
            sizes[level] = size
    return sizes


def _size(text: str | None) -> int | None:
    text = (text or "").strip()
    number, factor = (text[:-1], _SUFFIXES[text[-1]]) if text[-1:] in _SUFFIXES else (text, 1)
    return int(number) * factor if number.isdigit() else None


def _meminfo(root: Path) -> dict[str, int]:
    """``/proc/meminfo`` in bytes."""
    values: dict[str, int] = {}
    for line in (read_text(root / "proc/meminfo") or "").splitlines():
        key, _, rest = line.partition(":")
        amount = rest.split()[:1]
        if amount and amount[0].isdigit():
            values[key] = int(amount[0]) * 1024
    return values
