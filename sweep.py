"""A step over ranges of its settings, measured or projected point by point; a later call goes on where one was stopped.

plan = edgeroof.sweep.make_plan({"batch_size": [8, 16, 32]}, {"model": "base"}, device="orin")
result = edgeroof.sweep.run(plan, "runs/sweep-base-orin")
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import functools
import itertools
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import DeviceError, EdgeroofError, OutOfMemoryError, RunError, UsageError
from .result_files import read_result, write_json, write_result_beside
from .sweep_identity import changed_figures, device_figures, model_contents, point_name
from .sweep_points import POINTS, describe_point, in_words, knees, remaining_seconds

PLAN_FILE = "plan.json"
RESULT_FILE = "sweep.json"
SCHEMA_VERSION = 1
MODE_FILE = ".power-mode.json"
#: What can become of a point that was tried.
STATES = ("finished", "out of memory", "failed")
#: What can be swept over; a power mode on devices that are projected, and on a Jetson by root.
AXES = ("model", "batch_size", "source_length", "precision", "optimizer", "attention", "power_mode")

#: Called with what is being done, the points done, the points in all, and the seconds left (least, most) if known.
Progress = Callable[[str, int, int, "tuple[float, float] | None"], None]


def make_plan(
    axes: Mapping[str, Sequence[Any]],
    base: Mapping[str, Any] | None = None,
    *,
    device: str = "auto",
    capture: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Every combination of the axes' values, as plain data, with the figures of the device as they are now.

    Args:
        axes: values by the names of :data:`AXES`.
        base: other fields of :class:`~edgeroof.workloads.client_config.ClientConfig`, the same for all points.
        device: ``auto`` or ``cpu`` to measure on this machine, or the name of another device to project on.
        capture: fields of :class:`~edgeroof.profiler.capture.CaptureOptions` where points are measured.

    Raises:
        UsageError: an unknown axis, no values or senseless ones, or power modes that cannot be chosen.
        DeviceError: the device is unknown.
    """
    from .profiler.capture import CaptureOptions
    from .project import is_elsewhere

    unknown = [name for name in axes if name not in AXES]
    if unknown or not axes or not all(axes.values()):
        raise UsageError(f"a sweep needs values for one of {', '.join(AXES)} at least; unknown: {unknown or 'none'}")
    projected = device not in ("auto", "cpu") and is_elsewhere(device)
    CaptureOptions(**(capture or {}))  # refuses numbers of steps that make no sense
    _check_modes(device if projected else None, axes.get("power_mode", ()))
    values = {name: list(dict.fromkeys(axes[name])) for name in AXES if name in axes}
    _check(values, base or {})
    contents = model_contents([*values.get("model", ()), *([base["model"]] if base and "model" in base else [])])
    points = [dict(zip(values, combination)) for combination in itertools.product(*values.values())]
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "sweep",
        "device": device,
        "projected": projected,
        "axes": values,
        "base": dict(base or {}),
        "capture": dict(capture or {}),
        "figures": device_figures(device),
        "contents": contents,
        "points": [{"name": point_name(config, contents), "config": config} for config in points],
    }


def _check_modes(projected_on: str | None, names: Sequence[str]) -> None:
    """Refuse power modes that the device does not have, or that cannot be chosen on this machine."""
    from .profiler.device import load_device
    from .profiler.nvpmodel import this_board

    board = this_board()
    reason = board.why_not() if names and projected_on is None else None
    if reason:
        raise UsageError(f"no power mode can be chosen: {reason}. Name another device to sweep by projection only")
    for name in names:
        try:
            _ = board.find(name) if projected_on is None else load_device(projected_on, power_mode=name)
        except DeviceError as error:
            raise UsageError(str(error)) from error


def _check(values: Mapping[str, Sequence[Any]], base: Mapping[str, Any]) -> None:
    """Refuse a value that makes no sense anywhere before anything starts."""
    from . import api

    if set(values) == {"power_mode"}:
        api.check_config(**base)
    for name, chosen in values.items():
        for value in chosen if name != "power_mode" else ():
            api.check_config(**{**base, name: value})


def run(
    plan: Mapping[str, Any],
    path: str | Path,
    *,
    on_progress: Progress = lambda what, done, total, left: None,
    command: str = "",
) -> dict[str, Any]:
    """Run what is missing of a sweep, and report on all of it.

    A point that does not fit into memory, or cannot be run for another reason, is recorded and the sweep goes on. Only
    points that failed for another reason than memory are tried again by a later call.

    Args:
        plan: from :func:`make_plan`.
        path: folder of the sweep; it may hold an earlier one, which may have had other values on its axes.
        on_progress: told before every point and after the last.
        command: how to make the result again.

    Returns:
        The JSON-ready result.

    Raises:
        RunError: the folder holds something else, a sweep with other settings, or one that is at work.
    """
    folder = Path(path).absolute()
    with _alone(folder):
        return _run(plan, folder, on_progress, command)


