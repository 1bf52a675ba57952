"""What works on this machine, what does not, why, and what to do about it.

Every check is a small function that yields lines; :func:`examine` runs them all and never raises: a check that breaks
is a line of its own.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .calibrate import cache_folder
from .power.jetson import choose_rails, find_rails, read_jtop_total
from .power.nvml import probe
from .power.rapl import rapl_meter
from .tegra import is_tegra, read_state, read_text

Status = Literal["ok", "warn", "fail", "absent"]
GB = 1e9
#: A run of the default workload takes about 0.1 GB, most of it the trace.
LITTLE_SPACE_BYTES, TOO_LITTLE_SPACE_BYTES = 2 * GB, 0.2 * GB


@dataclass(frozen=True)
class Check:
    """One line of the report.

    ``ok``: works. ``warn``: works in part. ``fail``: broken. ``absent``: not here, and not needed everywhere. All but
    ``ok`` come with a remedy.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class Surroundings:
    """What the checks look at, so that tests can give them something else."""

    root: Path = Path("/")
    nvml: Any = None
    run_folder: Path = Path(".")
    is_root: bool = False


def examine(surroundings: Surroundings | None = None) -> list[Check]:
    """Run every check, in the order of the report."""
    around = surroundings or Surroundings(is_root=hasattr(os, "geteuid") and os.geteuid() == 0)
    return [line for check in CHECKS for line in _run(check, around)]


def _run(check: Callable[[Surroundings], Iterator[Check]], around: Surroundings) -> list[Check]:
    try:
        return list(check(around))
    except Exception as error:  # the report has to come out whatever a driver or a package does
        name = check.__name__.removeprefix("check_").replace("_", " ")
        detail = f"the check itself failed: {type(error).__name__}: {error}"
        return [Check(name, "fail", detail, "report this with the line above; other checks are not affected")]


def check_python(around: Surroundings) -> Iterator[Check]:
    """Python's version."""
    yield Check("python", "ok", f"{platform.python_version()}, {platform.machine()}")


