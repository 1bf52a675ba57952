"""Whether Triton can run here, and the little that launching its kernels needs."""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from typing import Any

import torch


def interpreting() -> bool:
    """Whether Triton's CPU interpreter is on; the variable must be set before triton is imported."""
    return os.environ.get("TRITON_INTERPRET", "0") in ("1", "true", "True", "on")


def multiplies_bf16() -> bool:
    """Whether matrix products of bf16 are right: Triton's interpreter takes their bits for whole numbers."""
    return not interpreting()


@cache
def _triton_missing() -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed (pip install triton)"
    try:
        import triton  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        return f"triton cannot be imported: {error}"
    return None


def triton_unavailable(device: torch.device) -> str | None:
    """Why the Triton kernels cannot run on a device; ``None`` when they can."""
    missing = _triton_missing()
    if missing:
        return missing
    if device.type == "cuda":
        return None
    if device.type == "cpu" and interpreting():
        return None
    return f"Triton kernels run on CUDA devices, not on {device.type}"


def launch_options() -> dict[str, Any]:
    """Options of every launch: fused multiply-adds are wanted, and Triton's default for them is changing."""
    return {"num_warps": 4, "enable_fp_fusion": True}


@cache
def triton_dtype(dtype: torch.dtype) -> Any:
    """The Triton type of a torch dtype."""
    import triton.language as tl

    return {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}[dtype]


def on_device(device: torch.device) -> Any:
    """Context in which kernels are launched on ``device``."""
    if device.type == "cuda" and torch.cuda.current_device() != device.index:
        return torch.cuda.device(device)
    return _NOTHING


class _Nothing:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc_info: object) -> None:
        return None


_NOTHING = _Nothing()
