"""Public figures of fp32 products on GPUs that served no fit, beside the model.

    python benchmarks/projection/public_products.py

The measurements are torch.matmul of square matrices without TF32 (CUDA 12.8), or cuBLAS by itself; each names where it
was published. docs/projection.md holds the table. The exit code is 3 when one is off by more than a quarter.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgeroof.profiler.device import load_device
from edgeroof.profiler.projection import describe_hardware, load_coefficients
from edgeroof.profiler.projection.matmul import Products, product_times

_DATABASE = "github.com/zzc0721/torch-performance-test-data/issues/"
_LIMIT = 0.25
_MISSED = 3


class Figure(NamedTuple):
    """A board (the name of its file, or the text of one), the size of the product, TFLOP/s, and where that stands."""

    title: str
    device: str
    size: int
    tflops: float
    source: str


def board(
    title: str, capability: str, sms: int, l2_mib: int, gib: int, gbs: int, mhz: int, watts: int, tflops: float
) -> str:
    """A device file as a user would write one from a data sheet."""
    return (
        f'title = "{title}"\ncompute_capability = [{capability}]\n[figures]\nsm_count = {sms}\nl2_mib = {l2_mib}\n'
        f"memory_gib = {gib}\nbandwidth_gbs = {gbs}\ngpu_mhz = {mhz}\npower_w = {watts}\n"
        f"[peaks.vector]\nfp32 = {tflops}\n"
    )


FIGURES = (
    Figure("H100 SXM", "h100", 8192, 51.81, _DATABASE + "79"),
    Figure("H100 PCIe", "h100-pcie", 8192, 36.95, _DATABASE + "95"),
    Figure("L4", "l4", 8192, 10.66, _DATABASE + "120"),
    Figure("A40", board("A40", "8, 6", 84, 6, 48, 696, 1740, 300, 37.4), 8192, 23.73, _DATABASE + "185"),
    Figure(
        "RTX A6000", board("A6000", "8, 6", 84, 6, 48, 768, 1800, 300, 38.7), 4096, 23.25,
        "siboehm.com/articles/22/CUDA-MMM",
    ),
    Figure("RTX A4000", board("A4000", "8, 6", 48, 4, 16, 448, 1560, 140, 19.2), 8192, 11.90, _DATABASE + "97"),
    Figure("RTX 4090", board("4090", "8, 9", 128, 72, 24, 1008, 2520, 450, 82.6), 8192, 53.41, _DATABASE + "78"),
    Figure(
        "RTX 4070 Ti", board("4070 Ti", "8, 9", 60, 48, 12, 504, 2610, 285, 40.1), 4096, 29.17,
        "github.com/Yinghan-Li/YHs_Sample/issues/4",
    ),
)  # fmt: skip


def projected_tflops(device: str, size: int) -> float:
    """TFLOP/s of a square product by the model, repeated without end."""
    with tempfile.TemporaryDirectory() as folder:
        if "\n" in device:
            path = Path(folder) / "board.toml"
            path.write_text(device, encoding="utf-8")
            device = str(path)
        hardware = describe_hardware(load_device(device))
    one, side = np.ones(1), np.full(1, float(size))
    times = product_times(Products(one, side, side, side, one, batched=False), hardware, load_coefficients())
    return float(2.0 * size**3 / times.seconds[0] / 1e12)


def main() -> int:
    """Print the table; return the exit code."""
    print("| board | size | published, TFLOP/s | model | error | where |")
    print("|---|---:|---:|---:|---:|---|")
    worst = 0.0
    for figure in FIGURES:
        projected = projected_tflops(figure.device, figure.size)
        error = projected / figure.tflops - 1
        worst = max(worst, abs(error))
        numbers = f"{figure.size} | {figure.tflops:.1f} | {projected:.1f} | {error:+.0%}"
        print(f"| {figure.title} | {numbers} | {figure.source} |")
    return _MISSED if worst > _LIMIT else 0


if __name__ == "__main__":
    sys.exit(main())
