"""Hand-built kernel tables: one dict per kernel, sensible defaults for the rest."""

from typing import Any

import pandas as pd

from edgeroof.profiler.device import Device, Roof
from edgeroof.profiler.schema import KERNEL_COLUMNS

#: 1 TFLOP/s of fp32, 4 TFLOP/s of bf16 products, 100 GB/s, 2 µs: easy to calculate with.
ROOF = Roof(
    source="spec",
    bandwidth=100e9,
    peaks={"vector": {"fp32": 1e12}, "tensor": {"bf16": 4e12}},
    launch_floor_us=2.0,
)
DEVICE = Device(name="toy", title="toy device", kind="cuda", spec=ROOF)

DEFAULTS: dict[str, Any] = {
    "step": 0, "name": "kernel", "kind": "kernel", "device_index": 0, "stream": 7, "start_us": 0.0, "dur_us": 100.0,
    "phase": "forward", "module": "", "op": "aten::add", "op_index": 0, "autograd": "forward", "shapes": "",
    "dtype": "fp32", "unit": "vector", "flops": 0.0, "bytes_read": 0.0, "bytes_written": 0.0, "provenance": "exact",
    "linked": True,
}  # fmt: skip


def table(*kernels: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame([DEFAULTS | kernel for kernel in kernels], columns=list(KERNEL_COLUMNS)).astype(KERNEL_COLUMNS)
