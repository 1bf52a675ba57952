"""What a step needs of memory, and which batch would fit.

The estimate is simple on purpose: weights, gradients and optimizer states are fixed; activations, measured on one
example as the tensors autograd saves plus the gradient of the logits, grow with the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Allowance for what the estimate leaves out: temporaries, fragmentation, allocator rounding.
MARGIN = 1.2

_UNLIMITED = 1 << 62

_MESSAGES = ("out of memory", "not enough memory", "can't allocate memory", "alloc_failed", "nvmapmemalloc")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception is some library's way to say that memory ran out."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _MESSAGES)


def available_bytes(device: str) -> int:
    """Bytes that can still be allocated on a device.

    Where GPU and CPU share their memory, it is the system's figure: the driver's leaves out what the system would free.
    """
    if device == "cpu" or shares_system_memory(device):
        import psutil

        return min(psutil.virtual_memory().available, _container_room(), _address_room())
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free + cached


def shares_system_memory(device: str) -> bool:
    """Whether a CUDA device has no memory of its own, as on a Jetson."""
    if device == "cpu":
        return False
    import torch

    return bool(getattr(torch.cuda.get_device_properties(device), "is_integrated", False))


def fixed_bytes(model: Any, weight_bytes: int, states: float) -> int:
    """Bytes of weights, gradients and optimizer states.

    Args:
        model: the model; on the meta device too.
        weight_bytes: bytes of one weight as trained.
        states: optimizer states per trainable weight.
    """
    per_trainable = 2 + states
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    return int((trainable * per_trainable + frozen) * weight_bytes)


def saved_bytes(model: Any, forward: Callable[[], Any]) -> int:
    """Bytes of the different tensors that autograd keeps for the backward pass, without the model's weights.

    With checkpointing it sees only what is kept outside the checkpoints.

    Args:
        model: the model that ``forward`` runs.
        forward: runs the forward pass and returns the loss.
    """
    import torch

    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved: dict[int, int] = {}
    alive: list[Any] = []  # a freed address would be given out again and counted once too few

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(saved.values())


def fitting_batch(available: int, fixed: int, per_example: int, failed: int) -> int:
    """Largest batch that should fit, 0 when not even one example does.

    Args:
        available: bytes free now.
        fixed: bytes that gradients and optimizer states still have to take.
        per_example: bytes of activations.
        failed: the batch that did not fit; the answer is at most half of it.
    """
    room = (available - fixed) / (MARGIN * max(per_example, 1))
    return max(0, min(int(room), failed // 2))


def _container_room() -> int:
    """Bytes left in this process's container (cgroup v2)."""
    root = Path("/sys/fs/cgroup")
    try:
        limit = (root / "memory.max").read_text().strip()
        stat = dict(line.split() for line in (root / "memory.stat").read_text().splitlines())
        return _UNLIMITED if limit == "max" else int(limit) - int(stat["anon"])
    except (OSError, ValueError, KeyError):
        return _UNLIMITED


def _address_room() -> int:
    """Bytes left below this process's own limit (``ulimit -v``)."""
    import resource

    import psutil

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return _UNLIMITED if limit == resource.RLIM_INFINITY else max(0, limit - psutil.Process().memory_info().vms)
