"""Calibration: the roofs that this machine reaches, measured once and kept.

What counts as a roof is what no kernel should beat by much, so each is the best of several patterns or shapes, each
repeated. The raw measurements are kept beside the roof, in ``$XDG_CACHE_HOME/edgeroof/roofs``, one JSON file for each
machine and setting (device, cores, PyTorch, threads, power mode).
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import CalibrationError
from .device import Device, Roof

CACHE_VERSION = 1
MOST_ATTEMPTS = 3

#: Called with what is being measured and the share that is done, 0 to 1.
Progress = Callable[[str, float], None]


def calibrate(
    device: Device, *, force: bool = False, on_progress: Progress | None = None, quick: bool = False
) -> Device:
    """Measure this machine's roofs, or take them from the cache.

    Args:
        device: this machine's device, from :func:`~edgeroof.profiler.device.detect`. Not one to project on.
        force: measure even if the cache has roofs for this machine.
        on_progress: called with a text and the share done.
        quick: tiny sizes and few repeats, for tests; the figures are too low to be roofs and are not cached.

    Returns:
        The device with ``measured`` set.

    Raises:
        CalibrationError: the device is not this machine's, there is no PyTorch, or there is too little memory.
    """
    earlier = None if force or quick else read_record(device)
    if earlier is not None and not _worth_repeating(earlier):
        return dataclasses.replace(device, measured=Roof(**earlier["roof"]))
    started = time.perf_counter()
    roof, raw = _measure(device, on_progress or _silent, quick)
    contended = is_contended(device, raw)
    if earlier is not None:
        roof = _higher(Roof(**earlier["roof"]), roof)
    if not quick:
        record = {
            "version": CACHE_VERSION,
            "machine": machine_key(device),
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - started, 2),
            "contended": contended,
            "attempts": 1 + (earlier["attempts"] if earlier else 0),
            "roof": dataclasses.asdict(roof),
            "raw": raw,
        }
        _write(cache_path(device), record)
    if on_progress:
        on_progress("done", 1.0)
    return dataclasses.replace(device, measured=roof)


def cached_roof(device: Device) -> Roof | None:
    """The roof measured earlier on this machine and setting, ``None`` if there is none."""
    record = read_record(device)
    return None if record is None else Roof(**record["roof"])


def read_record(device: Device) -> dict[str, Any] | None:
    """The whole cache record: ``machine``, ``created``, ``seconds``, ``roof`` and the ``raw`` measurements.

    A record that is absent, damaged, or of another version or machine counts as none.
    """
    try:
        record = json.loads(cache_path(device).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if _is_sound(record, machine_key(device)) else None


def cache_folder() -> Path:
    """Folder of the cache: ``$XDG_CACHE_HOME/edgeroof/roofs``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "edgeroof" / "roofs"


def cache_path(device: Device) -> Path:
    """Where the roofs of this machine and setting are kept."""
    digest = hashlib.sha256(json.dumps(machine_key(device), sort_keys=True).encode()).hexdigest()[:16]
    return cache_folder() / f"{device.name}-{digest}.json"


def machine_key(device: Device) -> dict[str, Any]:
    """Everything that a measured roof depends on."""
    import torch

    return {
        "title": device.title,
        "kind": device.kind,
        "cores": device.cores,
        "sm_count": device.sm_count,
        "memory_bytes": device.memory_bytes,
        "power_mode": device.power_mode,
        "clocks": device.spec.note if device.spec and device.power_modes else None,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads() if device.kind == "cpu" else None,
    }


def is_contended(device: Device, raw: dict[str, Any]) -> bool:
    """Whether other programs slowed the measurement down. Only a CPU's is watched for that."""
    if device.kind != "cpu":
        return False
    from . import calibrate_cpu

    return calibrate_cpu.is_contended(raw)


def _worth_repeating(record: dict[str, Any]) -> bool:
    """A roof measured beside other programs is measured again, but not for ever on a machine that is always busy."""
    return record["contended"] and record["attempts"] < MOST_ATTEMPTS


#: Begins the note of a roof that several calibrations made.
_BEST_OF_SEVERAL = "the best of several calibrations; of the fastest: "


def _higher(one: Roof, other: Roof) -> Roof:
    """The higher of two measurements, figure by figure: neither can be above what the machine reaches."""
    best = max(one, other, key=lambda roof: roof.peaks["vector"]["fp32"])
    worse = one if best is other else other
    peaks = {
        unit: {dtype: max(rate, worse.peaks.get(unit, {}).get(dtype, 0.0)) for dtype, rate in rates.items()}
        for unit, rates in best.peaks.items()
    }
    return Roof(
        "measured",
        max(one.bandwidth, other.bandwidth),
        peaks,
        min(one.launch_floor_us, other.launch_floor_us),
        _BEST_OF_SEVERAL + best.note.removeprefix(_BEST_OF_SEVERAL),
    )


def _measure(device: Device, report: Progress, quick: bool) -> tuple[Roof, dict[str, Any]]:
    try:
        import torch
    except ImportError as error:
        raise CalibrationError("calibration needs PyTorch: pip install torch") from error
    if device.kind == "cpu":
        from . import calibrate_cpu

        raw = calibrate_cpu.measure_cpu(device, report, quick)
        return calibrate_cpu.assemble(raw), raw
    if not torch.cuda.is_available():
        raise CalibrationError(
            f"{device.title} cannot be calibrated here: PyTorch sees no CUDA device. "
            "Calibration measures the machine it runs on; use the spec roofs for other devices."
        )
    name, capability = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
    if device.compute_capability not in (None, capability):
        raise CalibrationError(f"{device.title} is not this machine's device, {name}: only that can be calibrated")
    from . import calibrate_cuda

    raw = calibrate_cuda.measure_cuda(device, report, quick)
    return calibrate_cuda.assemble(raw), raw


def _is_sound(record: Any, key: dict[str, Any]) -> bool:
    """Whether a record has the right version, machine and shape, with positive figures."""
    if not isinstance(record, dict) or record.get("version") != CACHE_VERSION or record.get("machine") != key:
        return False
    if not isinstance(record.get("contended"), bool) or not isinstance(record.get("attempts"), int):
        return False
    roof = record.get("roof")
    if not isinstance(roof, dict) or set(roof) != {field.name for field in dataclasses.fields(Roof)}:
        return False
    peaks = roof["peaks"]
    if not isinstance(peaks, dict) or not all(isinstance(rates, dict) for rates in peaks.values()):
        return False
    figures = [
        roof["bandwidth"],
        roof["launch_floor_us"],
        *(rate for rates in peaks.values() for rate in rates.values()),
    ]
    return "fp32" in peaks.get("vector", {}) and all(
        isinstance(figure, (int, float)) and 0 < figure < float("inf") for figure in figures
    )


def _write(path: Path, record: dict[str, Any]) -> None:
    """Write by renaming, so that a reader never sees half a file.

    A folder that cannot be written is no reason to throw the measurement away: it is then only not kept, which
    ``edgeroof doctor`` reports.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
    except OSError:
        return
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(record, file, indent=1)
        os.replace(partial, path)
    except OSError:
        Path(partial).unlink(missing_ok=True)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def _silent(message: str, done: float) -> None:
    """Stands in for a progress display that nobody asked for."""
