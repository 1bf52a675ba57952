"""Invented kernels of a FLAN-T5-small step on an invented Orin: every bound and phase, and names that mean harm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

IMG = "<img src=x onerror=alert(1)>"
SCRIPT = "</script><script>document.title='owned'</script>"
UNICODE = "ядро_матмул_行列 \u202egnp.exe\u2028\x1b[31mred"
MARKUP = "[bold red]not markup[/bold red] [2048,512]"
LONG = (
    "void at::native::vectorized_elementwise_kernel<4, "
    + "cutlass::epilogue::thread::LinearCombination<float, 4, " * 36
    + "at::native::CUDAFunctor_add<float>>(int, at::native::TheEnd)"
)
LONG = LONG + "x" * (2000 - len(LONG)) if len(LONG) < 2000 else LONG

BANDWIDTH = 184e9
PEAKS = {("tensor", "bf16"): 37.1e12, ("vector", "fp32"): 4.7e12, ("vector", "bf16"): 4.7e12}
FLOOR_US = 4.0


@dataclass
class Kernel:
    """One kind of kernel: what it does and how close to its roof it runs."""

    op: str
    name: str
    phase: str
    flops: float
    bytes_read: float
    bytes_written: float
    fraction: float = 0.7
    module: str = ""
    shapes: str = ""
    dtype: str = "bf16"
    unit: str = "vector"
    autograd: str = "forward"
    provenance: str = "exact"
    kind: str = "kernel"


def _mm(rows: int, inner: int, columns: int, phase: str, module: str, fraction: float) -> Kernel:
    name = f"sm80_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize{128 if columns > 600 else 64}x128x32_stage4_execute"
    return Kernel(
        "aten::mm", name, phase, 2.0 * rows * inner * columns, 2.0 * (rows * inner + inner * columns),
        2.0 * rows * columns, fraction, module, f"[{rows},{inner}] [{inner},{columns}]", "bf16", "tensor",
        "backward" if phase == "backward" else "forward",
    )  # fmt: skip


def _pointwise(
    op: str, name: str, numel: int, phase: str, module: str, fraction: float, reads: int = 1, itemsize: int = 2
) -> Kernel:
    dtype = "bf16" if itemsize == 2 else "fp32"
    return Kernel(
        op, name, phase, float(numel), itemsize * reads * float(numel), itemsize * float(numel), fraction, module,
        f"[{numel // 512},512]", dtype, "vector", "backward" if phase == "backward" else "forward",
    )  # fmt: skip


def _block(stack: str, index: int, tokens: int, phase: str, rng: np.random.Generator) -> list[Kernel]:
    """The kernels of one T5 block of FLAN-T5-small, batch 32."""
    width, ff, heads = 512, 1024, 6
    attention = f"{stack}.block.{index}.layer.0.SelfAttention"
    feed_forward = f"{stack}.block.{index}.layer.1.DenseReluDense"
    norm = f"{stack}.block.{index}.layer.0.layer_norm"
    length = tokens // 32
    scores = 32 * heads * length * length
    jitter = lambda low, high: float(rng.uniform(low, high))  # noqa: E731
    kernels = [
        _pointwise(
            "aten::pow",
            "void at::native::vectorized_elementwise_kernel<4, pow_tensor_scalar>",
            tokens * width,
            phase,
            norm,
            jitter(0.5, 0.8),
        ),
        _pointwise(
            "aten::mean", "void at::native::reduce_kernel<512, MeanOps>", tokens * width, phase, norm, jitter(0.3, 0.5)
        ),
        _pointwise(
            "aten::mul",
            "void at::native::vectorized_elementwise_kernel<4, MulFunctor>",
            tokens * width,
            phase,
            norm,
            jitter(0.6, 0.95),
            2,
        ),
    ]
    for projection in ("q", "k", "v", "o"):
        kernels.append(_mm(tokens, width, heads * 64, phase, f"{attention}.{projection}", jitter(0.45, 0.75)))
    kernels += [
        Kernel(
            "aten::bmm",
            "ampere_bf16_s16816gemm_bf16_64x64_ldg8_f2f_stages_64x5_tn",
            phase,
            2.0 * scores * 64,
            4.0 * tokens * heads * 64,
            2.0 * scores,
            jitter(0.3, 0.6),
            attention,
            f"[{32 * heads},{length},64] [{32 * heads},64,{length}]",
            "bf16",
            "tensor",
        ),
        Kernel(
            "aten::_softmax",
            "void (anonymous namespace)::cunn_SoftMaxForward<8, float>",
            phase,
            5.0 * scores,
            2.0 * scores,
            2.0 * scores,
            jitter(0.15, 0.22),
            attention,
            f"[32,{heads},{length},{length}]",
        ),
        Kernel(
            "aten::copy_",
            "void at::native::unrolled_elementwise_kernel<direct_copy_kernel_cuda>",
            phase,
            0.0,
            2.0 * tokens * 384,
            2.0 * tokens * 384,
            jitter(0.3, 0.9),
            attention,
            f"[32,{heads},{length},64]",
            unit="none",
        ),
        _mm(tokens, width, ff, phase, f"{feed_forward}.wi_0", jitter(0.5, 0.8)),
        _mm(tokens, width, ff, phase, f"{feed_forward}.wi_1", jitter(0.5, 0.8)),
        _pointwise(
            "aten::gelu",
            "void at::native::vectorized_elementwise_kernel<4, GeluCUDAKernelImpl>",
            tokens * ff,
            phase,
            feed_forward,
            jitter(0.6, 0.9),
        ),
        _mm(tokens, ff, width, phase, f"{feed_forward}.wo", jitter(0.5, 0.8)),
        _pointwise(
            "aten::native_dropout",
            "void at::native::fused_dropout_kernel_vec<bf16>",
            tokens * width,
            phase,
            feed_forward,
            jitter(0.35, 0.6),
        ),
    ]
    return kernels


def _tiny(op: str, phase: str, count: int, rng: np.random.Generator) -> list[Kernel]:
    """Kernels that do next to nothing: the launch is all there is."""
    return [
        Kernel(
            op,
            "void at::native::vectorized_elementwise_kernel<4, FillFunctor<float>>",
            phase,
            8.0,
            32.0,
            32.0,
            float(rng.uniform(0.0001, 0.0002)),
            "",
            "[]",
            "fp32",
        )
        for _ in range(count)
    ]


def _step(rng: np.random.Generator, hostile: bool) -> list[Kernel]:
    kernels = [
        Kernel("aten::copy_", "Memcpy HtoD (Pinned -> Device)", "data", 0, 131072, 131072, 0.4, "", "[32,512]", "int64",
               "none", "none", kind="memcpy"),
        Kernel("aten::zero_", "Memset (Device)", "zero_grad", 0, 0, 3.1e8, 0.8, "", "", "fp32", "none", "none",
               kind="memset"),
        Kernel("aten::embedding", "void at::native::indexSelectLargeIndex<bf16>", "forward", 0, 1.7e7, 1.6e7, 0.5,
               "shared", "[32128,512] [32,512]", unit="none"),
    ]  # fmt: skip
    for stack, tokens in (("encoder", 32 * 512), ("decoder", 32 * 96)):
        for index in range(8):
            kernels += _block(stack, index, tokens, "forward", rng)
    kernels.append(_mm(32 * 96, 512, 32128, "forward", "lm_head", 0.81))
    kernels.append(Kernel("aten::_log_softmax", "void cunn_SoftMaxForward<4, float>", "loss", 5e8, 1.9e8, 3.9e8, 0.42,
                          "", "[3072,32128]", "fp32"))  # fmt: skip
    kernels += _tiny("aten::fill_", "loss", 6, rng)
    for stack, tokens in (("decoder", 32 * 96), ("encoder", 32 * 512)):
        for index in reversed(range(8)):
            for kernel in _block(stack, index, tokens, "backward", rng):
                kernel.autograd = "backward"
                kernels += [kernel, kernel] if kernel.unit == "tensor" else [kernel]
    kernels += _tiny("aten::add_", "backward", 20, rng)
    kernels.append(Kernel("c10d::allreduce_", "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096>)",
                          "communication", math.nan, math.nan, math.nan, 900.0, "", "[76961152]", "fp32", "none",
                          "none", "unknown"))  # fmt: skip
    for chunk in range(7):
        numel = 76961152 / 7
        kernels.append(Kernel("aten::_fused_adamw_", "multi_tensor_apply<FusedAdamMath>", "optimizer", 12 * numel,
                              16 * numel, 12 * numel, 0.56, "", f"chunk {chunk}", "fp32"))  # fmt: skip
    kernels.append(Kernel("custom::rope", "triton_rope_kernel_0d1d2d", "forward", math.nan, math.nan, math.nan, 85.0,
                          "encoder.block.0.layer.0.SelfAttention", "[32,512,512]", "bf16", "vector", "forward",
                          "unknown"))  # fmt: skip
    kernels.append(Kernel("", "cutlass_unlinked_kernel", "", math.nan, math.nan, math.nan, 40.0, provenance="unknown",
                          dtype="", unit="none", autograd="none"))  # fmt: skip
    kernels.append(_pointwise("aten::add", "cached_in_l2", 3072 * 512, "backward", "decoder.block.0", 1.8, 2))
    if hostile:
        for name in (IMG, SCRIPT, UNICODE, MARKUP, LONG):
            kernels.append(_pointwise("aten::mul", name, 4096 * 512, "forward", IMG, 0.4))
        kernels.append(Kernel(IMG, SCRIPT, "forward", math.nan, math.nan, math.nan, 30.0, SCRIPT, UNICODE,
                              provenance="unknown"))  # fmt: skip
    return kernels


def _classified(kernels: list[Kernel], step: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Rows of the kernel table; ``fraction`` of a kernel without a cost is its duration in µs."""
    rows, clock = [], 0.0
    for kernel in kernels:
        moved = kernel.bytes_read + kernel.bytes_written
        peak = PEAKS.get((kernel.unit, kernel.dtype), PEAKS["vector", "fp32"])
        t_compute, t_memory = kernel.flops / peak * 1e6, moved / BANDWIDTH * 1e6
        t_roof = max(t_compute, t_memory)
        priced = not math.isnan(t_roof)
        duration = (max(t_roof / kernel.fraction, 1.5) if priced else kernel.fraction) * rng.normal(1, 0.02)
        fraction = t_roof / duration if priced else math.nan
        rows.append(
            {
                "step": step,
                "name": kernel.name,
                "kind": kernel.kind,
                "device_index": 0,
                "stream": 7,
                "start_us": clock,
                "dur_us": duration,
                "phase": kernel.phase,
                "module": kernel.module,
                "op": kernel.op,
                "op_index": -1,
                "autograd": kernel.autograd,
                "shapes": kernel.shapes,
                "dtype": kernel.dtype,
                "unit": kernel.unit,
                "flops": kernel.flops,
                "bytes_read": kernel.bytes_read,
                "bytes_written": kernel.bytes_written,
                "provenance": kernel.provenance,
                "linked": bool(kernel.op),
                "intensity": kernel.flops / moved if moved else math.nan,
                "gflops": kernel.flops / duration / 1e3,
                "bandwidth_gbs": moved / duration / 1e3,
                "t_compute_us": t_compute,
                "t_memory_us": t_memory,
                "t_roof_us": t_roof,
                "roof_fraction": fraction,
                "headroom_us": duration - t_roof,
                "bound": _bound(kernel, duration, t_compute, t_memory, fraction),
            }
        )
        clock += duration * 1.05 + 2.0
    return rows


def _bound(kernel: Kernel, duration: float, t_compute: float, t_memory: float, fraction: float) -> str:
    if kernel.phase == "communication":
        return "communication"
    if math.isnan(fraction):
        return "unknown"
    if fraction >= 0.25:
        return "memory" if t_memory >= t_compute else "compute"
    return "latency" if duration < 5 * FLOOR_US else "inefficient"


def kernel_table(steps: int = 2, *, seed: int = 0, hostile: bool = True) -> pd.DataFrame:
    """A classified kernel table of some 580 kernels a step."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for step in range(steps):
        rows += _classified(_step(np.random.default_rng(seed), hostile), step, rng)
    frame = pd.DataFrame(rows)
    for column in (
        "name",
        "kind",
        "phase",
        "module",
        "op",
        "autograd",
        "shapes",
        "dtype",
        "unit",
        "provenance",
        "bound",
    ):
        frame[column] = frame[column].astype("category")
    return frame
