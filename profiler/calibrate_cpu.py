"""Roofs of this machine's CPU, in a few seconds, with the number of threads PyTorch uses now."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from ..errors import CalibrationError
from .calibrate_patterns import (
    bandwidths,
    best_by_dtype,
    best_of,
    describe_matmul,
    matmuls,
    multiply_adds,
    other_patterns,
)
from .device import Device, Roof
from .host import available_memory

#: Square products, and those of a T5 step (tokens × d_model × d_ff, the projection to the vocabulary): on CPUs a
#: slim one often beats a square one, and the roof has to be the higher.
SHAPES = (
    (128, 256, 256),
    (256, 512, 512),
    (2048, 512, 1024),
    (2048, 512, 512),
    (2048, 1024, 512),
    (1024, 1024, 1024),
    (512, 2048, 1024),
    (512, 512, 512),
    (384, 512, 8192),
    (2048, 2048, 2048),
)
#: Seconds for the products of each dtype; fp32 is the one that most rooflines stand on.
BUDGET_S = {"fp32": 2.5, "fp64": 1.0, "bf16": 1.0, "fp16": 1.0}
QUICK_SHAPES = ((64, 64, 64), (96, 64, 128))
MIB = 1024**2


def measure_cpu(device: Device, report: Callable[[str, float], None], quick: bool) -> dict[str, Any]:
    """Measure bandwidth, matrix products, a multiply-add loop and the shortest op.

    Matrix products in fp32 and fp64 run on the vector unit; those in bf16 and fp16 are listed under ``tensor``, where a
    CPU with matrix instructions has them and where their rate differs from fp32 in any case.

    Raises:
        CalibrationError: not enough memory for arrays well beyond the last-level cache.
    """
    threads = min(torch.get_num_threads(), device.cores or 1)
    timer = BestTimer(0.002, 2) if quick else BestTimer(0.1, 5)
    stream_timer = timer if quick else BestTimer(0.4, 30)
    watched = BestTimer(0.002 if quick else 0.1, 2 if quick else 5, threads)
    with torch.no_grad():
        report("memory bandwidth", 0.0)
        size = MIB if quick else array_bytes(device.llc_bytes, available_memory())
        streams = bandwidths("cpu", size, stream_timer)
        products: list[dict[str, Any]] = []
        for number, (dtype, budget_s) in enumerate(BUDGET_S.items()):
            report(f"matrix products, {dtype}", 0.2 + 0.175 * number)
            shapes = QUICK_SHAPES if quick else SHAPES
            chosen = watched if dtype == "fp32" else timer
            products += matmuls("cpu", dtype, shapes, chosen, budget_s=0.05 if quick else budget_s)
        report("multiply-add and shortest op", 0.92)
        loops = multiply_adds("cpu", (1 << 12, 1 << 14, 1 << 16), BestTimer(0.02, 50))
        floor_us = shortest_op_us(200 if quick else 2000)
    return {
        "bandwidth": streams,
        "matmul": products,
        "multiply_add": loops,
        "launch_floor_us": floor_us,
        "cpu_share": watched.share,
    }


class BestTimer:
    """Times a function: once to warm up, then up to ``repeats`` times, stopping after ``seconds``; gives the best time.

    ``share`` is the part of the timed runs during which ``threads`` threads of this process really ran.
    """

    def __init__(self, seconds: float, repeats: int, threads: int = 1) -> None:
        self._seconds, self._repeats, self._threads = seconds, repeats, threads
        self._wall_s = self._cpu_s = 0.0

    def __call__(self, run: Callable[[], object]) -> float:
        """Best time of one call, in seconds."""
        run()
        best, spent = float("inf"), 0.0
        busy = time.process_time()
        for _ in range(self._repeats):
            began = time.perf_counter()
            run()
            took = time.perf_counter() - began
            best, spent = min(best, took), spent + took
            if spent > self._seconds:
                break
        self._wall_s += spent
        self._cpu_s += time.process_time() - busy
        return best

    @property
    def share(self) -> float:
        """CPU time used in the timed runs / (their length × threads)."""
        return self._cpu_s / (self._wall_s * self._threads) if self._wall_s else 1.0


def array_bytes(llc_bytes: int | None, available_bytes: int) -> int:
    """Size of one of the three arrays: four last-level caches, at least 64 MiB, at most a tenth of free memory.

    Above 512 MiB two caches are enough: the three arrays together are then six.

    Raises:
        CalibrationError: that is less than one and a half caches, so the figure would be the cache's.
    """
    cache = llc_bytes or 32 * MIB
    size = min(max(4 * cache, 64 * MIB), max(2 * cache, 512 * MIB), available_bytes // 10)
    if 2 * size < 3 * cache:
        raise CalibrationError(
            f"{available_bytes // MIB:,} MiB of free memory is too little to measure bandwidth beyond a cache of "
            f"{cache // MIB} MiB; close other programs and try again"
        )
    return size


def shortest_op_us(calls: int) -> float:
    """Time of an in-place op on one element in microseconds, the best of ten loops: no op can be faster.

    The call from Python is part of it, as it is in every eager step.
    """
    x = torch.ones(1)
    best = float("inf")
    for _ in range(10):
        began = time.perf_counter()
        for _ in range(calls // 10):
            x.neg_()
        best = min(best, (time.perf_counter() - began) / (calls // 10))
    return best * 1e6


def assemble(raw: dict[str, Any]) -> Roof:
    """The roof from the raw measurements."""
    stream = best_of(raw["bandwidth"], "gbs")
    by_dtype = best_by_dtype(raw["matmul"])
    loop = best_of(raw["multiply_add"], "gflops")
    vector = {dtype: by_dtype[dtype]["gflops"] * 1e9 for dtype in ("fp32", "fp64")}
    vector["fp32"] = max(vector["fp32"], loop["gflops"] * 1e9)
    tensor = {dtype: by_dtype[dtype]["gflops"] * 1e9 for dtype in ("bf16", "fp16")}
    notes = [
        f"{torch.get_num_threads()} threads",
        f"bandwidth of the {stream['pattern']} pattern, reads + writes ({other_patterns(raw['bandwidth'], stream)})",
        *(describe_matmul(product) for product in by_dtype.values()),
    ]
    if is_contended(raw):
        notes.append(
            f"other programs took {100 - 100 * raw['cpu_share']:.0f} % of the processors meanwhile, so these may be low"
        )
    peaks = {"vector": vector, "tensor": tensor}
    return Roof("measured", stream["gbs"] * 1e9, peaks, raw["launch_floor_us"], "; ".join(notes))


def is_contended(raw: dict[str, Any]) -> bool:
    """Whether other programs had a good part of the processors during the measurement."""
    return raw["cpu_share"] < 0.85
