"""Roofs of this machine's CUDA device, timed with CUDA events."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from ..errors import CalibrationError
from .calibrate_patterns import (
    Timer,
    bandwidths,
    best_by_dtype,
    best_of,
    describe_matmul,
    matmuls,
    multiply_adds,
    other_patterns,
    tf32_allowed,
)
from .device import Device, Roof
from .host import available_memory

SHAPES = (
    (256, 256, 256),
    (1024, 1024, 1024),
    (2048, 512, 1024),
    (4096, 4096, 4096),
    (16384, 512, 1024),
    (16384, 2048, 5120),
    (3072, 512, 32128),
    (8192, 8192, 8192),
)
QUICK_SHAPES = ((256, 256, 256),)
MIB = 1024**2


def measure_cuda(device: Device, report: Callable[[str, float], None], quick: bool) -> dict[str, Any]:
    """Measure bandwidth, matrix products per dtype, a multiply-add loop and the shortest kernel.

    fp32 products without TF32 run on the vector unit. fp64 products may use tensor cores (A100 and later do), so their
    rate is listed for both units, as an upper bound of the vector unit's.

    Raises:
        CalibrationError: not enough free memory on the device.
    """
    timer = event_timer(seconds=0.01 if quick else 0.3, repeats=3 if quick else 20)
    shapes = QUICK_SHAPES if quick else SHAPES
    with torch.no_grad():
        report("warming up", 0.0)
        warm_up(0.02 if quick else 1.0)
        report("memory bandwidth", 0.05)
        size = array_bytes(device.l2_bytes, free_memory(device))
        try:
            streams = bandwidths("cuda", size, timer)
        except torch.cuda.OutOfMemoryError as error:
            raise CalibrationError(_too_little(3 * size)) from error
        products: list[dict[str, Any]] = []
        dtypes = _dtypes(torch.cuda.get_device_capability())
        for number, dtype in enumerate(dtypes):
            report(f"matrix products, {dtype}", 0.2 + 0.7 * number / len(dtypes))
            with tf32_allowed(dtype == "tf32"):
                products += matmuls("cuda", dtype, shapes, timer, budget_s=4.0)
        report("multiply-add and shortest kernel", 0.92)
        loops = multiply_adds("cuda", (1 << 16, 1 << 18, 1 << 20), timer)
        floor_us, method = shortest_kernel_us()
    torch.cuda.empty_cache()
    return {
        "bandwidth": streams,
        "matmul": products,
        "multiply_add": loops,
        "launch_floor_us": floor_us,
        "launch_floor_method": method,
    }


def warm_up(seconds: float) -> None:
    """Keep the GPU busy until its clocks have risen: an idle Jetson takes a good part of a second."""
    x = torch.ones(1024, 1024, device="cuda")
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        torch.mm(x, x)
        torch.cuda.synchronize()


def event_timer(seconds: float, repeats: int) -> Timer:
    """A timer that brackets each call with CUDA events; stops after ``seconds`` of device time."""

    def time_best(run: Callable[[], object]) -> float:
        for _ in range(2):
            run()
        torch.cuda.synchronize()
        best, spent = float("inf"), 0.0
        for _ in range(repeats):
            began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            began.record()
            run()
            ended.record()
            ended.synchronize()
            took = began.elapsed_time(ended) / 1e3
            best, spent = min(best, took), spent + took
            if spent > seconds:
                break
        return best

    return time_best


def free_memory(device: Device) -> int:
    """Free bytes on the device; where it shares the CPU's memory, what the kernel says is available."""
    if device.unified_memory:
        return available_memory()
    return torch.cuda.mem_get_info()[0]


def array_bytes(l2_bytes: int | None, free_bytes: int) -> int:
    """Size of one of the three arrays: eight L2 caches, at least 256 MiB, at most 1 GiB and an eighth of what is free.

    Raises:
        CalibrationError: that is less than two L2 caches, so the figure would be the cache's.
    """
    cache = l2_bytes or 32 * MIB
    size = min(max(8 * cache, 256 * MIB), 1024 * MIB, free_bytes // 8)
    if size < 2 * cache:
        raise CalibrationError(_too_little(16 * cache))
    return size


def shortest_kernel_us(count: int = 200) -> tuple[float, str]:
    """Duration of a kernel on one element in microseconds, and how it was timed.

    A CUDA graph launches the kernels back to back, so that the host's launch rate doesn't count. Where capture fails,
    the time includes the host's launch and is an upper bound.
    """
    x = torch.ones(1, device="cuda")

    def chain() -> None:
        for _ in range(count):
            x.add_(1.0)

    timer = event_timer(seconds=0.05, repeats=20)
    try:
        graph = torch.cuda.CUDAGraph()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            x.add_(1.0)
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(graph):
            chain()
        return timer(graph.replay) / count * 1e6, f"CUDA graph of {count} kernels"
    except RuntimeError:
        torch.cuda.synchronize()
        return timer(chain) / count * 1e6, f"{count} launches from the host, an upper bound"


def assemble(raw: dict[str, Any]) -> Roof:
    """The roof from the raw measurements."""
    stream = best_of(raw["bandwidth"], "gbs")
    by_dtype = best_by_dtype(raw["matmul"])
    rate = {dtype: product["gflops"] * 1e9 for dtype, product in by_dtype.items()}
    loop = best_of(raw["multiply_add"], "gflops")["gflops"] * 1e9
    vector: dict[str, float] = {"fp32": max(rate.get("fp32", 0.0), loop)}
    if "fp64" in rate:
        vector["fp64"] = rate["fp64"]
    tensor: dict[str, float] = {dtype: rate[dtype] for dtype in ("fp64", "tf32", "fp16", "bf16") if dtype in rate}
    notes = [
        f"bandwidth of the {stream['pattern']} pattern, reads + writes ({other_patterns(raw['bandwidth'], stream)})",
        *(describe_matmul(product) for product in by_dtype.values()),
        f"shortest kernel: {raw['launch_floor_method']}",
    ]
    peaks = {"vector": vector, "tensor": tensor}
    return Roof("measured", stream["gbs"] * 1e9, peaks, raw["launch_floor_us"], "; ".join(notes))


def _dtypes(capability: tuple[int, int]) -> tuple[str, ...]:
    """Types to measure: TF32 and bf16 came with Ampere."""
    return ("fp32", "tf32", "fp16", "bf16", "fp64") if capability >= (8, 0) else ("fp32", "fp16", "fp64")


def _too_little(needed: int) -> str:
    return (
        f"too little free memory on the GPU to measure its bandwidth beyond the cache: about {needed // MIB:,} MiB are "
        "needed; stop other programs that use it (nvidia-smi or tegrastats lists them) and try again"
    )
