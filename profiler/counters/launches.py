"""What one profiled launch says, from the metrics that Nsight Compute collected for it.

The metric names are those of the Nsight Compute documentation, "Metrics Reference": https://docs.nvidia.com/nsight-compute/
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

#: Bytes of one sector of L2 and DRAM.
SECTOR = 32

DURATION = "gpu__time_duration.sum"
READ = ("dram__bytes_read.sum", "dram__sectors_read.sum")
WRITTEN = ("dram__bytes_write.sum", "dram__sectors_write.sum")
L2 = ("lts__t_bytes.sum", "lts__t_sectors.sum")
L2_HIT_RATE = "lts__t_sector_hit_rate.pct"

#: FLOPs of one thread instruction, by the name of its counter: a multiply-add counts two, and instructions for halves
#: work on pairs, as in Nsight Compute's own roofline (``…hfma_pred_on_x4``). Both prefixes count the same instructions.
_INSTRUCTIONS = {
    f"{unit}__sass_thread_inst_executed_op_{letter}{operation}_pred_on.sum": (unit, pipe, lanes * flops)
    for unit in ("smsp", "sm")
    for letter, pipe, lanes in (("f", "fp32", 1), ("d", "fp64", 1), ("h", "fp16", 2))
    for operation, flops in (("add", 1), ("mul", 1), ("fma", 2))
}

#: Matrix units count operations themselves, one counter a source type (compute capability 8.0 and later).
_TENSOR = {
    f"sm__ops_path_tensor_src_{source}{destination}.sum": dtype
    for source, dtype in (("fp16", "fp16"), ("bf16", "bf16"), ("tf32", "tf32"), ("fp64", "fp64"), ("fp8", "fp8"))
    for destination in ("", "_dst_fp32", "_dst_fp16", "_dst_fp64")
}

#: Every metric that is read; all others of a file are passed over.
METRICS = frozenset({DURATION, L2_HIT_RATE, *READ, *WRITTEN, *L2, *_INSTRUCTIONS, *_TENSOR})


@dataclass(frozen=True)
class Launch:
    """Counters of one launch; what was not collected is None.

    Attributes:
        name: kernel name as the file has it, the whole signature or only the function.
        duration_us: how long it ran, under the profiler's clocks.
        bytes_read: from DRAM.
        bytes_written: to DRAM.
        l2_bytes: that passed through L2.
        l2_hit_share: of its sectors.
        flops: by where they ran: ``fp32``, ``fp64`` and ``fp16`` on vector units, ``tensor fp16`` and so on.
    """

    name: str
    duration_us: float | None = None
    bytes_read: float | None = None
    bytes_written: float | None = None
    l2_bytes: float | None = None
    l2_hit_share: float | None = None
    flops: Mapping[str, float] = field(default_factory=dict)

    @property
    def total_flops(self) -> float | None:
        """FLOPs on all units; None unless both vector and matrix units were counted, because one would be too few."""
        vector = any(not pipe.startswith("tensor") for pipe in self.flops)
        tensor = any(pipe.startswith("tensor") for pipe in self.flops)
        return math.fsum(self.flops.values()) if vector and tensor else None


def launch_from(name: str, metrics: Mapping[str, float]) -> Launch:
    """Put a launch together from its metrics in base units: bytes, nanoseconds, percent, counts."""
    duration = metrics.get(DURATION)
    hits = metrics.get(L2_HIT_RATE)
    return Launch(
        name=name,
        duration_us=None if duration is None else duration / 1e3,
        bytes_read=_bytes(metrics, READ),
        bytes_written=_bytes(metrics, WRITTEN),
        l2_bytes=_bytes(metrics, L2),
        l2_hit_share=None if hits is None else hits / 100,
        flops=_flops(metrics),
    )


def _bytes(metrics: Mapping[str, float], names: tuple[str, str]) -> float | None:
    counted, sectors = (metrics.get(name) for name in names)
    if counted is not None:
        return counted
    return None if sectors is None else sectors * SECTOR


def _flops(metrics: Mapping[str, float]) -> dict[str, float]:
    found: dict[str, float] = {}
    counted_by = next((unit for name, (unit, _, _) in _INSTRUCTIONS.items() if name in metrics), "")
    for name, (unit, pipe, flops) in _INSTRUCTIONS.items():
        if name in metrics and unit == counted_by:
            found[pipe] = found.get(pipe, 0.0) + flops * metrics[name]
    for dtype in dict.fromkeys(_TENSOR.values()):
        whole = metrics.get(f"sm__ops_path_tensor_src_{dtype}.sum")
        parts = [metrics[name] for name, of in _TENSOR.items() if of == dtype and "_dst_" in name and name in metrics]
        if whole is not None or parts:
            found[f"tensor {dtype}"] = math.fsum(parts) if whole is None else whole
    return found
