"""The environment of a run: versions, machine and settings, so that a number can be made again."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

PACKAGES = ("torch", "transformers", "triton", "numpy", "pandas", "nvtx", "nvidia-ml-py", "peft")


def describe_environment() -> dict[str, Any]:
    """Versions of edgeroof, Python, the packages that matter, the system, threads and CUDA."""
    from .. import __version__

    found: dict[str, Any] = {
        "edgeroof": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
    }
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def describe_torch() -> dict[str, Any]:
    """Threads and CUDA as PyTorch sees them; imports torch."""
    import torch

    found: dict[str, Any] = {"torch_threads": torch.get_num_threads(), "cpu_cores": os.cpu_count()}
    if torch.cuda.is_available():
        found |= {
            "cuda": torch.version.cuda,
            "gpu": torch.cuda.get_device_name(),
            "cudnn": torch.backends.cudnn.version(),
        }
    return found
