"""Data of the experiments as :func:`edgeroof.paper.collect.collect` gives it, small and made by hand."""

import dataclasses
from typing import Any

from edgeroof.paper.plan import Plan

PLAN = Plan("full", models=("small", "base"), precisions=("fp32",), batch_sizes=(1, 8))


def point(device: str, model: str = "small", precision: str = "fp32", batch: int = 8, **changes: Any) -> dict[str, Any]:
    """One row of the scaling experiment; MFU and shares may be given."""
    mfu, share = changes.pop("mfu", 0.3), changes.pop("optimizer_share", 0.1)
    row = {
        "device": device,
        "model": model,
        "precision": precision,
        "batch_size": batch,
        "title": f"the {device}",
        "step_ms": {"value": 100.0, "low": 80.0, "high": 125.0},
        "mfu": mfu,
        "denominator": "spec fp32 vector peak, 5.32 TFLOP/s",
        "model_flops": mfu * 5.3e12 * 0.1,
        "parameters": 76_961_152,
        "matrix_peak_gflops": 42_500.0,
        "tokens_per_s": 1000.0,
        "tokens_per_s_per_w": {"low": 20.0, "high": 100.0},
        "memory": {"total": 4e9, "room": 5e10, "fits": True},
        "bounds": {"memory": 0.7, "compute": 0.2},
        "phases": {
            "forward": {"value": 30.0, "low": 25.0, "high": 40.0},
            "optimizer": {"value": 100.0 * share, "low": 80.0 * share, "high": 125.0 * share},
        },
    }
    return row | changes


def links(g: float = 0.05, low: float = 0.04, high: float = 0.06, fits: bool = True) -> dict[str, Any]:
    """A result of granularity with one client over LTE."""
    row = {
        "case": 0,
        "codec": "none",
        "link": "lte",
        "granularity": g,
        "granularity_low": low,
        "granularity_high": high,
    }
    case = {"model": "small", "device": "orin", "lora_rank": None, "fits": fits, "steps": 47}
    coding = {"size": 300e6, "seconds": 0.1}
    return {
        "cases": [case],
        "codecs": {"none": "fp32"},
        "links": [{"name": "lte", "down_mbps": 21.3, "up_mbps": 6.3, "rtt_ms": 55, "source": "somewhere"}],
        "rows": [row],
        "traffic": [{"model": "small", "lora_rank": None, "codec": "none", "down_bytes": 300e6, "coding": coding}],
        "wanted": {"batch_size": 32},
    }


def data(**changes: Any) -> dict[str, Any]:
    """Everything not run, but for what is given."""
    empty = dict.fromkeys(("scaling", "links", "breakdown", "here", "optimizer", "ab", "compression", "selection"))
    about = {"created": "2026-11-28T10:00:00+00:00", "command": "edgeroof paper", "environment": {"edgeroof": "0.1.0"}}
    return {"plan": dataclasses.asdict(PLAN), **empty, **about} | changes
