"""What a Jetson says about itself: model, power mode, clocks and gated GPU clusters, from files any user may read.

Every function takes the root of the file system, so that tests hand in a tree of their own. The paths are those of
Jetson Linux 35 to 36 (``17000000.ga10b``, ``17000000.gpu``); whatever is absent or unreadable is ``None``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
_GPU_FOLDERS = (
    "sys/class/devfreq/*.gpu",
    "sys/class/devfreq/*ga10b*",
    "sys/devices/platform/bus@0/*.gpu/devfreq/*.gpu",
    "sys/devices/platform/*.gpu/devfreq/*.gpu",
    "sys/devices/*ga10b*/devfreq/*ga10b*",
)
#: Caps that nvpmodel writes; 0 or a huge number means "no cap".
_EMC_CAPS = ("sys/kernel/nvpmodel_clk_cap/emc", "sys/kernel/nvpmodel_emc_cap/emc_iso_cap")
_EMC_RATES = ("sys/kernel/debug/bpmp/debug/clk/emc/rate", "sys/class/devfreq/*emc*/cur_freq")
_EMC_MAXIMA = ("sys/kernel/debug/bpmp/debug/clk/emc/max_rate", "sys/class/devfreq/*emc*/max_freq")
_TPC_MASKS = ("sys/devices/platform/gpu.0/tpc_pg_mask", "sys/devices/gpu.0/tpc_pg_mask")


@dataclass(frozen=True)
class JetsonState:
    """Clocks in MHz; ``*_cap_mhz`` is what the clock may rise to, ``*_now_mhz`` what it was when read.

    ``gated_tpcs`` counts the GPU clusters that are switched off.
    """

    model: str
    mode_id: int | None = None
    mode_name: str | None = None
    gpu_cap_mhz: float | None = None
    gpu_now_mhz: float | None = None
    emc_cap_mhz: float | None = None
    emc_now_mhz: float | None = None
    gated_tpcs: int | None = None


def device_tree_model(root: Path = ROOT) -> str:
    """Model in the device tree, such as ``NVIDIA Jetson AGX Orin Developer Kit``; empty where there is none."""
    for path in ("proc/device-tree/model", "sys/firmware/devicetree/base/model"):
        text = read_text(root / path)
        if text:
            return text.strip("\0 \n")
    return ""


def is_tegra(root: Path = ROOT) -> bool:
    """Whether this is an NVIDIA Jetson (or another Tegra board)."""
    model = device_tree_model(root).lower()
    return "jetson" in model or "tegra" in model or (root / "etc/nv_tegra_release").exists()


def read_state(root: Path = ROOT) -> JetsonState:
    """Read everything that can be read without root."""
    mode_id = _mode_id(root)
    gpu = _first_folder(root, _GPU_FOLDERS)
    return JetsonState(
        model=device_tree_model(root),
        mode_id=mode_id,
        mode_name=_mode_name(root, mode_id),
        gpu_cap_mhz=_mhz(read_int(gpu / "max_freq")) if gpu else None,
        gpu_now_mhz=_mhz(read_int(gpu / "cur_freq")) if gpu else None,
        emc_cap_mhz=_mhz(_first_int(root, _EMC_CAPS)) or _mhz(_first_int(root, _EMC_MAXIMA)),
        emc_now_mhz=_mhz(_first_int(root, _EMC_RATES)),
        gated_tpcs=_gated_tpcs(root),
    )


def read_text(path: Path) -> str | None:
    """Content of a small file, ``None`` when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def read_int(path: Path) -> int | None:
    """The whole number in a small file (decimal or 0x…), ``None`` when there is none."""
    text = read_text(path)
    try:
        return int(text.strip(), 0) if text else None
    except ValueError:
        return None


def _mode_id(root: Path) -> int | None:
    """Nvpmodel keeps the active mode as ``pmode:0002``."""
    found = re.search(r"pmode:(\d+)", read_text(root / "var/lib/nvpmodel/status") or "")
    return int(found.group(1)) if found else None


def _mode_name(root: Path, mode_id: int | None) -> str | None:
    """Name of a mode in the board's own configuration."""
    text = read_text(root / "etc/nvpmodel.conf") or ""
    for number, name in re.findall(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\w+)\s*>", text):
        if int(number) == mode_id:
            return name
    return None


def _first_folder(root: Path, patterns: tuple[str, ...]) -> Path | None:
    for pattern in patterns:
        for folder in sorted(root.glob(pattern)):
            return folder
    return None


def _first_int(root: Path, patterns: tuple[str, ...]) -> int | None:
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            value = read_int(path)
            if value is not None:
                return value
    return None


def _mhz(hertz: int | None) -> float | None:
    """Hertz to MHz; values that no clock has (0, or the "no cap" of 2**31 and more) are ``None``."""
    if hertz is None or not 1e6 < hertz < 1e10 or hertz in (2**31 - 1, 2**32 - 1):
        return None
    return hertz / 1e6


def _gated_tpcs(root: Path) -> int | None:
    mask = _first_int(root, _TPC_MASKS)
    return None if mask is None or mask < 0 else bin(mask).count("1")
