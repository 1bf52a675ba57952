"""What the projection needs to know of a GPU, and what it assumes where a device file is silent.

A device file must state peaks, bandwidth, SMs, L2 and memory. Lanes per SM and the process node follow from the compute
capability, the clock from the peak, the kind of memory from the chip, the power limit of some boards from their name.
Without a power limit nothing holds the clock down, and the projection says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import DeviceError
from ..device import Device, Roof
from .boards import known_power_limit

MEMORY_KINDS = ("hbm", "gddr", "lpddr")

#: fp32 lanes of an SM by compute capability; NVIDIA CUDA C++ Programming Guide, table "Arithmetic Instructions".
_LANES = {(6, 0): 64, (6, 1): 128, (6, 2): 128, (7, 0): 64, (7, 2): 64, (7, 5): 64, (8, 0): 64}
_LANES_OF_OTHERS = 128

#: Process node in nm by compute capability, from NVIDIA's architecture whitepapers; 4N counts as 5 nm.
_NODES = {(6, 0): 16, (6, 1): 16, (6, 2): 16, (7, 0): 12, (7, 2): 12, (7, 5): 12, (8, 0): 7, (8, 6): 8, (8, 7): 8}
_NODE_OF_OTHERS = 5

#: Chips with HBM, from the same whitepapers.
_HBM_CHIPS = frozenset({(6, 0), (7, 0), (8, 0), (9, 0), (10, 0)})

#: An SM of 128 fp32 lanes (GA10x, Ada, Hopper) issues one instruction a clock for each 32 lanes, so that loads take
#: slots from multiply-adds, which on SMs of 64 lanes they don't: a thread tile of 8 x 8 has 64 multiply-adds and 4
#: loads a step, and the loop its own. Chosen for public figures of large products, see
#: benchmarks/projection/public_products.py.
_ISSUE_OF_128_LANES = 0.87


@dataclass(frozen=True)
class Hardware:
    """A GPU in the words of the efficiency model.

    Attributes:
        title: for people.
        capability: compute capability.
        sms: active SMs.
        lanes: fp32 lanes of one SM.
        clock_hz: SM clock at which the peaks hold.
        roof: peaks and bandwidth; the measured ones where the device was calibrated.
        l2_bytes: size of the L2.
        memory: ``hbm``, ``gddr`` or ``lpddr``.
        node_nm: process node.
        power_w: power limit in W, ``None`` when it is not known.
        unified: whether CPU and GPU share memory and power, as on a Jetson.
        assumed: what the device file did not state, in words.
    """

    title: str
    capability: tuple[int, int]
    sms: int
    lanes: int
    clock_hz: float
    roof: Roof
    l2_bytes: float
    memory: str
    node_nm: int
    power_w: float | None
    unified: bool = False
    assumed: tuple[str, ...] = ()

    @property
    def peak_fp32(self) -> float:
        """FLOP/s of all lanes at :attr:`clock_hz`."""
        return 2.0 * self.sms * self.lanes * self.clock_hz

    @property
    def issue_share(self) -> float:
        """Share of the lanes that one instruction stream can keep busy in a product."""
        return _ISSUE_OF_128_LANES if self.lanes >= 128 and self.capability >= (8, 0) else 1.0


def describe_hardware(device: Device) -> Hardware:
    """Read a device, with what follows from its compute capability where it is silent.

    Raises:
        DeviceError: it is not a GPU, or lacks peaks, SMs or the compute capability.
    """
    if device.kind != "cuda" or device.sm_count is None or device.compute_capability is None:
        raise DeviceError(f"{device.title} is no GPU with known SMs, which the efficiency model needs")
    roof = device.roof
    fp32 = roof.peak("fp32", "vector")
    if fp32 is None:
        raise DeviceError(f"{device.title} has no fp32 peak, which the efficiency model needs")
    capability = device.compute_capability
    assumed: list[str] = []
    lanes = device.lanes_per_sm or _LANES.get(capability, _LANES_OF_OTHERS)
    clock = fp32.flops_per_s / (2.0 * device.sm_count * lanes)
    node = device.process_nm or _NODES.get(capability, _NODE_OF_OTHERS)
    if device.process_nm is None and device.power_w is not None:
        assumed.append(f"process node {node} nm, from the compute capability")
    memory = device.memory_kind
    if memory is None:
        memory = "lpddr" if device.unified_memory else "hbm" if capability in _HBM_CHIPS else "gddr"
        assumed.append(f"{memory.upper()} memory, from the compute capability")
    power = device.power_w or known_power_limit(device.title, device.name)
    if power is None:
        assumed.append("no power limit is known, so none holds the clocks down")
    elif device.power_w is None:
        assumed.append(f"power limit {power:g} W, that of a board of this name")
    return Hardware(
        title=device.title,
        capability=capability,
        sms=device.sm_count,
        lanes=lanes,
        clock_hz=clock,
        roof=roof,
        l2_bytes=float(device.l2_bytes or 0),
        memory=memory,
        node_nm=node,
        power_w=power,
        unified=device.unified_memory,
        assumed=tuple(assumed),
    )
