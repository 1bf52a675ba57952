"""Tiny Kineto traces, built by hand event by event; times in microseconds."""

import gzip
import json
from pathlib import Path
from typing import Any

#: Offset of a real trace: float64 cannot hold nanoseconds at this size when it is added to whole epochs.
BASE_US = 4458676522690.0


class TraceBuilder:
    """Collects events and writes them as ``torch.profiler`` does."""

    def __init__(self, base_us: float = BASE_US) -> None:
        self.base_us = base_us
        self.events: list[dict[str, Any]] = []

    def add(self, cat: str, name: str, ts: float, dur: float, tid: Any = 1, **args: Any) -> "TraceBuilder":
        event = {"ph": "X", "cat": cat, "name": name, "pid": 7, "tid": tid, "ts": self.base_us + ts, "dur": dur}
        self.events.append(event | {"args": args})
        return self

    def op(
        self,
        name: str,
        ts: float,
        dur: float,
        *inputs: tuple[str, Any] | tuple[str, Any, Any],
        tid: int = 1,
        concrete: list[str] | None = None,
        sequence: int | None = None,
        forward_thread: int | None = None,
    ) -> "TraceBuilder":
        """An op; ``inputs`` are (type, dims) or (type, dims, strides)."""
        args: dict[str, Any] = {}
        if inputs:
            args["Input type"] = [item[0] for item in inputs]
            args["Input Dims"] = [item[1] for item in inputs]
            if any(len(item) > 2 for item in inputs):
                args["Input Strides"] = [item[2] if len(item) > 2 else [] for item in inputs]
        if concrete is not None:
            args["Concrete Inputs"] = concrete
        if sequence is not None:
            args["Sequence number"] = sequence
            args["Fwd thread id"] = forward_thread or 0
        return self.add("cpu_op", name, ts, dur, tid, **args)

    def annotation(self, name: str, ts: float, dur: float, tid: int = 1) -> "TraceBuilder":
        return self.add("user_annotation", name, ts, dur, tid)

    def launch(
        self, correlation: int, ts: float, dur: float = 5, tid: int = 1, name: str = "cudaLaunchKernel"
    ) -> "TraceBuilder":
        return self.add("cuda_runtime", name, ts, dur, tid, correlation=correlation)

    def kernel(self, correlation: int, name: str, ts: float, dur: float, stream: int = 7) -> "TraceBuilder":
        return self.add("kernel", name, ts, dur, stream, correlation=correlation, device=0, stream=stream)

    def copy(self, correlation: int, name: str, ts: float, dur: float, nbytes: int) -> "TraceBuilder":
        cat = "gpu_memset" if "Memset" in name else "gpu_memcpy"
        return self.add(cat, name, ts, dur, 7, correlation=correlation, device=0, stream=7, bytes=nbytes)

    def document(self) -> dict[str, Any]:
        return {"schemaVersion": 1, "deviceProperties": [{"id": 0, "name": "test"}], "traceEvents": self.events}

    def write(self, folder: Path, name: str = "trace.json") -> Path:
        text = json.dumps(self.document(), indent=2)
        path = folder / name
        if name.endswith(".gz"):
            path.write_bytes(gzip.compress(text.encode()))
        else:
            path.write_text(text)
        return path


FLOAT = "float"


def training_step(step: int = 0, ts: float = 0.0, builder: TraceBuilder | None = None) -> TraceBuilder:
    """One GPU training step without our markers: forward and loss, backward on thread 2, optimizer."""
    b = builder or TraceBuilder()
    c = 10 * step
    b.annotation(f"ProfilerStep#{step + 3}", ts, 1000)
    b.op("aten::linear", ts + 10, 50, (FLOAT, [8, 4]), (FLOAT, [16, 4]), sequence=1)
    b.op("aten::mm", ts + 20, 30, (FLOAT, [8, 4]), (FLOAT, [4, 16]), sequence=1)
    b.launch(c + 1, ts + 25).kernel(c + 1, "sgemm", ts + 40, 10)
    b.op("aten::cross_entropy_loss", ts + 100, 60, (FLOAT, [8, 16]), ("long int", [8]), sequence=2)
    b.op("aten::_log_softmax", ts + 110, 20, (FLOAT, [8, 16]), ("Scalar", []), concrete=["", "1"], sequence=2)
    b.launch(c + 2, ts + 115).kernel(c + 2, "softmax", ts + 130, 4)
    node = "autograd::engine::evaluate_function: MmBackward0"
    b.op(node, ts + 300, 80, tid=2, sequence=1, forward_thread=1)
    b.op("MmBackward0", ts + 305, 70, (FLOAT, [8, 16]), tid=2, sequence=1, forward_thread=1)
    b.op("aten::mm", ts + 310, 30, (FLOAT, [4, 8]), (FLOAT, [8, 16]), tid=2)
    b.launch(c + 3, ts + 315, tid=2).kernel(c + 3, "sgemm", ts + 330, 10)
    b.op("autograd::engine::evaluate_function: torch::autograd::AccumulateGrad", ts + 400, 50, tid=2)
    b.op("torch::autograd::AccumulateGrad", ts + 405, 40, (FLOAT, [4, 16]), tid=2)
    b.op("aten::add_", ts + 410, 20, (FLOAT, [4, 16]), (FLOAT, [4, 16]), ("Scalar", []), tid=2)
    b.launch(c + 4, ts + 415, tid=2).kernel(c + 4, "add", ts + 430, 3)
    b.annotation("Optimizer.step#AdamW.step", ts + 600, 100)
    b.op("aten::mul_", ts + 610, 20, (FLOAT, [4, 16]), ("Scalar", []))
    b.launch(c + 5, ts + 615).kernel(c + 5, "mul", ts + 630, 3)
    b.annotation("Optimizer.zero_grad#AdamW.zero_grad", ts + 800, 50)
    b.op("aten::zero_", ts + 805, 20, (FLOAT, [4, 16]))
    b.launch(c + 6, ts + 810, name="cudaMemsetAsync").copy(c + 6, "Memset (Device)", ts + 830, 2, 256)
    return b
