"""AdamW on Triton: the flat state of a device's tensors, and the launches of a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..support import launch_options, on_device, triton_dtype
from . import columns, ops
from .formats import StateFormat
from .layout import chunk_map, state_offsets
from .moments import STATE_KEYS, Moments
from .pointers import Member, PointerTable, Upload, is_capturing

State = dict[Tensor, dict[str, Any]]


class AdamWBucket:
    """Tensors of one dtype on one device: their flat state, and one launch that updates them all."""

    def __init__(
        self, members: Sequence[Member], form: StateFormat, state: State, seed: int, shadows: Sequence[Tensor]
    ) -> None:
        params = [member.param for member in members]
        numels = [param.numel() for param in params]
        offsets, total = state_offsets(numels)
        self.pointers = PointerTable(members, offsets=offsets, seed=seed, shadows=shadows)
        self.device = params[0].device
        self.format = form
        self.shadows = list(shadows)
        self.steps = torch.zeros(len(params), dtype=torch.float32, device=self.device)
        self.flat = Moments.zeros(form, total, self.device)
        self.parts = [self.flat.part(offset, numel) for offset, numel in zip(offsets, numels)]
        chunks = chunk_map(numels)
        self.chunks = len(chunks)
        self._chunk_map = torch.from_numpy(chunks).to(self.device)
        self._coefficients = torch.zeros(len(params), columns.COEFFICIENT_WIDTH, device=self.device)
        for index, param in enumerate(params):
            self._take_over(index, param, state)

    def _take_over(self, index: int, param: Tensor, state: State) -> None:
        """Move what ``optimizer.state`` holds into the flat state, and let it show views from now on."""
        entries = state[param]
        part = self.parts[index]
        if entries:
            part.adopt(entries, param)
            self.steps[index].copy_(torch.as_tensor(entries["step"], dtype=torch.float32))
            for key in STATE_KEYS:
                entries.pop(key, None)
        entries["step"] = self.steps[index]
        entries.update(part.entries(param))

    def active(self) -> list[int]:
        """Tensors that have a gradient this step."""
        return [index for index, grad in enumerate(self.pointers.grads) if grad is not None]

    def launch_norm(self, partials: Tensor) -> None:
        """Partial sums of squares of this bucket's gradients."""
        from .adamw_kernels import gradient_norm_kernel

        gradient_norm_kernel[(partials.numel(),)](
            self.pointers.tensor, self._chunk_map, partials, self.chunks, partials.numel(),
            GRAD_DTYPE=triton_dtype(self.pointers.dtype), CHUNK=columns.CHUNK, TILE=columns.TILE, **launch_options(),
        )  # fmt: skip

    def launch_prepare(
        self, hyper: Tensor, partials: Tensor | None, norm: Tensor | None, scaling: tuple[Tensor | None, Tensor | None],
        clip: bool, skip_nonfinite: bool,
    ) -> None:  # fmt: skip
        """Count the step and compute every tensor's coefficients."""
        from .adamw_kernels import adamw_prepare_kernel

        adamw_prepare_kernel[(1,)](
            self.pointers.tensor, self.steps, hyper, self._coefficients, partials, norm, *scaling,
            len(self.parts), hyper.shape[0] - 1, 0 if partials is None else partials.numel(),
            CLIP=clip, SKIP_NONFINITE=skip_nonfinite, WIDTH=256, **launch_options(),
        )  # fmt: skip

    def launch_update(self, stochastic: bool) -> None:
        """Update all tensors."""
        from .adamw_kernels import adamw_kernel

        if not self.chunks:
            return
        dtype = triton_dtype(self.pointers.dtype)
        adamw_kernel[(self.chunks,)](
            self.pointers.tensor, self._coefficients, self._chunk_map, *self._state_arguments(),
            PARAM_DTYPE=dtype, GRAD_DTYPE=dtype,
            SHADOW_DTYPE=triton_dtype(self.shadows[0].dtype) if self.shadows else None,
            KIND=self.format.kind, STOCHASTIC=stochastic and self.pointers.dtype == torch.bfloat16,
            CHUNK=columns.CHUNK, TILE=columns.TILE, **launch_options(),
        )  # fmt: skip

    def _state_arguments(self) -> tuple[Tensor | None, ...]:
        return self.flat.first, self.flat.second, self.flat.scale1, self.flat.scale2


