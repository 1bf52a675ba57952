"""Capture of a training step in three passes, so that no number is polluted by another's instrument.

1. *bare* steps: wall time, phase times, energy, peak memory.
2. *profiled* steps under ``torch.profiler``: kernel times, as a Kineto trace.
3. one *recorded* step under a dispatch mode: every op with its true tensor metadata.

The second and third pass run the same batch, so that their op sequences can be aligned.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import CaptureError, UsageError
from .memory import PeakMemory
from .ops import OpRecord
from .phases import STEP_RANGE, listening, marked
from .power import find_meter
from .timing import CudaClock, HostClock, StepTimer, StepTiming

if TYPE_CHECKING:
    import torch

    from .power.common import EnergyMeter

#: Called with the name of the pass, steps done and steps in all.
Progress = Callable[[str, int, int], None]


class TrainingStep(Protocol):
    """What can be captured: a step that marks its phases with :func:`~edgeroof.profiler.phases.phase`."""

    model: torch.nn.Module

    @property
    def batches(self) -> Sequence[Any]:
        """The batches of the client's local training."""

    @property
    def device(self) -> torch.device:
        """Where the step runs."""

    def run(self, batch: Any) -> Any:
        """Run one step on ``batch``; the result has ``tokens`` and ``padded_tokens``, counted without a sync."""

    def padded_tokens(self, batch: Any) -> int:
        """Size of ``batch`` with padding, in tokens."""


@dataclass(frozen=True)
class CaptureOptions:
    """How many steps each pass takes.

    Raises:
        UsageError: a number is out of range.
    """

    warmup_steps: int = 1
    steps: int = 5
    profiled_steps: int = 2

    def __post_init__(self) -> None:
        if self.steps < 1 or self.profiled_steps < 1:
            raise UsageError("--steps and --profiled-steps must be at least 1: without a step there is nothing to see")
        if self.warmup_steps < 1:
            raise UsageError("--warmup must be at least 1: the first step allocates the optimizer's state")


@dataclass
class Capture:
    """Everything the three passes saw."""

    timings: list[StepTiming]
    tokens: list[tuple[int, int]]
    peak_memory: PeakMemory
    meter: EnergyMeter
    trace_path: Path
    records: list[OpRecord]


def capture(
    step: TrainingStep,
    options: CaptureOptions,
    trace_path: Path,
    on_progress: Progress = lambda name, done, total: None,
) -> Capture:
    """Run the three passes.

    Args:
        step: the training step; its model and optimizer are changed by the steps that run.
        options: numbers of steps.
        trace_path: where the Kineto trace is written (``.json.gz``).
        on_progress: told after each step.

    Raises:
        CaptureError: the profiler could not write its trace.
    """
    chosen = representative_batch(step)
    for index in range(options.warmup_steps):
        on_progress("warm-up", index, options.warmup_steps)
        step.run(step.batches[index % len(step.batches)])
    on_progress("warm-up", options.warmup_steps, options.warmup_steps)
    timings, tokens, memory, meter = _bare_pass(step, options, on_progress)
    _profiled_pass(step, chosen, options, trace_path, on_progress)
    records = _recorded_pass(step, chosen, on_progress)
    return Capture(timings, tokens, memory, meter, trace_path, records)


def representative_batch(step: TrainingStep) -> Any:
    """The batch of median padded size: the profiled and the recorded pass both run it.

    Raises:
        UsageError: there is no batch.
    """
    if not step.batches:
        raise UsageError("there is no batch to run: the data set is smaller than one batch")
    ordered = sorted(step.batches, key=step.padded_tokens)
    return ordered[(len(ordered) - 1) // 2]


def _bare_pass(
    step: TrainingStep, options: CaptureOptions, on_progress: Progress
) -> tuple[list[StepTiming], list[tuple[int, int]], PeakMemory, EnergyMeter]:
    on_gpu = step.device.type == "cuda"
    timer = StepTimer(CudaClock() if on_gpu else HostClock())
    meter = find_meter(step.device.type, step.device.index or 0)
    memory = PeakMemory(step.device.type)
    tokens: list[tuple[int, int]] = []
    _synchronize(step.device)
    with memory, meter, listening(timer):
        for index in range(options.steps):
            on_progress("bare steps", index, options.steps)
            with timer.step():
                result = step.run(step.batches[index % len(step.batches)])
            tokens.append((result.tokens, result.padded_tokens))
        _synchronize(step.device)
    on_progress("bare steps", options.steps, options.steps)
    return timer.results(), tokens, memory, meter


def _profiled_pass(
    step: TrainingStep, batch: Any, options: CaptureOptions, trace_path: Path, on_progress: Progress
) -> None:
    from torch.profiler import ProfilerActivity, profile, schedule

    on_gpu = step.device.type == "cuda"
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if on_gpu else [])
    # CUPTI allocates its buffers in a first step that does not count; a CPU has nothing to warm up.
    warmup = 1 if on_gpu else 0
    plan = schedule(wait=0, warmup=1, active=options.profiled_steps, repeat=1) if on_gpu else None
    total = warmup + options.profiled_steps
    _synchronize(step.device)
    with profile(activities=activities, record_shapes=True, schedule=plan) as profiler:
        for index in range(total):
            on_progress("profiled steps", index, total)
            with marked(STEP_RANGE):
                step.run(batch)
                _synchronize(step.device)
            if on_gpu:
                profiler.step()
    on_progress("profiled steps", total, total)
    try:
        profiler.export_chrome_trace(str(trace_path))
    except (OSError, RuntimeError) as error:
        raise CaptureError(f"the trace could not be written to {trace_path.parent}: {error}") from error


def _recorded_pass(step: TrainingStep, batch: Any, on_progress: Progress) -> list[OpRecord]:
    from .recorder import OpRecorder

    on_progress("recorded step", 0, 1)
    gc.collect()
    with OpRecorder(step.model) as recorder:
        step.run(batch)
    on_progress("recorded step", 1, 1)
    return recorder.records


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)
