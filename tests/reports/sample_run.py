"""Whole runs made of invented kernels, for the reports to show: measured, imported, projected and very large."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from edgeroof.profiler.findings.headroom import bound_shares, rank_headroom
from edgeroof.profiler.findings.ledger import coverage_ledger
from edgeroof.profiler.findings.optimizer_step import drill_down
from edgeroof.profiler.run import Run
from edgeroof.profiler.schema import SCHEMA_VERSION

from .sample_kernels import BANDWIDTH, kernel_table


def phase_table(kernels: pd.DataFrame, steps: int, *, imported: bool = False) -> pd.DataFrame:
    """The phase table that goes with a kernel table."""
    rows = []
    for phase in dict.fromkeys(kernels["phase"]):
        if not phase:
            continue
        part = kernels[kernels["phase"] == phase]
        kernel_ms = part["dur_us"].sum() / 1e3 / steps
        idle_ms = 0.12 * kernel_ms + 0.2
        rows.append(
            {
                "phase": phase,
                "device_ms": math.nan if imported else kernel_ms + idle_ms,
                "host_unsynced_ms": math.nan if imported else 0.15 * kernel_ms,
                "closure_ms": math.nan if imported else 0.0,
                "profiled_ms": kernel_ms + 1.3 * idle_ms,
                "kernel_ms": kernel_ms,
                "busy_ms": kernel_ms,
                "idle_ms": 1.3 * idle_ms,
                "kernels": len(part) / steps,
                "flops": part["flops"].sum() / steps,
                "bytes": (part["bytes_read"] + part["bytes_written"]).sum() / steps,
                "headroom_ms": part["headroom_us"].sum() / 1e3 / steps,
            }
        )
    frame = pd.DataFrame(rows)
    if not imported:
        total, host = frame["device_ms"].sum(), frame["host_unsynced_ms"].sum()
        is_optimizer = frame["phase"] == "optimizer"
        frame.loc[is_optimizer, "host_unsynced_ms"] += total - host
        tail = frame["phase"].isin(["forward", "loss", "backward", "zero_grad"])
        frame["closure_ms"] = frame["device_ms"].where(~tail & ~is_optimizer, 0.0)
        frame.loc[is_optimizer, "closure_ms"] = frame.loc[tail | is_optimizer, "device_ms"].sum()
    return frame


def _device() -> dict[str, Any]:
    def peaks(scale: float) -> dict[str, dict[str, float]]:
        tensor = {"bf16": 42_500 * scale, "fp16": 42_500 * scale, "tf32": 21_250 * scale}
        return {"tensor": tensor, "vector": {"fp32": 5_300 * scale}}

    return {
        "name": "orin",
        "title": "Jetson AGX Orin 64GB",
        "kind": "cuda",
        "power_mode": "MAXN",
        "sm_count": 16,
        "l2_bytes": 4 << 20,
        "memory_bytes": 64e9,
        "unified_memory": True,
        "roof_used": "measured",
        "roofs": [
            {"source": "spec", "bandwidth_gbs": 204.8, "launch_floor_us": 4.0, "note": "MAXN, EMC 3.20 GHz",
             "peaks_gflops": peaks(1.0)},
            {"source": "measured", "bandwidth_gbs": 184.0, "launch_floor_us": 4.0,
             "note": "copy 184 GB/s, matmul 4096³ per dtype, GPU 1.30 GHz", "peaks_gflops": peaks(0.873)},
        ],
        "sources": {"peaks": "https://developer.nvidia.com/jetson-agx-orin-data-sheet", "bandwidth": "same data sheet"},
    }  # fmt: skip


def summary(kernels: pd.DataFrame, phases: pd.DataFrame, steps: int) -> dict[str, Any]:
    """The run.json that goes with the tables."""
    step_ms = float(phases["device_ms"].sum())
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "measured",
        "title": "flan-t5-small client step on Jetson AGX Orin 64GB",
        "created": "2026-11-23T18:00:00+00:00",
        "command": "edgeroof profile --model small --batch-size 32 --precision bf16",
        "profiled_steps": steps,
        "device": _device(),
        "environment": {"edgeroof": "0.1.0", "python": "3.10.12", "torch": "2.8.0", "cuda": "12.6", "l4t": "36.4.3",
                        "clocks": "GPU 1.30 GHz, EMC 3.20 GHz", "kernel": "5.15.148-tegra"},
        "workload": {"model": "flan-t5-small", "parameters": 76961152, "trainable_parameters": 76961152,
                     "batch_size": 32, "source_length": 512, "target_length": 96, "precision": "bf16",
                     "optimizer": "adamw-fused", "attention": "eager",
                     "data": "seeded generator with SAMSum's length statistics (not SAMSum itself)"},
        "answer": {
            "headline": "Memory bandwidth holds this step: 61 % of kernel time runs along the memory roof.",
            "details": [
                "Most could be won in softmax: a fused attention kernel saves up to 38 ms a step.",
                "The optimizer takes 9 % of the step; the 91 % a closure-style timer shows are an artefact.",
                "The GPU waits for the host during 11 % of the step.",
            ],
            "claims": [
                {"text": "61 % of kernel time runs along the memory roof", "kernels": {"bound": "memory"}},
                {"text": "softmax", "kernels": {"op": "aten::_softmax"}},
                {"text": "nowhere in the sentences", "kernels": {"phase": "forward"}},
            ],
        },
        "metrics": {
            "step_time_ms": {"median": step_ms, "p25": step_ms * 0.99, "p75": step_ms * 1.012, "min": step_ms * 0.984,
                             "max": step_ms * 1.06,
                             "samples": [step_ms * f for f in (0.984, 0.99, 0.995, 1.0, 1.004, 1.012, 1.06)]},
            "mfu": {"value": 0.174, "denominator": "measured bf16 tensor peak, 37.1 TFLOP/s", "model_flops": 3.25e12},
            "hfu": {"value": 0.174, "hardware_flops": 3.25e12},
            "tokens_per_s": {"non_padding": 18240.0, "padded": 38600.0},
            "peak_memory": {"bytes": 7.9e9, "what": "peak memory reserved by the caching allocator"},
            "power": {"available": True, "mean_w": 31.4, "energy_per_step_j": 15.8, "tokens_per_s_per_w": 581.0,
                      "domain": "VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0",
                      "method": "INA3221 rails from sysfs at 100 Hz, trapezoid"},
        },
        "ledger": coverage_ledger(kernels, steps),
        "bounds": bound_shares(kernels, steps),
        "headroom": rank_headroom(kernels, steps),
        "optimizer": drill_down(kernels, BANDWIDTH, steps=steps, parameters=76961152),
        "timing": {
            "semantics": "device-true times synchronise around each phase; the others do not",
            "verdict": "Artefact: opt.step() takes 9 % of the step on the device. An unsynchronised timer says 87 %, "
            "because it waits there for the whole queue.",
        },
        "alignment": {"ok": True, "message": "every profiled op was matched with a recorded one", "steps": [
                      {"step": n, "recorded": 1432, "profiled": 1432, "matched": 1432} for n in range(steps)]},
        "warnings": ["The board runs in MAXN without jetson_clocks: clocks may drift by a few percent."],
    }  # fmt: skip


def sample_run(steps: int = 2, *, seed: int = 0, hostile: bool = True, path: Path | None = None) -> Run:
    """A measured run of FLAN-T5-small on an invented Orin."""
    kernels = kernel_table(steps, seed=seed, hostile=hostile)
    phases = phase_table(kernels, steps)
    return Run(summary(kernels, phases, steps), kernels, pd.DataFrame(), phases, path)


def imported_run() -> Run:
    """A trace from elsewhere: no workload, no metrics, no alignment, no device-true times, few costs."""
    kernels = kernel_table(1, hostile=False)
    for column in ("flops", "bytes_read", "bytes_written", "t_roof_us", "roof_fraction", "headroom_us", "intensity"):
        kernels.loc[kernels["unit"] != "tensor", column] = math.nan
    kernels.loc[kernels["unit"] != "tensor", "bound"] = "unknown"
    kernels.loc[kernels["unit"] != "tensor", "provenance"] = "unknown"
    phases = phase_table(kernels, 1, imported=True)
    data = summary(kernels, phases, 1)
    data |= {"kind": "imported", "title": "trace.json.gz on A100", "workload": None, "metrics": None, "alignment": None}
    data |= {"optimizer": {"found": False, "reason": "no optimizer phase was recognised in this trace"}}
    data |= {"timing": {"semantics": None, "verdict": None}, "command": "edgeroof analyze trace.json.gz --device a100"}
    data["answer"] = {
        "headline": "A third of the kernel time is priced; that part runs along the compute roof.",
        "details": [],
    }
    return Run(data, kernels, pd.DataFrame(), phases, None)


def projected_run() -> Run:
    """The same step on a device that isn't here."""
    run = sample_run(1, hostile=False)
    run.summary |= {"kind": "projected", "title": "flan-t5-small client step on Jetson AGX Orin 64GB (projected)"}
    run.summary["device"]["roofs"] = run.summary["device"]["roofs"][:1]
    run.summary["device"]["roof_used"] = "spec"
    run.summary["metrics"]["power"] = {"available": False, "reason": "a projection draws no power"}
    run.summary["metrics"]["step_time_ms"]["samples"] = []
    run.summary["alignment"] = None
    run.summary["projection"] = projection()
    return run


