"""The tables and the summary that make up a run, column by column.

A run folder holds three tables and one summary, all of one ``schema_version``; the tables carry it in their Parquet
metadata as ``edgeroof.schema_version``, and :mod:`.migrations` converts older ones. Everything that reads or writes
them takes the names from here, and ``docs/run-folder.md`` explains them to people.

``run.json`` looks like this (numbers shortened; ``null`` where a thing does not apply)::

    {
      "schema_version": 2,
      "kind": "measured",                      # measured | imported | projected
      "title": "flan-t5-small client step on AMD EPYC 7B13",
      "created": "2026-11-23T18:00:00+00:00",
      "command": "edgeroof profile --model small",
      "profiled_steps": 2,                     # the kernel table holds this many steps
      "device": {"name": "cpu", "title": "...", "kind": "cpu", "power_mode": null, "sm_count": null,
                 "l2_bytes": 524288, "memory_bytes": 25e9, "unified_memory": false, "roof_used": "measured",
                 "roofs": [{"source": "measured", "bandwidth_gbs": 20.1, "launch_floor_us": 1.2, "note": "...",
                            "peaks_gflops": {"vector": {"fp32": 120.0}, "tensor": {}}}],
                 "sources": {"peaks": "https://..."}},
      "environment": {"edgeroof": "0.1.0", "python": "3.11.7", "torch": "2.13.0", "...": "..."},
      "workload": {"model": "flan-t5-small", "parameters": 76961152, "trainable_parameters": 76961152,
                   "batch_size": 4, "source_length": 512, "target_length": 96, "precision": "fp32",
                   "optimizer": "adamw-fused", "attention": "sdpa", "data": "seeded generator ...", "...": "..."},
      "answer": {"headline": "one sentence", "details": ["a few more sentences"],
                 "claims": [{"text": "part of a sentence", "kernels": {"bound": "memory"}}]},  # absent in older runs
      "metrics": {
        "profiler_slowdown": 1.04,              # span of a profiled step over the median bare step
        "step_time_ms": {"median": 1.0, "p25": 1.0, "p75": 1.0, "min": 1.0, "max": 1.0, "samples": [1.0]},
        "phase_samples_ms": {"forward": [0.4]},  # device-true, of the same bare steps; {} in runs of version 1
        "mfu": {"value": 0.3, "denominator": "measured fp32 vector peak, 120 GFLOP/s", "model_flops": 4e11},
        "hfu": {"value": 0.3, "hardware_flops": 4e11},
        "tokens_per_s": {"non_padding": 300.0, "padded": 500.0},
        "peak_memory": {"bytes": 2e9, "what": "peak resident set size of the process"},
        "power": {"available": true, "mean_w": 30.0, "energy_per_step_j": 90.0, "tokens_per_s_per_w": 10.0,
                  "domain": "VDD_GPU_SOC + VDD_CPU_CV", "method": "..."}},     # or {"available": false, "reason": ""}
      "ledger": {"kernel_us": 1e6, "kernels": 1234, "linked_share": 0.99, "unlinked_share": 0.01, "unlinked_us": 1e4,
                 "priced_share": {"exact": 0.98, "inferred": 0.0, "counter": 0.0, "estimated": 0.0, "unknown": 0.02},
                 "communication_share": 0.0,
                 "unknown_ops": [{"op": "custom::thing", "dur_us": 10.0, "share": 0.001, "kernels": 3}]},
      "bounds": [{"bound": "memory", "dur_us": 5e5, "share": 0.5, "headroom_us": 1e5, "kernels": 100}],
      "headroom": [{"rank": 1, "op": "aten::mm", "phase": "backward", "kernels": 10, "dur_us": 9e4,
                    "headroom_us": 4e4, "share": 0.09, "bound": "inefficient", "roof_fraction": 0.55,
                    "advice": "what to do, in words"}],
      "optimizer": {"found": true, "ops": [{"op": "aten::_fused_adamw_", "kernels": 1, "dur_us": 5e4,
                    "bytes_read": 1.2e9, "bytes_written": 9e8, "bytes_per_parameter": 28.0, "roof_fraction": 0.8,
                    "bound": "memory"}],
                    "dur_us": 5e4, "share": 0.05, "parameters": 76961152, "bytes_per_parameter": 28.0,
                    "floor_bytes_per_parameter": 28.0, "floor_name": "fp32 AdamW", "passes": 1.0,
                    "time_at_roof_us": 4e4, "time_at_floor_us": 4e4},          # or {"found": false, "reason": "..."}
      "timing": {"semantics": "...", "verdict": "real or artefact, in words"},   # phases.parquet has the numbers
      "alignment": {"ok": true, "message": "...", "steps": [{"step": 0, "recorded": 1, "profiled": 1, "matched": 1}]},
      "trace": {"start_ns": 4458676522690123},  # what start_us in kernels is since, in the time of trace.json.gz
      "projection": {                          # of projected runs only, else absent
        "method": "how times were obtained, in words", "interval": "and their 90 % intervals", "assumed": ["..."],
        "step_time_ms": {"value": 90.0, "low": 75.0, "high": 110.0},
        "phases": [{"phase": "forward", "value": 25.0, "low": 20.0, "high": 31.0}],       # ms
        "memory": {"parts": {"weights": 3e8, "...": 1e9}, "total": 9e9, "room": 5.7e10, "reserved": 7e9, "fits": true,
                   "largest_batch": 64, "capped": false},                                 # bytes; or null
        "power_modes": [{"mode": "30W", "chosen": false, "gpu_mhz": 612, "emc_mhz": 3200,
                         "step_time_ms": {"value": 160.0, "low": 130.0, "high": 200.0}, "bounds": {"memory": 0.6},
                         "tokens_per_s": 5000.0, "energy_j": {"low": 1.5, "high": 4.8}}]},
      "warnings": ["things the reader must know"]
    }

Durations in the summary are per profiled step. In an imported trace ``workload``, ``metrics``, ``timing`` and
``alignment`` are null; ``trace`` is null without a trace, and in runs of version 1; ``value`` of MFU and HFU is null
with a ``reason`` where no peak is known, and ``passes`` where visits to the parameters could not be counted.
``profiled_steps`` is the number of steps that were recognised, 1 when none were.
"""

