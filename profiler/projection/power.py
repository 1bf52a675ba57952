"""The power cap: the share of its clock that a board can hold through arithmetic without end.

Dynamic power is energy per FLOP times the FLOP/s that are done, not those that could be; energy goes with the square
of the voltage, which falls with the clock. What memory and board draw is not there for arithmetic. A board whose limit
is too low for its peak (T4, L4, most modules) settles at the clock where both meet.
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

#: Share of the lanes' FLOPs, beside what issue leaves of them, that large products do: 0.80 on the measured A100, 0.86
#: on the V100.
_LARGE_PRODUCT = 0.85

_SHARES = np.linspace(0.05, 1.0, 191)


def node_of(nanometres: int) -> Node:
    """The nearest node that is described."""
    return NODES[min(NODES, key=lambda known: abs(known - nanometres))]


def held_clock_shares(hardware: Hardware, coefficients: Coefficients, busy: np.ndarray) -> np.ndarray:
    """Share of its clock that a board holds while it repeats one product, for an array of products.

    Args:
        hardware: the board.
        coefficients: of the model.
        busy: share of the lanes' FLOPs that the product does at the full clock.
    """
    if hardware.power_w is None:
        return np.ones_like(busy)
    left_w = hardware.power_w - _other_w(hardware, coefficients)
    return np.interp(left_w / busy, _lanes_w(hardware, coefficients), _SHARES)


def sustained_clock_share(
    hardware: Hardware,
    coefficients: Coefficients,
    compute_s: float = 1.0,
    memory_s: float = 0.0,
    busy: float | None = None,
) -> float:
    """Share of its clock that a board holds while it repeats the same work.

    The limit holds for the average power, so that arithmetic may take what kernels that wait for memory leave.

    Args:
        hardware: the board.
        coefficients: of the model.
        compute_s: seconds of the work bound by arithmetic, at the full clock.
        memory_s: seconds bound by memory.
        busy: share of the lanes' FLOPs that is done meanwhile, at the full clock; by default that of large products.

    Returns:
        A share above 0; 1.0 when no power limit is known.
    """
    if hardware.power_w is None or compute_s <= 0.0:
        return 1.0
    busy = _LARGE_PRODUCT * hardware.issue_share if busy is None else busy
    stretched = compute_s / _SHARES
    busy_w = _other_w(hardware, coefficients) + busy * _lanes_w(hardware, coefficients)
    waiting_w = min(_board_w(hardware, coefficients) + _memory_w(hardware), hardware.power_w)
    average_w = (stretched * busy_w + memory_s * waiting_w) / (stretched + memory_s)
    return float(np.interp(hardware.power_w, average_w, _SHARES))


def _lanes_w(hardware: Hardware, c: Coefficients) -> np.ndarray:
    """Power of all lanes at each of the clock shares, if every one does a multiply-add in every clock."""
    node = node_of(hardware.node_nm)
    voltage = _voltage(_SHARES * hardware.clock_hz / node.nominal_hz, c.threshold_voltage)
    return c.pj_per_flop * node.energy * 1e-12 * hardware.peak_fp32 * _SHARES * voltage**2


def _other_w(hardware: Hardware, c: Coefficients) -> float:
    """Power of everything but the lanes during products."""
    return _board_w(hardware, c) + MEMORY_DUTY * _memory_w(hardware)


def _memory_w(hardware: Hardware) -> float:
    return MEMORY_PJ_PER_BYTE[hardware.memory] * 1e-12 * hardware.roof.bandwidth


def _board_w(hardware: Hardware, c: Coefficients) -> float:
    return _MODULE_SHARE * hardware.power_w if hardware.unified and hardware.power_w else c.board_w


def _voltage(clock: np.ndarray, threshold: float) -> np.ndarray:
    """Voltage relative to nominal, linear in the clock relative to nominal, ``threshold`` at rest."""
    return threshold + (1.0 - threshold) * clock
