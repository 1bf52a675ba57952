"""The clients that a granularity study compares, from what the user asked for."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import UsageError
from .compute_time import MeasuredStep, StepTime, given_step, measured_step, projected_step, step_count
from .granularity_table import Case

#: Dialogues of one of ten clients when SAMSum's 14,732 are split evenly.
DIALOGUES = 1473
BATCH_SIZE = 32
DEVICE = "a100"
#: Of anything that is counted, and of watts: beyond, nothing is a client any more.
MOST, MOST_COMPUTE_W = 10**9, 1e6


@dataclass(frozen=True)
class Wanted:
    """What to compare.

    Attributes:
        models: names; none means that of the run, or small.
        devices: names, each with a power mode behind a colon or none, as in ``orin:30W``.
        lora_rank: compares adapters of this rank beside all weights.
        step_time_ms: time of a step, when it is known.
        run: folder of a run whose step time is taken.
        dialogues: of a client.
        batch_size: dialogues of a step; by default that of the run, or 32.
        local_epochs: passes over them in a round.
        compute_w: power while computing, in W; by default the run's, or the limit of the device.

    Raises:
        UsageError: on construction, when values make no sense, alone or together.
    """

    models: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    lora_rank: int | None = None
    step_time_ms: float | None = None
    run: str | None = None
    dialogues: int = DIALOGUES
    batch_size: int | None = None
    local_epochs: int = 1
    compute_w: float | None = None

    def __post_init__(self) -> None:
        for name in ("dialogues", "batch_size", "local_epochs", "lora_rank"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= MOST:
                raise UsageError(f"{name} is {value}; it must be at least 1, at most {MOST:,}")
        if self.compute_w is not None and not 0 < self.compute_w <= MOST_COMPUTE_W:
            raise UsageError(f"compute_w is {self.compute_w}; it must be above 0, at most {MOST_COMPUTE_W:g}")
        if self.step_time_ms is not None:
            given_step(self.step_time_ms)
        if self.run is not None and self.step_time_ms is not None:
            raise UsageError("a run has its own step time: give --run or --step-time-ms, not both")
        if self.run is not None and (self.devices or len(self.models) > 1):
            raise UsageError("a run is of one model on one device: leave out --device and further models")
        if self.step_time_ms is not None and (len(self.models) > 1 or len(self.devices) > 1):
            raise UsageError("a step time is that of one model on one device: name one of each with --step-time-ms")


def build_cases(wanted: Wanted) -> list[Case]:
    """The clients, with their computing times.

    Raises:
        EdgeroofError: the run cannot be used, a device is unknown, or a step cannot be projected.
    """
    if wanted.run is not None:
        return _of_run(wanted, measured_step(wanted.run))
    batch = wanted.batch_size or BATCH_SIZE
    steps = step_count(wanted.dialogues, batch, wanted.local_epochs)
    cases = []
    for model in wanted.models or ("small",):
        for device in wanted.devices or (DEVICE,):
            watts, source = _power(device, wanted.compute_w)
            for rank in _ranks(wanted.lora_rank):
                step = _step(wanted.step_time_ms, model, device, batch, rank)
                cases.append(Case(model, rank, device, step, steps, watts, source))
    return cases


def _of_run(wanted: Wanted, run: MeasuredStep) -> list[Case]:
    if wanted.models not in ((), (run.model,)):
        raise UsageError(f"{wanted.run} is a run of {run.model}, not of {wanted.models[0]}: leave out --model")
    if wanted.batch_size not in (None, run.batch_size):
        raise UsageError(
            f"{wanted.run} ran batches of {run.batch_size}, not of {wanted.batch_size}: leave out --batch-size"
        )
    if run.lora_rank is not None and wanted.lora_rank not in (None, run.lora_rank):
        raise UsageError(f"{wanted.run} trained adapters of rank {run.lora_rank}: leave out --lora-rank")
    watts, source = _power(run.device, wanted.compute_w)
    if wanted.compute_w is None and run.power_w is not None:
        watts, source = run.power_w, "mean of the run's steps, measured"
    steps = step_count(wanted.dialogues, run.batch_size, wanted.local_epochs)
    ranks = [run.lora_rank] if run.lora_rank is not None else _ranks(wanted.lora_rank)
    return [Case(run.model, rank, run.device, run.time, steps, watts, source) for rank in ranks]


def _ranks(lora_rank: int | None) -> list[int | None]:
    return [None] if lora_rank is None else [None, lora_rank]


def _step(step_time_ms: float | None, model: str, device: str, batch: int, rank: int | None) -> StepTime:
    if step_time_ms is not None:
        return given_step(step_time_ms)
    name, _, mode = device.partition(":")
    return projected_step(name, mode or None, model=model, batch_size=batch, lora_rank=rank)


def _power(device: str, given: float | None) -> tuple[float | None, str]:
    """Watts while computing, and where they come from."""
    from ...profiler.device import load_device

    name, _, mode = device.partition(":")
    found = load_device(name, power_mode=mode or None)
    if given is not None:
        return given, "given by the user"
    if found.power_w is None:
        return None, "unknown: the device file states none; give --compute-watts"
    return found.power_w, f"limit of {found.title}{f' in mode {mode}' if mode else ''}, an upper bound"