from __future__ import annotations

SCHEMA_VERSION = 2

#: One row per device activity (on CPU: per leaf op), in order of start.
KERNEL_COLUMNS: dict[str, str] = {
    "step": "int32",  # profiled step, from 0
    "name": "category",  # kernel name; on CPU the op's name
    "kind": "category",  # kernel | memcpy | memset | op
    "device_index": "int32",  # CUDA device ordinal; -1 on CPU
    "stream": "int64",  # CUDA stream; on CPU the thread id
    "start_us": "float64",  # since the start of the profile
    "dur_us": "float64",
    "phase": "category",
    "module": "category",  # qualified name such as encoder.block.3.layer.0.SelfAttention; "" when unknown
    "op": "category",  # dispatched op, such as aten::addmm, or Optimizer.step#…; "" when unlinked
    "op_index": "int64",  # row of the ops table; -1 when there is none
    "autograd": "category",  # forward | backward | accumulate | recompute | none
    "shapes": "category",  # input shapes for people, such as "[2048,512] [512,512]"
    "dtype": "category",  # of the arithmetic
    "unit": "category",  # tensor | vector | none
    "flops": "float64",  # NaN when unknown
    "bytes_read": "float64",  # NaN when unknown
    "bytes_written": "float64",  # NaN when unknown
    "provenance": "category",  # exact | inferred | counter | estimated | unknown
    "linked": "bool",  # its launch was found, and is not that of a whole graph
}

#: Added by ``roofline.classify``.
ROOFLINE_COLUMNS: dict[str, str] = {
    "intensity": "float64",  # FLOP per byte
    "gflops": "float64",  # achieved, 1e9 FLOP/s
    "bandwidth_gbs": "float64",  # achieved, 1e9 bytes/s
    "t_compute_us": "float64",
    "t_memory_us": "float64",
    "t_roof_us": "float64",
    "roof_fraction": "float64",  # above 1 means cache reuse or a wrong count; never clipped
    "headroom_us": "float64",  # dur_us - t_roof_us
    "bound": "category",  # memory | compute | latency | inefficient | communication | unknown
}

#: One row per dispatched op of the recorded step (or per priced op of an imported trace).
OP_COLUMNS: dict[str, str] = {
    "op_index": "int64",
    "op": "category",
    "phase": "category",
    "module": "category",
    "autograd": "category",
    "inputs": "category",  # shapes and dtypes for people
    "outputs": "category",
    "dtype": "category",
    "unit": "category",
    "flops": "float64",
    "bytes_read": "float64",
    "bytes_written": "float64",
    "provenance": "category",
}

#: One row per phase of a step, in order of first appearance; times are per step.
PHASE_COLUMNS: dict[str, str] = {
    "phase": "object",
    "device_ms": "float64",  # true time of the phase, bare steps, median; NaN for imported traces
    "host_unsynced_ms": "float64",  # what a host timer without synchronisation says
    "closure_ms": "float64",  # what a timer around opt.step(closure) says: all of it lands on the optimizer
    "profiled_ms": "float64",  # span of the phase in the profiled steps
    "kernel_ms": "float64",  # sum of kernel durations
    "busy_ms": "float64",  # union of kernel intervals
    "idle_ms": "float64",  # span of the phase minus busy: the device waits for the host
    "kernels": "float64",
    "flops": "float64",
    "bytes": "float64",
    "headroom_ms": "float64",
}

PHASES = ("data", "zero_grad", "forward", "loss", "backward", "communication", "optimizer")
BOUNDS = ("memory", "compute", "latency", "inefficient", "communication", "unknown")
PROVENANCES = ("exact", "inferred", "counter", "estimated", "unknown")
