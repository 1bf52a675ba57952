"""Peak memory of the bare steps: the allocator's on a GPU, the resident set's on a CPU."""

from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


class PeakMemory:
    """Context manager; afterwards :attr:`bytes` and :attr:`what` tell the peak and what was measured."""

    def __init__(self, device_type: str) -> None:
        self._on_gpu = device_type == "cuda"
        self.bytes: int | None = None
        self.what = ""

    def __enter__(self) -> PeakMemory:
        if self._on_gpu:
            import torch

            torch.cuda.reset_peak_memory_stats()
        else:
            _give_back()
            with contextlib.suppress(OSError):
                _CLEAR_REFS.write_text("5")  # resets the high-water mark of this process
        return self

    def __exit__(self, *exc_info: Any) -> None:
        if self._on_gpu:
            import torch

            self.bytes, self.what = torch.cuda.max_memory_allocated(), "peak of PyTorch's CUDA allocator"
        else:
            self.bytes, self.what = _resident_peak(), "peak resident set of the process"


def _give_back() -> None:
    """Return freed memory to the system, or what uses it again would not raise the peak (glibc; elsewhere nothing)."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _resident_peak() -> int | None:
    """High-water mark of the resident set in bytes, ``None`` where the system does not tell."""
    try:
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration, ValueError, IndexError):
        return None