def check_torch(around: Surroundings) -> Iterator[Check]:
    """PyTorch and the device it sees."""
    try:
        import torch
    except ImportError as error:
        remedy = "pip install torch; on a Jetson NVIDIA's own wheel, before edgeroof, so that it is kept"
        yield Check("torch", "fail", f"cannot be imported: {error}", remedy)
        return
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    yield Check("torch", "ok", f"{torch.__version__}, built with {build}, {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            major, minor = torch.cuda.get_device_capability(index)
            yield Check(f"CUDA device {index}", "ok", f"{torch.cuda.get_device_name(index)}, sm_{major}{minor}")
        return
    if is_tegra(around.root):
        remedy = "install NVIDIA's PyTorch wheel for this JetPack release; the one from PyPI has no CUDA for Jetson"
        yield Check("CUDA device", "fail", "this is a Jetson, but PyTorch sees no GPU", remedy)
    elif (around.root / "proc/driver/nvidia/version").exists():
        remedy = "install a PyTorch built with CUDA (https://pytorch.org/get-started), and check nvidia-smi"
        yield Check("CUDA device", "fail", "an NVIDIA driver is loaded, but PyTorch sees no GPU", remedy)
    else:
        remedy = "nothing to do on a machine without an NVIDIA GPU: the CPU is profiled"
        yield Check("CUDA device", "absent", "none", remedy)


def check_cupti(around: Surroundings) -> Iterator[Check]:
    """Permission to trace kernels (CUPTI) and to read hardware counters."""
    torch = _import("torch")
    if torch is None or not torch.cuda.is_available():
        yield Check("CUPTI", "absent", "no CUDA device to trace", "nothing to do without a GPU")
        return
    if is_tegra(around.root):
        yield _tegra_cupti(torch.version.cuda or "", around.is_root)
        return
    restricted = "RmProfilingAdminOnly: 1" in (read_text(around.root / "proc/driver/nvidia/params") or "")
    if restricted and not around.is_root:
        yield Check(
            "CUPTI",
            "warn",
            "kernels can be traced, but the driver keeps hardware counters for administrators",
            "for counters: echo 'options nvidia NVreg_RestrictProfilingToAdminUsers=0' | sudo tee "
            "/etc/modprobe.d/nvidia-profiling.conf, then rebuild the initramfs and reboot (in a container: on the "
            "host, or start it with --cap-add=SYS_ADMIN); or run as root",
        )
    else:
        yield Check("CUPTI", "ok", "kernels can be traced, hardware counters are open")


def _tegra_cupti(cuda: str, is_root: bool) -> Check:
    if is_root:
        return Check("CUPTI", "ok", f"root on a Jetson, CUDA {cuda}")
    major = cuda.partition(".")[0]
    danger = "may crash in cuptiSubscribe" if major == "13" else "is refused"
    return Check(
        "CUPTI",
        "fail",
        f"on a Jetson with CUDA {cuda} tracing kernels without root {danger}",
        "run edgeroof as root: sudo -E env PATH=$PATH edgeroof profile …",
    )


def check_nvml(around: Surroundings) -> Iterator[Check]:
    """NVML's metrics, one by one."""
    for metric in probe(nvml=around.nvml):
        name = metric.name if metric.name == "NVML" else f"NVML {metric.name}"
        if metric.value is not None:
            yield Check(name, "ok", metric.value)
        elif is_tegra(around.root):
            remedy = "normal on a Jetson: power and clocks are read from sysfs instead"
            yield Check(name, "absent", metric.reason, remedy)
        elif metric.name == "NVML":
            remedy = "nothing to do without an NVIDIA GPU; with one, install its driver so that nvidia-smi works"
            yield Check(name, "absent", metric.reason, remedy)
        else:
            remedy = "this GPU or driver doesn't have it, and the report leaves it out; a newer driver may"
            yield Check(name, "warn", metric.reason, remedy)


def check_jetson_rails(around: Surroundings) -> Iterator[Check]:
    """The power rails of a Jetson."""
    rails = find_rails(around.root)
    if not rails and not is_tegra(around.root):
        yield Check("Jetson rails", "absent", "not a Jetson", "nothing to do: only Jetson boards have them")
        return
    if not rails:
        remedy = "check that the ina3221 driver is loaded (ls /sys/class/hwmon/*/name); in a container mount /sys"
        yield Check("Jetson rails", "fail", "no power monitor under /sys/class/hwmon", remedy)
        return
    summed = {rail.name for rail in choose_rails(rails)}
    for rail in rails:
        role = "counted" if rail.name in summed else "part of a counted rail"
        try:
            yield Check(f"rail {rail.name}", "ok", f"{rail.read_w():.2f} W, {role}")
        except (OSError, ValueError) as error:
            yield Check(
                f"rail {rail.name}",
                "fail",
                str(error),
                "run as root, or give this user read access to /sys/class/hwmon",
            )


def check_board(around: Surroundings) -> Iterator[Check]:
    """What a Jetson says of itself: its model and its power mode, which containers hide by default."""
    if not is_tegra(around.root):
        yield Check("Jetson board", "absent", "not a Jetson", "nothing to do: only Jetson boards have power modes")
        return
    state = read_state(around.root)
    if not state.model:
        remedy = "in a container: --security-opt systempaths=unconfined; without it --device auto cannot tell boards"
        yield Check("Jetson board", "warn", "the device tree, which names the board, is hidden", remedy)
    else:
        yield Check("Jetson board", "ok", state.model)
    if state.mode_id is None:
        remedy = "in a container: mount /var/lib/nvpmodel and /etc/nvpmodel.conf, read-only (docs/jetson.md)"
        yield Check("power mode", "warn", "cannot be read; the device's default is assumed", remedy)
    else:
        yield Check("power mode", "ok", state.mode_name or f"number {state.mode_id}")


def check_jtop(around: Surroundings) -> Iterator[Check]:
    """jetson-stats, which only serves as a cross-check."""
    if importlib.util.find_spec("jtop") is None:
        remedy = (
            "optional, on a Jetson: sudo pip install jetson-stats, then restart; power is read from sysfs without it"
        )
        yield Check("jtop", "absent", "jetson-stats is not installed", remedy)
        return
    total = read_jtop_total()
    if total is None:
        remedy = "sudo systemctl restart jtop.service, and add this user to the jtop group"
        yield Check("jtop", "warn", "installed, but its service does not answer", remedy)
    else:
        yield Check("jtop", "ok", f"{total:.1f} W in total")


def check_rapl(around: Surroundings) -> Iterator[Check]:
    """The CPU's energy counters."""
    meter = rapl_meter(around.root)
    if meter.available:
        yield Check("RAPL", "ok", meter.domain)
    elif "permission" in meter.reason:
        yield Check(
            "RAPL", "warn", meter.reason, "sudo chmod -R a+r /sys/class/powercap/intel-rapl* (until the next boot)"
        )
    else:
        remedy = "nothing to do in a virtual machine or on ARM; on a PC load the module: sudo modprobe intel_rapl_msr"
        yield Check("RAPL", "absent", meter.reason, remedy)


def check_packages(around: Surroundings) -> Iterator[Check]:
    """Packages that edgeroof uses, and those that some options need."""
    for name, needed, remedy in (
        ("nvtx", True, "pip install nvtx"),
        ("transformers", True, "pip install 'transformers>=4.48,<6'"),
        ("triton", False, "needed for fused kernels on a GPU only: pip install triton; without it PyTorch's are used"),
        ("peft", False, "needed for --lora-rank only: pip install 'edgeroof[lora]'"),
    ):
        yield _package(name, needed, remedy)


def _package(name: str, needed: bool, remedy: str) -> Check:
    if importlib.util.find_spec(name) is None:
        return Check(name, "fail" if needed else "absent", "not installed", remedy)
    try:
        importlib.import_module(name)
        return Check(name, "ok", importlib.metadata.version(name))
    except Exception as error:  # a broken binary wheel raises anything from ImportError to OSError
        return Check(
            name, "fail" if needed else "warn", f"installed, but its import fails: {error}", f"reinstall it: {remedy}"
        )


def check_disk(around: Surroundings) -> Iterator[Check]:
    """Room for run folders."""
    folder = around.run_folder.resolve()
    free = shutil.disk_usage(folder).free
    detail = f"{free / GB:.1f} GB free in {folder}"
    remedy = "free some space, or write runs elsewhere with --out; a run takes about 0.1 GB"
    if free < TOO_LITTLE_SPACE_BYTES:
        yield Check("disk", "fail", detail, remedy)
    elif free < LITTLE_SPACE_BYTES:
        yield Check("disk", "warn", detail, remedy)
    else:
        yield Check("disk", "ok", detail)


def check_cache(around: Surroundings) -> Iterator[Check]:
    """The folder where measured roofs are kept."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            yield Check("cache", "ok", f"{folder} can be written")
    except OSError as error:
        remedy = "set XDG_CACHE_HOME to a folder you can write; until then every run calibrates anew"
        yield Check("cache", "warn", f"{folder} cannot be written: {error.strerror}", remedy)


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


CHECKS: tuple[Callable[[Surroundings], Iterator[Check]], ...] = (
    check_python,
    check_torch,
    check_cupti,
    check_nvml,
    check_board,
    check_jetson_rails,
    check_jtop,
    check_rapl,
    check_packages,
    check_disk,
    check_cache,
)
