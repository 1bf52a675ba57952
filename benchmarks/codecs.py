"""Throughput, size and error of the codecs on an update of FLAN-T5-small, 77 million values.

Times are the median of several runs of coding and decoding, in MB of fp32 values a second, as one client with these
cores would see them; serialising is part of both. The last line is the verdict, and the exit code follows it.

    python benchmarks/codecs.py --threads 2
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from edgeroof.workloads.federated.codecs import parse_codec
from edgeroof.workloads.federated.codecs.codec import flatten
from edgeroof.workloads.federated.payloads import count_values, sample_update, trained_shapes
from edgeroof.workloads.federated.update import Update, from_bytes, to_bytes

CODECS = ("none", "fp16", "int8", "int4", "topk:0.01", "topk:0.01+int8", "lowrank:4", "lowrank:4+fp16")
#: The promise for int8, in bytes of fp32 values a second.
LIMIT = 300e6


def seconds(run: Callable[[], Any], times: int) -> tuple[float, Any]:
    """Median seconds of several runs after one to warm up, and what the last of them returned."""
    result = run()
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        result = run()
        taken.append(time.perf_counter() - began)
    return median(taken), result


def measure(name: str, update: Update, times: int) -> dict[str, float]:
    """Bytes, rates and error of one codec."""
    codec = parse_codec(name)
    coding_s, data = seconds(lambda: to_bytes(codec.encode(update, {})), times)
    decoding_s, decoded = seconds(lambda: codec.decode(from_bytes(data), update), times)
    sent, arrived = flatten(update), flatten(decoded)
    fp32_bytes = 4 * sent.numel()
    return {
        "bytes": len(data),
        "ratio": fp32_bytes / len(data),
        "coding": fp32_bytes / coding_s,
        "decoding": fp32_bytes / decoding_s,
        "error": float((arrived - sent).norm() / sent.norm()),
    }


def show(results: dict[str, dict[str, float]], values: int) -> None:
    """Print the table; ``of none`` compares the rate of coding with that of fp32 as it is, ``error`` is relative."""
    table = Table(title=f"Codecs on an update of {values:,} values, {torch.get_num_threads()} threads")
    for head in ("codec", "MB", "smaller", "coding MB/s", "of none", "decoding MB/s", "error"):
        table.add_column(head, justify="left" if head == "codec" else "right", no_wrap=head == "codec")
    plain = next(iter(results.values()))["coding"]
    for name, row in results.items():
        table.add_row(
            name, f"{row['bytes'] / 1e6:,.1f}", f"{row['ratio']:.2f}×", f"{row['coding'] / 1e6:,.0f}",
            f"{row['coding'] / plain:.2f}×", f"{row['decoding'] / 1e6:,.0f}", f"{row['error']:.2g}",
        )  # fmt: skip
    Console().print(table)


def main() -> int:
    """Measure all codecs and judge int8."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="small")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--codecs", default=",".join(CODECS))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    shapes = trained_shapes(options.model)
    update = sample_update(shapes)
    results = {name: measure(name, update, options.times) for name in options.codecs.split(",")}
    show(results, count_values(shapes))
    if "int8" not in results:
        return 0
    rate = results["int8"]["coding"]
    print(f"int8 codes {rate / 1e6:,.0f} MB/s of fp32; at least {LIMIT / 1e6:,.0f} were promised on 2 cores")
    return int(rate < LIMIT)


if __name__ == "__main__":
    sys.exit(main())