def projection() -> dict[str, Any]:
    """The ``projection`` entry of a step in two power modes."""

    def estimate(value: float) -> dict[str, float]:
        return {"value": value, "low": 0.8 * value, "high": 1.3 * value}

    return {
        "method": "Times come from a model of efficiency fitted to invented kernels.",
        "interval": "Nine tenths of the invented measurements lay within.",
        "assumed": ["no power limit is known"],
        "step_time_ms": estimate(91.0),
        "phases": [{"phase": "forward", **estimate(25.0)}, {"phase": "backward", **estimate(66.0)}],
        "memory": {
            "parts": {"weights": 3.1e8, "gradients": 3.1e8, "states": 6.2e8, "activations": 7e9, "workspace": 4e8},
            "total": 8.64e9, "room": 5.7e10, "reserved": 7e9, "fits": True, "largest_batch": 208, "capped": False,
        },
        "power_modes": [
            {"mode": "MAXN", "chosen": True, "gpu_mhz": 1300, "emc_mhz": 3200, "step_time_ms": estimate(91.0),
             "bounds": {"memory": 0.6, "compute": 0.33}, "tokens_per_s": 18240.0, "energy_j": None},
            {"mode": "30W", "chosen": False, "gpu_mhz": 612, "emc_mhz": 3200, "step_time_ms": estimate(171.0),
             "bounds": {"memory": 0.4, "compute": 0.6}, "tokens_per_s": 9700.0, "energy_j": {"low": 1.5, "high": 5.1}},
        ],
    }  # fmt: skip


def large_run(kernels: int = 50_000) -> Run:
    """Many steps' worth of kernels in one step, with modules and shapes that differ."""
    base = kernel_table(1)
    copies = -(-kernels // len(base))
    frame = pd.concat([base] * copies, ignore_index=True).iloc[:kernels].copy()
    rng = np.random.default_rng(1)
    frame["shapes"] = pd.Categorical([f"[{n},512] [512,{m}]" for n, m in rng.integers(1, 40, (kernels, 2)) * 64])
    frame["dur_us"] *= rng.uniform(0.7, 1.4, kernels)
    phases = phase_table(frame, 1)
    return Run(summary(frame, phases, 1), frame, pd.DataFrame(), phases, None)