def _run(plan: Mapping[str, Any], folder: Path, on_progress: Progress, command: str) -> dict[str, Any]:
    _prepare(plan, folder)
    open_points = [point for point in _in_order(plan) if not _finished(folder, point["name"])]
    everything = len(plan["points"])
    with _power_modes(plan, folder, open_points) as choose_mode:
        for place, point in enumerate(open_points):
            left = open_points[place:]
            on_progress(
                in_words(point["config"], plan["axes"]), everything - len(left), everything, _left(plan, folder, left)
            )
            run_it = functools.partial(_run_point, plan, point, folder / POINTS / point["name"], command, choose_mode)
            _record(folder, point["name"], _attempt(run_it))
    on_progress("done", everything, everything, None)
    result = collect(plan, folder, command)
    _save(result, folder)
    return result


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second sweep out of the folder; the lock goes with the process, however that ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        place = os.open(folder, os.O_RDONLY)
    except FileExistsError:
        raise RunError(f"{folder} is a file; name a folder with --out") from None
    except OSError as error:
        raise RunError(f"the sweep cannot be kept in {folder}: {error.strerror or error}") from error
    try:
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(place)
        raise RunError(f"another sweep is at work in {folder}; wait for it, or name another with --out") from None
    try:
        yield
    finally:
        os.close(place)


def _in_order(plan: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The points as they are run: those of one power mode together, since changing it takes a while."""
    modes = plan["axes"].get("power_mode", [None])
    return sorted(plan["points"], key=lambda point: modes.index(point["config"].get("power_mode")))


def _power_modes(
    plan: Mapping[str, Any], folder: Path, open_points: Sequence[Any]
) -> contextlib.AbstractContextManager[Callable[[str], None] | None]:
    """A way to choose this board's power mode, where that is swept over; the mode that is on now comes back."""
    from .profiler.nvpmodel import mode_put_back, this_board

    if plan["projected"] or "power_mode" not in plan["axes"] or not (open_points or (folder / MODE_FILE).exists()):
        return contextlib.nullcontext()
    return mode_put_back(this_board(), folder / MODE_FILE)


def collect(plan: Mapping[str, Any], folder: Path, command: str = "") -> dict[str, Any]:
    """The result of the points that are there; others are ``pending``."""
    points = [describe_point(point, *_outcome(folder, point["name"])) for point in plan["points"]]
    return {
        **plan,
        "numbers": "projected" if plan["projected"] else "measured",
        "points": points,
        "knees": knees(plan["axes"], points),
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": command,
    }


def load(path: str | Path) -> dict[str, Any]:
    """Read a result from its folder or its ``sweep.json``.

    Raises:
        RunError: there is none, it is damaged, or of another version.
    """
    return _read(path, RESULT_FILE)


def _read(path: str | Path, name: str) -> dict[str, Any]:
    return read_result(
        path, name, kind="sweep", version=SCHEMA_VERSION, what="the sweep", none="no sweep", remedy="sweep again"
    )


def _prepare(plan: Mapping[str, Any], folder: Path) -> None:
    """Make the folder, or check that it is one to go on with; what an interrupted point left is removed."""
    known = folder / PLAN_FILE
    if known.is_file():
        earlier = _read(folder, PLAN_FILE)
        _check_same(earlier, plan, folder)
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} is not empty and holds no sweep; name another folder with --out")
    try:
        (folder / POINTS).mkdir(parents=True, exist_ok=True)
        for leftover in (folder / POINTS).glob(".*"):
            shutil.rmtree(leftover, ignore_errors=True)
        write_json(known, plan)
    except OSError as error:
        raise RunError(f"the sweep cannot be kept in {folder}: {error.strerror or error}") from error


def _check_same(earlier: Mapping[str, Any], plan: Mapping[str, Any], folder: Path) -> None:
    """Refuse to go on with points whose settings, device or model are no longer those of the plan."""
    remedy = "name another folder with --out; the points here stay as they are"
    other = [name for name in ("device", "base", "capture") if earlier.get(name) != plan[name]]
    if other:
        raise RunError(f"{folder} holds a sweep with another {', '.join(other)}; {remedy}")
    if "figures" not in earlier:
        raise RunError(f"{folder} holds a sweep that does not say with which figures of the device; {remedy}")
    changed = changed_figures(earlier["figures"], plan["figures"])
    if changed:
        raise RunError(f"{folder} holds a sweep of {plan['device']} with other figures: {changed}; {remedy}")
    model = plan["base"].get("model")
    if earlier.get("contents", {}).get(model) != plan["contents"].get(model):
        raise RunError(f"{folder} holds a sweep of {model} as it was before its configuration changed; {remedy}")


