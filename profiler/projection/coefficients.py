"""The coefficients of the efficiency model: few, each with a physical meaning.

``benchmarks/projection/fit.py`` fits them; the shipped ones name what they were fitted to.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import DeviceError

SHIPPED = Path(__file__).with_name("coefficients.json")
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class ErrorBand:
    """Quantiles of measured / projected from cross-validation: a tenth of the cases lies outside.

    Attributes:
        low: 5 % of the measurements were below this multiple of the projection.
        high: 5 % were above this one.
        median_error: median of abs(projected / measured - 1).
        cases: how many measurements it rests on.
    """

    low: float
    high: float
    median_error: float
    cases: int


@dataclass(frozen=True)
class Coefficients:
    """What the model was fitted to; defaults are where the fit starts, and what it is drawn to where data are silent.

    Attributes:
        issue: share of issue slots that the inner loop of a product fills with multiply-adds at best.
        issue_ampere: the same from Ampere on.
        operand_cost: cost of feeding an outer product from shared memory, relative to its multiply-adds.
        operand_cost_old: the same before Volta, whose SMs feed registers more slowly.
        turning_cost: cost of an operand that lies along the inner dimension and must be turned on its way into shared
            memory.
        turning_cost_old: the same before Volta.
        prologue_steps: start and end of a block, in steps of the inner dimension.
        warps: resident warps at which an SM reaches 63 % of its rate.
        l2_bytes_per_clock: bytes that one SM gets from L2 in a clock.
        drift: share of the inner dimension by which blocks that run at once drift apart.
        drift_old: the same before Volta, where it also stands for address translation that long rows outrun.
        overlap: exponent that joins arithmetic and memory time; infinite is perfect overlap.
        split_us: cost of splitting the inner dimension over blocks, in microseconds.
        product_dram: bandwidth that products reach, relative to elementwise kernels.
        dram_hbm: share of the bandwidth that streaming reaches on HBM from Volta on.
        dram_hbm_old: the same on HBM before Volta.
        dram_gddr: the same on GDDR and LPDDR.
        norm_rate: elements that a lane normalises in a clock.
        softmax_rate: elements that a lane takes through a softmax in a clock.
        l2_keep: share of L2 that holds rows for their second reading.
        pj_per_flop: energy of an fp32 FLOP at nominal voltage on 16 nm, in pJ.
        board_w: what a board draws beside its lanes and memory, in W.
        threshold_voltage: voltage at rest, relative to nominal.
        throttle_us: how long the boost clock holds when work arrives, in microseconds: only short measurements see it.
        throttle_slope: how fast the clock then falls.
        gap_us: from one kernel of a step to the next, in microseconds.
        host_us: latency of a single measured call by kind of op, in microseconds; steps, whose launches queue, are free
            of it.
        catalogue: tiles of cuBLAS by the major compute capability they came with, for batched and plain products.
        kernel_errors: by kind of op, from leave-one-GPU-out.
        step_errors: by mode, from leave-one-GPU-out.
        source: what it was fitted to.
    """

    issue: float = 0.95
    issue_ampere: float = 0.92
    operand_cost: float = 1.2
    operand_cost_old: float = 2.0
    turning_cost: float = 0.03
    turning_cost_old: float = 0.03
    prologue_steps: float = 8.0
    warps: float = 3.0
    l2_bytes_per_clock: float = 32.0
    drift: float = 0.03
    drift_old: float = 0.06
    overlap: float = 4.0
    split_us: float = 8.0
    product_dram: float = 0.85
    dram_hbm: float = 0.90
    dram_hbm_old: float = 0.76
    dram_gddr: float = 0.76
    norm_rate: float = 0.05
    softmax_rate: float = 0.05
    l2_keep: float = 0.5
    pj_per_flop: float = 20.0
    board_w: float = 20.0
    threshold_voltage: float = 0.5
    throttle_us: float = 1000.0
    throttle_slope: float = 1.0
    gap_us: float = 2.5
    host_us: Mapping[str, float] = field(
        default_factory=lambda: {"bmm": 30.0, "linear": 45.0, "elementwise": 15.0, "norm": 35.0, "softmax": 20.0}
    )
    catalogue: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    kernel_errors: Mapping[str, ErrorBand] = field(default_factory=dict)
    step_errors: Mapping[str, ErrorBand] = field(default_factory=dict)
    source: str = "starting values, not fitted"

    def to_json(self) -> str:
        """Text of a coefficients file."""
        content = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(self)}
        return json.dumps(content, indent=2) + "\n"


def load_coefficients(path: Path = SHIPPED) -> Coefficients:
    """Read a coefficients file, by default the shipped one.

    Raises:
        DeviceError: the file cannot be read, or is not one of this version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DeviceError(f"cannot read the coefficients {path}: {error}; fit.py writes them anew") from error
    if not isinstance(content, dict) or content.pop("schema_version", None) != SCHEMA_VERSION:
        raise DeviceError(f"{path} is no coefficients file of version {SCHEMA_VERSION}; fit.py writes one")
    known = {entry.name for entry in dataclasses.fields(Coefficients)}
    if set(content) != known:
        raise DeviceError(f"{path} lacks or has unknown keys: {', '.join(sorted(set(content) ^ known))}")
    return _from_plain(content)


def _from_plain(content: dict[str, Any]) -> Coefficients:
    for key in ("kernel_errors", "step_errors"):
        content[key] = {name: ErrorBand(**band) for name, band in content[key].items()}
    content["catalogue"] = {
        family: {kind: tuple(tiles) for kind, tiles in kinds.items()} for family, kinds in content["catalogue"].items()
    }
    return Coefficients(**content)
