"""The types of ``run.json``, to tell a damaged summary from a sound one before anything is drawn from it.

:mod:`.schema` says what every entry means. Unknown entries are ignored; ``None`` stands for what does not apply.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from ..errors import RunError
from .migrations import migrate_summary

_Steps = Annotated[int, msgspec.Meta(ge=1)]


class _Roof(msgspec.Struct):
    source: str
    peaks_gflops: dict[str, dict[str, float]]
    bandwidth_gbs: float | None = None
    launch_floor_us: float | None = None
    note: str | None = None


class _Device(msgspec.Struct):
    name: str
    title: str
    kind: str
    roofs: list[_Roof]
    power_mode: str | None = None
    sm_count: int | None = None
    l2_bytes: float | None = None
    memory_bytes: float | None = None
    unified_memory: bool = False
    roof_used: str | None = None
    sources: dict[str, str] = {}


class _Claim(msgspec.Struct):
    text: str
    kernels: dict[str, str] = {}


class _Answer(msgspec.Struct):
    headline: str
    details: list[str] = []
    claims: list[_Claim] = []


class _StepTime(msgspec.Struct):
    median: float
    p25: float
    p75: float
    min: float
    max: float
    samples: list[float] = []


class _Utilisation(msgspec.Struct):
    value: float | None = None
    denominator: str | None = None
    reason: str | None = None
    model_flops: float | None = None
    hardware_flops: float | None = None


class _Tokens(msgspec.Struct):
    non_padding: float | None = None
    padded: float | None = None


class _PeakMemory(msgspec.Struct):
    bytes: float | None = None
    what: str | None = None


class _Power(msgspec.Struct):
    available: bool = False
    reason: str | None = None
    mean_w: float | None = None
    energy_per_step_j: float | None = None
    tokens_per_s_per_w: float | None = None
    domain: str | None = None
    method: str | None = None
    note: str | None = None


class _Metrics(msgspec.Struct):
    step_time_ms: _StepTime | None = None
    phase_samples_ms: dict[str, list[float]] = {}
    mfu: _Utilisation | None = None
    hfu: _Utilisation | None = None
    tokens_per_s: _Tokens | None = None
    peak_memory: _PeakMemory | None = None
    power: _Power | None = None
    profiler_slowdown: float | None = None


class _UnknownOp(msgspec.Struct):
    op: str
    dur_us: float
    share: float
    kernels: float


class _Ledger(msgspec.Struct):
    kernel_us: float
    kernels: float
    linked_share: float
    priced_share: dict[str, float]
    communication_share: float = 0.0
    unknown_ops: list[_UnknownOp] = []


class _Bound(msgspec.Struct):
    bound: str
    dur_us: float
    share: float
    kernels: float
    headroom_us: float | None = None


class _Headroom(msgspec.Struct):
    rank: int
    op: str
    phase: str
    bound: str
    dur_us: float
    headroom_us: float
    kernels: float
    roof_fraction: float | None = None
    advice: str | None = None


class _OptimizerOp(msgspec.Struct):
    op: str
    kernels: float
    dur_us: float
    bytes_per_parameter: float | None = None
    roof_fraction: float | None = None
    bound: str | None = None


class _Optimizer(msgspec.Struct):
    found: bool
    reason: str | None = None
    ops: list[_OptimizerOp] = []
    dur_us: float | None = None
    share: float | None = None
    parameters: int | None = None
    bytes_per_parameter: float | None = None
    floor_bytes_per_parameter: float | None = None
    floor_name: str | None = None
    passes: float | None = None
    time_at_roof_us: float | None = None
    time_at_floor_us: float | None = None


class _Timing(msgspec.Struct):
    semantics: str | None = None
    verdict: str | None = None


class _AlignedStep(msgspec.Struct):
    step: int
    recorded: int
    profiled: int
    matched: int


class _Alignment(msgspec.Struct):
    ok: bool
    message: str
    steps: list[_AlignedStep] = []


class _Estimate(msgspec.Struct):
    value: float
    low: float | None = None
    high: float | None = None


class _PhaseEstimate(_Estimate, kw_only=True):
    phase: str


class _MemoryFit(msgspec.Struct):
    parts: dict[str, float]
    total: float
    room: float
    reserved: float
    fits: bool
    largest_batch: int | None = None
    capped: bool = False


class _Range(msgspec.Struct):
    low: float
    high: float


class _PowerMode(msgspec.Struct):
    mode: str
    chosen: bool
    step_time_ms: _Estimate
    bounds: dict[str, float]
    gpu_mhz: float | None = None
    emc_mhz: float | None = None
    tokens_per_s: float | None = None
    energy_j: _Range | None = None


class _Projection(msgspec.Struct):
    method: str
    interval: str
    step_time_ms: _Estimate
    phases: list[_PhaseEstimate]
    assumed: list[str] = []
    memory: _MemoryFit | None = None
    power_modes: list[_PowerMode] = []


class _Trace(msgspec.Struct):
    start_ns: int


class _Workload(msgspec.Struct):
    model: str | None = None
    data: str | None = None
    batch_size: int | None = None
    source_length: int | None = None
    target_length: int | None = None
    precision: str | None = None
    optimizer: str | None = None
    attention: str | None = None


class _Versioned(msgspec.Struct):
    schema_version: int


class _Summary(msgspec.Struct):
    kind: Literal["measured", "imported", "projected"]
    title: str
    profiled_steps: _Steps
    device: _Device
    answer: _Answer
    ledger: _Ledger
    bounds: list[_Bound]
    headroom: list[_Headroom]
    optimizer: _Optimizer
    created: str | None = None
    command: str | None = None
    environment: dict[str, Any] = {}
    workload: _Workload | None = None
    metrics: _Metrics | None = None
    timing: _Timing | None = None
    alignment: _Alignment | None = None
    projection: _Projection | None = None
    trace: _Trace | None = None
    warnings: list[str] = []


def read_summary(text: bytes) -> dict[str, Any]:
    """Read ``run.json``, of this schema version or an older one, and check that every entry has its type.

    Raises:
        RunError: it is not JSON, is of a version that cannot be read, or an entry is wrong; the message names it.
    """
    return read_versioned(text)[0]


def read_versioned(text: bytes) -> tuple[dict[str, Any], int]:
    """As :func:`read_summary`, with the version that the summary was written in.

    Raises:
        RunError: as there.
    """
    try:
        summary: Any = msgspec.json.decode(text)  # unlike the standard library, this refuses NaN and Infinity
        version = msgspec.convert(summary, _Versioned).schema_version
        summary = migrate_summary(summary, version)
        msgspec.convert(summary, _Summary)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RunError(f"it is damaged: {error}") from error
    return summary, version
