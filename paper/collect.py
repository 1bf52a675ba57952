"""Reads the runs and results of the experiments back as plain data, which claims and pages are made from."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RunError
from . import experiments
from .plan import SCHEMA_VERSION, Plan

if TYPE_CHECKING:
    from ..profiler.run import Run

#: Ops, and kernels, that a breakdown names.
TOP = 10

Data = dict[str, Any]


def collect(plan: Plan, folder: Path, command: str) -> Data:
    """Everything that is there of a plan; what has not been run is ``None``.

    Args:
        plan: what was run.
        folder: where.
        command: how to make it again.

    Raises:
        RunError: a run or a result is damaged.
    """
    from .. import fl_studies, lab
    from ..profiler.environment import describe_environment

    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "paper",
        "plan": dataclasses.asdict(plan),
        "scaling": _scaling(plan, folder),
        "links": _links(plan, folder),
        "breakdown": _breakdown(plan, folder),
        "here": _here(folder),
        "optimizer": _optimizers(plan, folder),
        "ab": lab.load(folder / experiments.AB) if (folder / experiments.AB / lab.RESULT_FILE).is_file() else None,
        **{
            name: fl_studies.load(place) if (place / fl_studies.STUDY_FILE).is_file() else None
            for name, place in (
                ("compression", folder / experiments.COMPRESSION),
                ("selection", folder / experiments.SELECTION),
            )
        },
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        "environment": {
            k: v for k, v in describe_environment().items() if k in ("edgeroof", "python", "torch", "transformers")
        },
    }


def _summary(place: Path) -> Data | None:
    from ..profiler.summary_types import read_summary

    file = place / "run.json"
    return read_summary(file.read_bytes()) if file.is_file() else None


def _scaling(plan: Plan, folder: Path) -> list[Data] | None:
    rows = []
    for device in plan.devices:
        for model in plan.models:
            for precision in plan.precisions:
                for batch in plan.batch_sizes:
                    found = _summary(experiments.scaling_place(folder, device, model, precision, batch))
                    if found is None:
                        return None
                    rows.append(
                        {"device": device, "model": model, "precision": precision, "batch_size": batch, **_point(found)}
                    )
    return rows


def _point(summary: Mapping[str, Any]) -> Data:
    metrics, projection = summary["metrics"], summary["projection"]
    step, tokens = projection["step_time_ms"], metrics["tokens_per_s"]["non_padding"]
    return {
        "title": summary["device"]["title"],
        "step_ms": step,
        "mfu": metrics["mfu"]["value"],
        "denominator": metrics["mfu"].get("denominator"),
        "model_flops": metrics["mfu"].get("model_flops"),
        "parameters": summary["workload"].get("parameters"),
        "matrix_peak_gflops": _matrix_peak(summary["device"]),
        "tokens_per_s": tokens,
        "tokens_per_s_per_w": _per_watt(summary, tokens * step["value"] * 1e-3),
        "memory": projection["memory"],
        "bounds": {entry["bound"]: entry["share"] for entry in summary["bounds"]},
        "phases": {entry["phase"]: {k: entry[k] for k in ("value", "low", "high")} for entry in projection["phases"]},
    }


def _matrix_peak(device: Mapping[str, Any]) -> float | None:
    """The dense 16-bit peak of the data sheet, which many take as the denominator whatever they compute in."""
    spec = next((roof for roof in device["roofs"] if roof["source"] == "spec"), None)
    peaks = (spec or {}).get("peaks_gflops", {}).get("tensor", {})
    return max((peaks[name] for name in ("bf16", "fp16") if name in peaks), default=None)


def _per_watt(summary: Mapping[str, Any], tokens: float) -> Data | None:
    """Between what tokens/s/W lies: from the budget of the power mode down to rest; without modes, the least only."""
    from ..profiler.device import load_device

    modes = [mode for mode in summary["projection"]["power_modes"] if mode["chosen"] and mode["energy_j"]]
    if modes:
        energy = modes[0]["energy_j"]
        return {"low": tokens / energy["high"], "high": tokens / energy["low"]}
    limit = load_device(summary["device"]["name"]).power_w
    seconds = summary["projection"]["step_time_ms"]["value"] * 1e-3
    return {"low": tokens / (limit * seconds), "high": None} if limit else None


def _links(plan: Plan, folder: Path) -> Data | None:
    from .. import fl

    file = folder / experiments.LINKS / fl.GRANULARITY_FILE
    if not file.is_file():
        return None
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{file} is damaged: {error}; remove it to run this part again") from error
    for case in result["cases"]:
        rank, device, model = case["lora_rank"], case["device"], case["model"]
        place = (
            experiments.scaling_place(folder, device, model, plan.precisions[0], plan.federated_batch)
            if rank is None
            else experiments.adapter_place(folder, device, model)
        )
        summary = _summary(place)
        memory = summary["projection"]["memory"] if summary else None
        case["fits"] = memory["fits"] if memory else None
    return dict(result)


def _breakdown(plan: Plan, folder: Path) -> list[Data] | None:
    """One entry for each projected device, with what a timer on the host would have said."""
    from ..profiler.run import load

    file = folder / experiments.HOST_TIMER_FILE
    places = [experiments.breakdown_place(folder, device) for device in plan.devices]
    if not file.is_file() or not all((place / "run.json").is_file() for place in places):
        return None
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{file} is damaged: {error}; remove it to run this part again") from error
    return [_shares(load(place)) | {"host_ms": said[device]} for device, place in zip(plan.devices, places)]


def _here(folder: Path) -> Data | None:
    """The step that was measured on this machine."""
    from ..profiler.run import load

    place = folder / experiments.MEASURED
    if not (place / "run.json").is_file():
        return None
    run = load(place)
    phases = {str(row["phase"]): row for _, row in run.phases.iterrows()}
    return _shares(run) | {
        "host_ms": {name: float(row["host_unsynced_ms"]) for name, row in phases.items()},
        "closure_ms": {name: float(row["closure_ms"]) for name, row in phases.items()},
        "power": run.summary["metrics"]["power"],
    }


def _shares(run: Run) -> Data:
    """Phases, ops and kernels of a step by time."""
    summary = run.summary
    step, projection = summary["metrics"]["step_time_ms"], summary.get("projection")
    interval = projection["step_time_ms"] if projection else {"low": step["p25"], "high": step["p75"]}
    return {
        "kind": summary["kind"],
        "device": summary["device"]["name"],
        "title": summary["device"]["title"],
        "workload": {
            k: summary["workload"].get(k)
            for k in ("model", "batch_size", "precision", "optimizer", "source_length", "target_length")
        },
        "step_ms": {"value": step["median"], "low": interval["low"], "high": interval["high"]},
        "mfu": summary["metrics"]["mfu"]["value"],
        "phases": {str(row["phase"]): float(row["device_ms"]) for _, row in run.phases.iterrows()},
        "bounds": {entry["bound"]: entry["share"] for entry in summary["bounds"]},
        "ops": _largest(run, ("op", "phase", "bound")),
        "kernels": _largest(run, ("op", "phase", "shapes", "bound")),
        "power_modes": projection["power_modes"] if projection else [],
        "assumed": projection["assumed"] if projection else [],
        "method": projection["method"] if projection else "",
    }


def _largest(run: Run, keys: tuple[str, ...]) -> list[Data]:
    from ..reports.figures import records
    from ..reports.grouping import group_kernels

    groups = group_kernels(run, keys)
    total = float(groups["time_us"].sum()) or 1.0
    return [
        {
            **{key: row[key] for key in keys},
            "time_us": row["time_us"],
            "kernels": row["kernels"],
            "share": row["time_us"] / total,
        }
        for row in records(groups.head(TOP))
    ]


def _optimizers(plan: Plan, folder: Path) -> list[Data] | None:
    rows = []
    for device in plan.devices:
        for name in plan.optimizers:
            found = _summary(experiments.optimizer_place(folder, device, name))
            if found is None:
                return None
            rows.append(_optimizer_row(device, name, found))
    return rows


def _optimizer_row(device: str, name: str, summary: Mapping[str, Any]) -> Data:
    phases = {entry["phase"]: entry for entry in summary["projection"]["phases"]}
    found, step = summary["optimizer"], summary["projection"]["step_time_ms"]["value"]
    phase = phases["optimizer"]
    return {
        "device": device,
        "optimizer": name,
        "model": summary["workload"]["model"],
        "batch_size": summary["workload"]["batch_size"],
        "ms": {key: phase[key] for key in ("value", "low", "high")},
        "step_ms": step,
        "share": phase["value"] / step,
        "parameters": found.get("parameters"),
        "bytes_per_parameter": found.get("bytes_per_parameter"),
        "bandwidth_gbs": next(roof["bandwidth_gbs"] for roof in summary["device"]["roofs"]),
        "ops": found.get("ops", []),
    }
