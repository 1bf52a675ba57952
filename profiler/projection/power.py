"""The power cap: the share of its clock that a board can hold through arithmetic without end.

Dynamic power is energy per FLOP times FLOP/s, and energy goes with the square of the voltage, which falls with the
clock. What memory and board draw is not there for arithmetic. A board whose limit is too low for its peak (T4, L4, most
modules) settles at the clock where both meet.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .coefficients import Coefficients
from .hardware import Hardware


class Node(NamedTuple):
    """A process: energy of the same switching relative to 16 nm, and the clock reached at nominal voltage.

    Energy from the foundries' own claims: TSMC 7FF 60 % below 16FF+, 5FF 30 % below 7FF; Samsung 8LPP between; 12FFN
    has the density of 16FF+ (GV100 25.9, GP100 25.1 million transistors a mm²), so its energy too. Clocks are the boost
    clocks of the fastest consumer boards on each.
    """

    energy: float
    nominal_hz: float


NODES = {
    16: Node(1.0, 1.73e9),
    12: Node(1.0, 1.73e9),
    8: Node(0.55, 1.75e9),
    7: Node(0.40, 1.75e9),
    5: Node(0.28, 2.52e9),
    4: Node(0.25, 2.52e9),
}

#: Energy of one byte to or from memory, in pJ: HBM2 about 4 pJ/bit, GDDR5 and GDDR6 7 to 8, LPDDR5 4 to 5
#: (M. O'Connor et al., "Fine-Grained DRAM", MICRO 2017, for HBM2 and GDDR5).
MEMORY_PJ_PER_BYTE = {"hbm": 32.0, "gddr": 64.0, "lpddr": 36.0}

#: Share of the bandwidth that matrix products use, on average.
MEMORY_DUTY = 0.3

#: Assumption: share of a module's limit (Jetson) that CPU, SoC and carrier take, in place of a board's draw.
_MODULE_SHARE = 0.3

_SHARES = np.linspace(0.05, 1.0, 191)


def node_of(nanometres: int) -> Node:
    """The nearest node that is described."""
    return NODES[min(NODES, key=lambda known: abs(known - nanometres))]


def sustained_clock_share(
    hardware: Hardware, coefficients: Coefficients, compute_s: float = 1.0, memory_s: float = 0.0
) -> float:
    """Share of its clock that a board holds while it repeats the same work.

    The limit holds for the average power, so that arithmetic may take what kernels that wait for memory leave.

    Args:
        hardware: the board.
        coefficients: of the model.
        compute_s: seconds of the work bound by arithmetic, at the full clock.
        memory_s: seconds bound by memory.

    Returns:
        A share above 0; 1.0 when no power limit is known.
    """
    if hardware.power_w is None or compute_s <= 0.0:
        return 1.0
    node = node_of(hardware.node_nm)
    memory_w = MEMORY_PJ_PER_BYTE[hardware.memory] * 1e-12 * hardware.roof.bandwidth
    voltage = _voltage(_SHARES * hardware.clock_hz / node.nominal_hz, coefficients.threshold_voltage)
    rate = hardware.peak_fp32 * hardware.issue_share * _SHARES
    lanes_w = coefficients.pj_per_flop * node.energy * 1e-12 * rate * voltage**2
    board_w = _MODULE_SHARE * hardware.power_w if hardware.unified else coefficients.board_w
    stretched = compute_s / _SHARES
    busy_w = board_w + MEMORY_DUTY * memory_w + lanes_w
    waiting_w = min(board_w + memory_w, hardware.power_w)
    average_w = (stretched * busy_w + memory_s * waiting_w) / (stretched + memory_s)
    return float(np.interp(hardware.power_w, average_w, _SHARES))


def _voltage(clock: np.ndarray, threshold: float) -> np.ndarray:
    """Voltage relative to nominal, linear in the clock relative to nominal, ``threshold`` at rest."""
    return threshold + (1.0 - threshold) * clock
