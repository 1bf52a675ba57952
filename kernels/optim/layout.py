"""Host-side facts about tensors: which may be treated as flat memory, which may be read 16 bytes at a time.

The interpreter cannot check these for the kernels, so they are plain functions with tests of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .columns import BLOCK, CHUNK

VECTOR_BYTES = 16


def aligned(*pointers: np.ndarray) -> np.ndarray:
    """Where every address is a multiple of 16 bytes, as 128-bit accesses need; int64 arrays of one shape."""
    return np.bitwise_or.reduce(pointers) % VECTOR_BYTES == 0


def is_dense(tensor: Tensor) -> bool:
    """Whether the elements fill a stretch of memory without gaps or overlaps, in whatever order of dimensions."""
    if tensor.is_contiguous():
        return True
    expected = 1
    for step, size in sorted((step, size) for step, size in zip(tensor.stride(), tensor.shape) if size != 1):
        if step != expected:
            return False
        expected *= size
    return True


def same_order(tensor: Tensor, other: Tensor) -> bool:
    """Whether two dense tensors of one shape keep their elements in the same order."""
    if tensor.is_contiguous() and other.is_contiguous():
        return True
    return all(a == b for a, b, size in zip(tensor.stride(), other.stride(), tensor.shape) if size != 1)


def fits_shape_and_order(tensor: Tensor, param: Tensor) -> bool:
    """Whether a tensor lies in memory as the kernels work on a parameter.

    That is in the parameter's order when it is dense; else contiguous, as the staging copy that they work on.
    """
    if tensor.shape != param.shape or not is_dense(tensor):
        return False
    return same_order(tensor, param) if is_dense(param) else tensor.is_contiguous()


def empty_in_order(param: Tensor, dtype: torch.dtype) -> Tensor:
    """Memory for a tensor that :func:`fits_shape_and_order`."""
    if is_dense(param):
        return torch.empty_like(param, dtype=dtype, requires_grad=False)
    return torch.empty(param.shape, dtype=dtype, device=param.device)


def flat_view(tensor: Tensor) -> Tensor:
    """The memory of a dense tensor as one dimension."""
    return tensor.as_strided((tensor.numel(),), (1,), tensor.storage_offset())


def padded(numel: int) -> int:
    """Elements reserved for a tensor in the flat state: whole blocks, so that blocks and vectors never straddle."""
    return -(-numel // BLOCK) * BLOCK


def state_offsets(numels: Sequence[int]) -> tuple[list[int], int]:
    """First element of every tensor in the flat state, and the state's size."""
    offsets, total = [], 0
    for numel in numels:
        offsets.append(total)
        total += padded(numel)
    return offsets, total


def chunk_map(numels: Sequence[int], chunk: int = CHUNK) -> np.ndarray:
    """Work of every program: ``[programs, 2]`` int32 with the tensor and the number of the chunk in it."""
    counts = np.array([-(-numel // chunk) for numel in numels], dtype=np.int64)
    tensors = np.repeat(np.arange(len(counts)), counts)
    firsts = np.repeat(np.cumsum(counts) - counts, counts)
    return np.stack([tensors, np.arange(len(tensors)) - firsts], axis=1).astype(np.int32)