def failed_points(result: Mapping[str, Any]) -> str | None:
    """How many points failed for another reason than memory, with the first reason; ``None`` where none did."""
    failed = [point for point in result["points"] if point["status"] == "failed"]
    if not failed:
        return None
    return (
        f"{len(failed)} of {len(result['points'])} points failed, and the same command tries them again; the first, "
        f"{in_words(failed[0]['config'], result['axes'])}: {failed[0]['reason']}"
    )


def _outcome(folder: Path, name: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """What is recorded of a point, and the summary of its run where it has one."""
    from .profiler.summary_types import read_summary

    file = folder / POINTS / f"{name}.json"
    record = _read_record(file) if file.is_file() else {"status": "pending"}
    run_file = folder / POINTS / name / "run.json"
    if not run_file.is_file():
        return record if record["status"] != "finished" else {"status": "pending"}, None
    try:
        summary = read_summary(run_file.read_bytes())
    except (OSError, RunError) as error:
        raise RunError(f"{run_file}: {error}; remove {run_file.parent} to run this point again") from error
    if not summary.get("metrics"):
        raise RunError(f"{run_file} has no times of steps; remove {run_file.parent} to run this point again")
    return record | {"status": "finished"}, summary


def _read_record(file: Path) -> dict[str, Any]:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        sound = record["status"] in STATES and math.isfinite(record.get("seconds", 0.0))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        sound = False
    if not sound:
        raise RunError(f"{file} is damaged; remove it, and this point is looked at again")
    return dict(record)


def _finished(folder: Path, name: str) -> bool:
    """Whether a point need not be run again: its run is there, or it is known not to fit into memory."""
    return _outcome(folder, name)[0]["status"] in ("finished", "out of memory")


def _record(folder: Path, name: str, record: Mapping[str, Any]) -> None:
    write_json(folder / POINTS / f"{name}.json", record)


def _attempt(run_point: Callable[[], None]) -> dict[str, Any]:
    """Run one point; what became of it, with the seconds that took."""
    start = time.monotonic()
    status, reason = "finished", None
    try:
        run_point()
    except OutOfMemoryError as error:
        status, reason = "out of memory", str(error)
    except EdgeroofError as error:
        status, reason = "failed", str(error)
    return {"status": status, "reason": reason, "seconds": time.monotonic() - start}


def _run_point(
    plan: Mapping[str, Any],
    point: Mapping[str, Any],
    folder: Path,
    command: str,
    choose_mode: Callable[[str], None] | None,
) -> None:
    settings = {**plan["base"], **point["config"]}
    if plan["projected"]:
        _project(plan, settings, folder, command)
        return
    mode = settings.pop("power_mode", None)
    if mode is not None and choose_mode is not None:
        choose_mode(mode)
    _measure(plan, settings, folder, command)


def _project(plan: Mapping[str, Any], settings: dict[str, Any], folder: Path, command: str) -> None:
    from .profiler.run import save
    from .project import client_step
    from .reports import html

    mode = settings.pop("power_mode", None)
    run = client_step(plan["device"], power_mode=mode, largest_batch=False, command=command, **settings)
    save(run, folder, write_report=html.write)


def _measure(plan: Mapping[str, Any], settings: Mapping[str, Any], folder: Path, command: str) -> None:
    from .sweep_worker import measure_apart

    measure_apart(
        {
            "device": plan["device"],
            "config": settings,
            "capture": plan["capture"],
            "out": str(folder),
            "command": command,
        }
    )


def _left(plan: Mapping[str, Any], folder: Path, left: Sequence[Mapping[str, Any]]) -> tuple[float, float] | None:
    """Seconds that the points ``left`` will take."""
    records = [(point, _outcome(folder, point["name"])[0]) for point in plan["points"]]
    took = [
        ({**plan["base"], **point["config"]}, record["seconds"])
        for point, record in records
        if record["status"] == "finished" and math.isfinite(record.get("seconds", math.nan))
    ]
    return remaining_seconds(took, [{**plan["base"], **point["config"]} for point in left])


def _save(result: dict[str, Any], folder: Path) -> None:
    from .reports import document_html
    from .reports.sweep import sweep_document

    write_result_beside(result, folder, RESULT_FILE, document_html.render(sweep_document(result, folder)))


__all__ = ["AXES", "collect", "failed_points", "load", "make_plan", "run"]