class AdamWEngine:
    """All buckets of one device, stepped together."""

    def __init__(self, buckets: Sequence[AdamWBucket], hyper: np.ndarray) -> None:
        self.buckets = list(buckets)
        self.device = buckets[0].device
        self._hyper_host = hyper.copy()
        self._hyper = Upload(hyper, self.device)
        self._partials: Tensor | None = None
        self.norm = torch.zeros((), device=self.device)

    def refresh(self) -> bool:
        """Look up pointers of all buckets; False when they must be rebuilt."""
        current = [bucket.pointers.refresh() for bucket in self.buckets]  # all of them, even after a stale one
        return all(current)

    def set_hyperparameters(self, hyper: np.ndarray, rates: Sequence[tuple[int, Tensor]]) -> None:
        """Upload hyper-parameters that changed; learning rates that live on the device are copied there."""
        if not np.array_equal(hyper, self._hyper_host):
            self._hyper.write(hyper)
            self._hyper_host = hyper.copy()
        elif not is_capturing(self.device):
            self._hyper.replenish()
        for row, rate in rates:
            self._hyper.device_tensor[row, columns.LR].copy_(rate.reshape(()), non_blocking=True)

    def step(
        self, *, scaling: tuple[Tensor | None, Tensor | None], clip: bool, skip_nonfinite: bool, stochastic: bool
    ) -> None:
        """Launch one step.

        Args:
            scaling: GradScaler's scale and its found-infinity flag, on this device.
            clip: whether gradients are clipped to ``max_norm`` of the hyper-parameters.
            skip_nonfinite: whether a norm that is not finite skips the step.
            stochastic: whether bf16 parameters are rounded stochastically.
        """
        with on_device(self.device):
            for bucket in self.buckets:
                bucket.pointers.gather()
            partials = self._take_norm() if clip or skip_nonfinite else None
            norm = None if partials is None else self.norm
            for bucket in self.buckets:
                bucket.launch_prepare(self._hyper.device_tensor, partials, norm, scaling, clip, skip_nonfinite)
                self._update(bucket, stochastic)
                bucket.pointers.scatter()

    def _take_norm(self) -> Tensor:
        if self._partials is None:
            self._partials = torch.zeros(len(self.buckets) * _programs(self.device), device=self.device)
        for bucket, part in zip(self.buckets, self._partials.chunk(len(self.buckets))):
            launch = _bind(bucket.launch_norm, part)
            if ops.watched():
                grads = [grad for grad in bucket.pointers.grads if grad is not None]
                ops.gradient_norm(grads, part, launch)
            else:
                launch()
        return self._partials

    def _update(self, bucket: AdamWBucket, stochastic: bool) -> None:
        if not ops.watched():
            bucket.launch_update(stochastic)
            return
        active = bucket.active()
        ops.fused_adamw(
            [bucket.pointers.params[index] for index in active],
            [grad for grad in bucket.pointers.grads if grad is not None],
            [tensor for index in active for tensor in bucket.parts[index].tensors()],
            [bucket.shadows[index] for index in active] if bucket.shadows else [],
            1,
            _bind(bucket.launch_update, stochastic),
        )


def _programs(device: torch.device) -> int:
    """Programs of the norm kernel; the interpreter runs them one by one, so it gets few."""
    return columns.NORM_PROGRAMS if device.type == "cuda" else 4


def _bind(function: Callable[..., None], argument: object) -> Callable[[], None]:
    return lambda: function(argument)
