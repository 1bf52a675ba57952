"""Peak memory on a CPU: what was freed before must not hide what is used now."""

import platform
import sys

import pytest
import torch

from edgeroof.profiler.memory import PeakMemory

MIB = 1 << 20
BLOCKS = [8 * MIB] * 16


def filled() -> list[torch.Tensor]:
    return [torch.full((size,), 1, dtype=torch.uint8) for size in BLOCKS]


@pytest.mark.skipif(sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="glibc keeps freed memory")
def test_memory_that_was_freed_before_counts_again() -> None:
    filled()  # from now on blocks of this size lie in the heap
    blocks = filled()
    above = [torch.full((64 * 1024,), 1, dtype=torch.uint8) for _ in range(64)]  # keeps the heap's top in use
    del blocks
    with PeakMemory("cpu") as before:
        pass
    with PeakMemory("cpu") as running:
        blocks = filled()
    assert before.bytes is not None
    assert running.bytes is not None
    assert running.bytes - before.bytes > 0.8 * sum(BLOCKS)
    assert above
    assert blocks
