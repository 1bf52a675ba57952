"""What edgeroof's marks cost: profiled steps against plain ``torch.profiler`` with the same options.

Both providers run the same client step on the same batch under the same profiler; one has its ``record_function`` and
NVTX ranges, the other has them replaced by nothing. Steps alternate (ABBA) in one process. The last line is the
verdict, and the exit code follows it.

    python benchmarks/overhead.py --model tiny --pairs 30
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from unittest import mock

import numpy as np

os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # read when torch is loaded

import torch
from torch.profiler import ProfilerActivity, profile

from edgeroof.kernels.statistics import log_ratios, median_interval
from edgeroof.profiler import capture, phases
from edgeroof.workloads.client import ClientConfig, build_client_step

#: The promise: at most this much over the plain profiler.
LIMIT = 0.02


@contextlib.contextmanager
def unmarked() -> Iterator[None]:
    """Take edgeroof's ranges out."""
    with mock.patch.object(phases, "marked", contextlib.nullcontext):
        yield


def profiled_seconds(step: capture.TrainingStep, batch: object) -> float:
    """Seconds of one step under the profiler; starting and stopping it is not counted."""
    on_gpu = step.device.type == "cuda"
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if on_gpu else [])
    with profile(activities=activities, record_shapes=True):
        started = time.perf_counter()
        with phases.marked(phases.STEP_RANGE):
            step.run(batch)
            if on_gpu:
                torch.cuda.synchronize()
        return time.perf_counter() - started


def measure(run: Callable[[], float], pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of marked and unmarked steps, ``pairs`` of each, in ABBA order."""
    marked_s, plain_s = [], []
    for index in range(pairs):
        for is_marked in (True, False) if index % 2 else (False, True):
            with contextlib.nullcontext() if is_marked else unmarked():
                (marked_s if is_marked else plain_s).append(run())
    return np.array(marked_s), np.array(plain_s)


def main() -> int:
    """Run the benchmark; exit code 1 when the overhead is above the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=None)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    step = build_client_step(ClientConfig(model=options.model, batch_size=options.batch_size, device=device))
    batch = capture.representative_batch(step)
    for _ in range(3):
        profiled_seconds(step, batch)
    marked_s, plain_s = measure(lambda: profiled_seconds(step, batch), options.pairs)
    found = median_interval(log_ratios(marked_s, plain_s))
    ratio, low, high = math.exp(found.median), math.exp(found.low), math.exp(found.high)
    print(f"flan-t5-{options.model} on {device}, torch {torch.__version__}, {options.pairs} pairs, ABBA")
    print(
        f"plain torch.profiler {np.median(plain_s) * 1e3:.2f} ms, with marks {np.median(marked_s) * 1e3:.2f} ms a step"
    )
    print(f"ratio {ratio:.4f}, 95 % interval {low:.4f} to {high:.4f}")
    passed = ratio <= 1 + LIMIT
    print(f"{'PASS' if passed else 'FAIL'}: overhead {ratio - 1:+.2%}, limit {LIMIT:.0%}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
