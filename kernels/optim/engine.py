"""What the engines of all fused optimizers do: pointers, hyper-parameters, the norm of a device's gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..support import launch_options, on_device, triton_dtype
from . import columns, ops
from .errors import OptimizerError
from .layout import chunk_map
from .pointers import PointerTable, Upload, is_capturing

#: GradScaler's scale and its found-infinity flag, each None when there is none.
Scaling = tuple[Tensor | None, Tensor | None]


class Bucket(Protocol):
    """Tensors of one dtype on one device."""

    pointers: PointerTable
    device: torch.device


BucketT = TypeVar("BucketT", bound=Bucket)


class Engine(Generic[BucketT]):
    """All buckets of one device.

    Attributes:
        norm: of the unscaled gradients of the last step that took it, 0-dim.

    Args:
        buckets: at least one, all of one device.
        hyper: rows of hyper-parameters (float64), the last for the whole optimizer.
    """

    def __init__(self, buckets: Sequence[BucketT], hyper: np.ndarray) -> None:
        self.buckets = list(buckets)
        self.device = buckets[0].device
        self.norm = torch.zeros((), device=self.device)
        self._hyper_host = hyper.copy()
        self._hyper = Upload(hyper, self.device)
        self._norms: list[_BucketNorm] = []
        self._partials: Tensor | None = None

    def refresh(self) -> bool:
        """Look up this step's pointers in all buckets; False when they must be rebuilt."""
        current = [bucket.pointers.refresh() for bucket in self.buckets]  # all of them, even after a stale one
        return all(current)

    def upload(self, hyper: np.ndarray) -> None:
        """Upload hyper-parameters if they changed.

        Raises:
            OptimizerError: a graph is being captured, whose replays would bring these values back for ever.
        """
        if np.array_equal(hyper, self._hyper_host):
            return
        if is_capturing(self.device):
            raise OptimizerError(
                "hyper-parameters changed since the last step, so the capture of this one would fix them; call the "
                "optimizer's refresh_hyperparameters() before the capture, and after every later change"
            )
        self._hyper.write(hyper)
        self._hyper_host = hyper.copy()

    def replenish(self) -> None:
        """Make ready for another capture, outside of one."""
        for bucket in self.buckets:
            bucket.pointers.replenish()

    def each_bucket(self, launch: Callable[[BucketT, Tensor | None], None], *, takes_norm: bool) -> None:
        """Launch a step bucket by bucket; ``launch`` is given partial sums of the squared gradients of all of them."""
        with on_device(self.device):
            for bucket in self.buckets:
                bucket.pointers.gather()
            partials = self._take_norm() if takes_norm else None
            for bucket in self.buckets:
                launch(bucket, partials)
                bucket.pointers.scatter()
                bucket.pointers.release()

    def _take_norm(self) -> Tensor:
        if self._partials is None:
            self._partials = torch.zeros(len(self.buckets) * _programs(self.device), device=self.device)
            parts = self._partials.chunk(len(self.buckets))
            self._norms = [_BucketNorm(bucket.pointers, part) for bucket, part in zip(self.buckets, parts)]
        for norm in self._norms:
            if ops.watched():
                ops.gradient_norm(norm.gradients(), norm.partials, norm.launch)
            else:
                norm.launch()
        return self._partials


class _BucketNorm:
    """Partial sums of the squared gradients of one bucket."""

    def __init__(self, pointers: PointerTable, partials: Tensor) -> None:
        self.partials = partials
        self._pointers = pointers
        chunks = chunk_map([param.numel() for param in pointers.params])
        self._chunks = len(chunks)
        self._chunk_map = torch.from_numpy(chunks).to(partials.device)

    def gradients(self) -> list[Tensor]:
        return [grad for grad in self._pointers.grads if grad is not None]

    def launch(self) -> None:
        from .gradient_kernels import gradient_norm_kernel

        programs, table = self.partials.numel(), self._pointers.tensor
        gradient_norm_kernel[(programs,)](
            table, self._chunk_map, self.partials, self._chunks, programs, WIDTH=table.shape[1],
            GRAD_DTYPE=triton_dtype(self._pointers.dtype), CHUNK=columns.CHUNK, TILE=columns.TILE, **launch_options(),
        )  # fmt: skip


def _programs(device: torch.device) -> int:
    """Programs of the norm kernel; the interpreter runs them one by one, so it gets few."""
    return columns.NORM_PROGRAMS if device.type == "cuda" else 4
