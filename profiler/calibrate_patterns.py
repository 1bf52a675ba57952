"""What calibration measures, on any PyTorch device: memory traffic patterns, matrix products, arithmetic loops.

Timing differs by device, so every function takes a :data:`Timer`.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

#: Runs a function repeatedly and returns the best time of one call, in seconds.
Timer = Callable[[Callable[[], object]], float]

TORCH_DTYPES = {
    "fp64": torch.float64,
    "fp32": torch.float32,
    "tf32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}


@dataclass(frozen=True)
class Pattern:
    """A stream over one buffer, cut into three equal arrays.

    ``passes`` counts the arrays it moves, each read and each write once. ``run`` takes the three and the whole buffer.
    """

    name: str
    passes: int
    run: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], object]


#: A CPU may have to read a line before it overwrites it ("write allocate"), or may avoid that with streaming stores;
#: either way copy and triad count only the bytes the program asks for. ``update`` writes what it has just read, so
#: nothing is allocated for it, and optimizers do the same: it is often the pattern that shows the bus's true limit. It
#: goes over the whole buffer, lest a cache keep part of a smaller one from one repeat to the next.
PATTERNS = (
    Pattern("copy", 2, lambda a, b, out, whole: out.copy_(a)),
    Pattern("triad", 3, lambda a, b, out, whole: torch.add(a, b, alpha=3.0, out=out)),
    Pattern("read", 2, lambda a, b, out, whole: torch.dot(a, b)),
    Pattern("update", 6, lambda a, b, out, whole: whole.mul_(1.0)),
)


def bandwidths(device: str, bytes_per_array: int, timer: Timer) -> list[dict[str, Any]]:
    """Time every pattern over fp32 arrays of this size; ``gbs`` is 1e9 bytes/s, reads plus writes."""
    count = bytes_per_array // 4
    whole = torch.ones(3 * count, device=device)
    a, b, out = whole.split(count)
    found = []
    for pattern in PATTERNS:
        seconds = timer(lambda pattern=pattern: pattern.run(a, b, out, whole))  # type: ignore[misc]
        moved = pattern.passes * count * 4
        found.append({"pattern": pattern.name, "bytes": moved, "seconds": seconds, "gbs": moved / seconds / 1e9})
    return found


def matmuls(
    device: str,
    dtype: str,
    shapes: Sequence[tuple[int, int, int]],
    timer: Timer,
    *,
    budget_s: float,
    rounds: int = 2,
) -> list[dict[str, Any]]:
    """Time products of M×K by K×N, with the second operand stored both ways; ``gflops`` is 1e9 FLOP/s.

    Linear layers multiply by a transposed weight, backward passes by a plain one, and libraries treat them differently,
    down to a hundred times slower. The shapes are gone through more than once, so that another program's burst does not
    spoil the best of one. A product is left out when it does not fit in memory, or when at the best rate of its layout
    it would take more than a fifth of the budget; the first two shapes, which find that rate, always run.

    Args:
        device: PyTorch device.
        dtype: one of :data:`TORCH_DTYPES`.
        shapes: (M, K, N), the first two small.
        timer: times one product.
        budget_s: seconds after which no further product is started.
        rounds: times to go through the shapes.
    """
    best: dict[tuple[tuple[int, int, int], bool], float] = {}
    rates: dict[bool, float] = {}
    deadline = time.perf_counter() + budget_s
    for case in itertools.islice(itertools.cycle(itertools.product(shapes, (True, False))), 2 * rounds * len(shapes)):
        shape, transposed = case
        flops = 2 * shape[0] * shape[1] * shape[2]
        expected_s = flops / rates[transposed] if transposed in rates else 0.0
        too_slow = expected_s > budget_s / 5 and shape not in shapes[:2]
        if too_slow or (len(best) >= 2 and time.perf_counter() > deadline):
            continue
        try:
            seconds = _time_matmul(device, TORCH_DTYPES[dtype], shape, transposed, timer)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            continue
        best[case] = min(best.get(case, seconds), seconds)
        rates[transposed] = max(rates.get(transposed, 0.0), flops / seconds)
    return [_product(dtype, shape, transposed, seconds) for (shape, transposed), seconds in best.items()]


def _product(dtype: str, shape: tuple[int, int, int], transposed: bool, seconds: float) -> dict[str, Any]:
    gflops = 2 * shape[0] * shape[1] * shape[2] / seconds / 1e9
    return {
        "dtype": dtype,
        "shape": list(shape),
        "transposed_weight": transposed,
        "seconds": seconds,
        "gflops": gflops,
    }


def _time_matmul(device: str, dtype: torch.dtype, shape: tuple[int, int, int], transposed: bool, timer: Timer) -> float:
    m, k, n = shape
    left = torch.rand(m, k, device=device).to(dtype)
    right = torch.rand(n, k, device=device).to(dtype).t() if transposed else torch.rand(k, n, device=device).to(dtype)
    out = torch.empty(m, n, device=device, dtype=dtype)
    return timer(lambda: torch.mm(left, right, out=out))


def multiply_adds(device: str, sizes: Sequence[int], timer: Timer) -> list[dict[str, Any]]:
    """Time ``x += 1.0 * a * b`` on arrays small enough to stay in a cache: two FLOPs an element.

    The best an unfused elementwise op reaches: it is limited by the cache and by the op's own overhead.
    """
    found = []
    for size in sizes:
        a, b, x = (torch.ones(size, device=device) for _ in range(3))
        seconds = timer(lambda a=a, b=b, x=x: x.addcmul_(a, b))  # type: ignore[misc]
        found.append({"elements": size, "seconds": seconds, "gflops": 2 * size / seconds / 1e9})
    return found


def best_of(measurements: Sequence[dict[str, Any]], key: str) -> dict[str, Any]:
    """The measurement with the highest figure."""
    return max(measurements, key=lambda measurement: measurement[key])


def best_by_dtype(products: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The fastest product of each dtype, in order of first appearance."""
    best: dict[str, dict[str, Any]] = {}
    for product in products:
        if product["gflops"] > best.get(product["dtype"], {"gflops": 0.0})["gflops"]:
            best[product["dtype"]] = product
    return best


def describe_matmul(measurement: dict[str, Any]) -> str:
    """Such as ``fp32 178 GFLOP/s (2048x512x1024)``."""
    shape = "x".join(str(size) for size in measurement["shape"])
    return f"{measurement['dtype']} {measurement['gflops']:,.0f} GFLOP/s ({shape})"


def other_patterns(streams: Sequence[dict[str, Any]], best: dict[str, Any]) -> str:
    """The bandwidths that are not the roof, such as ``copy 35.6, triad 42.5, read 38.1 GB/s``."""
    others = [f"{stream['pattern']} {stream['gbs']:,.1f}" for stream in streams if stream["pattern"] != best["pattern"]]
    return f"{', '.join(others)} GB/s"


@contextlib.contextmanager
def tf32_allowed(allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32 in matrix products inside the block."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
