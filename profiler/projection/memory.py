"""Time of kernels that move data: streaming ones, and row-wise ones that come back to their rows.

Like :mod:`.matmul`, arrays in and arrays out, in seconds and without the cost of a launch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .coefficients import Coefficients
from .hardware import Hardware

#: One number, or an array of them.
Numbers = np.ndarray | float

#: L2 serves about this many bytes an SM and clock: 64 on all generations here, half of which are sustained.
_L2_BYTES_PER_CLOCK = 32.0

#: Softmax of rows up to this length keeps the row in a warp's registers (PyTorch's persistent softmax).
PERSISTENT_ROW = 1024


class RowKernel(NamedTuple):
    """A row-wise kernel: what it reads and writes in passes over the whole tensor, and how it works on rows.

    Attributes:
        reads: passes that must come from memory.
        rereads: passes that come from L2 if the rows are still there.
        writes: passes written.
        rows_per_sm: rows that an SM works on at once.
        rate: elements that a lane takes through it in a clock.
    """

    reads: float
    rereads: float
    writes: float
    rows_per_sm: int
    rate: float


def layer_norm(c: Coefficients, *, backward: bool = False) -> RowKernel:
    """PyTorch's layer norm: one pass for the moments, one to normalise.

    Backward is two kernels: one for the gradient of the input, which reads input and gradient twice, and one for those
    of the weights, which reads both once more.
    """
    return RowKernel(4, 2, 1, 16, c.norm_rate / 2.5) if backward else RowKernel(1, 1, 1, 16, c.norm_rate)


def softmax(c: Coefficients, row: int, *, backward: bool = False) -> RowKernel:
    """PyTorch's softmax: short rows stay in registers; long ones are read for the maximum, the sum and the result."""
    if backward:
        return RowKernel(2, 0 if row <= PERSISTENT_ROW else 2, 1, 4, c.softmax_rate)
    return RowKernel(1, 0 if row <= PERSISTENT_ROW else 2, 1, 4, c.softmax_rate)


def dram_bandwidth(hardware: Hardware, c: Coefficients) -> float:
    """Bytes/s that streaming reaches."""
    if hardware.memory != "hbm":
        return hardware.roof.bandwidth * c.dram_gddr
    return hardware.roof.bandwidth * (c.dram_hbm if hardware.capability >= (7, 0) else c.dram_hbm_old)


def l2_bandwidth(hardware: Hardware) -> float:
    """Bytes/s between SMs and L2."""
    return hardware.sms * hardware.clock_hz * _L2_BYTES_PER_CLOCK


def streaming_seconds(moved: Numbers, hardware: Hardware, c: Coefficients, resident: Numbers = 0.0) -> Numbers:
    """Time of kernels that touch each byte once.

    Args:
        moved: bytes read and written.
        hardware: where.
        c: coefficients.
        resident: bytes of these that L2 still holds.
    """
    return np.maximum((moved - resident) / dram_bandwidth(hardware, c), moved / l2_bandwidth(hardware))


def row_seconds(
    rows: Numbers,
    length: Numbers,
    item: int,
    kernel: RowKernel,
    hardware: Hardware,
    c: Coefficients,
    resident: Numbers = 0.0,
) -> Numbers:
    """Time of row-wise kernels over ``rows`` rows of ``length`` elements of ``item`` bytes."""
    elements = rows * length
    in_flight = np.minimum(rows, hardware.sms * kernel.rows_per_sm) * length * item * kernel.reads
    lost = in_flight / (in_flight + c.l2_keep * max(hardware.l2_bytes, 1.0))
    passes = kernel.reads + kernel.rereads * lost + kernel.writes
    memory = np.maximum(elements * item * passes - resident, 0.0) / dram_bandwidth(hardware, c)
    lanes = hardware.sms * hardware.lanes * hardware.clock_hz
    working = elements / (lanes * kernel.rate)
    return np.hypot(memory, working)
