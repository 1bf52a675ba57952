"""AdamW on Triton: the flat state of a device's tensors, and the launches of a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..support import launch_options, triton_dtype
from . import columns, ops
from .engine import Engine, Scaling
from .formats import StateFormat
from .layout import chunk_map, state_offsets
from .moments import STATE_KEYS, Moments
from .options import AdamWOptions, StepOptions
from .pointers import Member, PointerTable

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
            self.steps[index].copy_(torch.as_tensor(entries.get("step", 0.0), dtype=torch.float32))
            for key in STATE_KEYS:
                entries.pop(key, None)
        entries["step"] = self.steps[index]
        entries.update(part.entries(param))

    def active(self) -> list[int]:
        """Tensors that have a gradient this step."""
        return [index for index, grad in enumerate(self.pointers.grads) if grad is not None]

    def launch_prepare(
        self, hyper: Tensor, partials: Tensor | None, norm: Tensor, scaling: Scaling, options: StepOptions
    ) -> None:
        """Count the step and compute every tensor's coefficients."""
        from .adamw_kernels import adamw_prepare_kernel

        adamw_prepare_kernel[(1,)](
            self.pointers.tensor, self.steps, hyper, self._coefficients,
            partials, None if partials is None else norm, *scaling,
            len(self.parts), hyper.shape[0] - 1, 0 if partials is None else partials.numel(),
            CLIP=options.max_grad_norm is not None, SKIP_NONFINITE=options.skip_nonfinite, WIDTH=256,
            **launch_options(),
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
            CHUNK=columns.CHUNK, TILE=self.format.tile, **launch_options(),
        )  # fmt: skip

    def _state_arguments(self) -> tuple[Tensor | None, ...]:
        return self.flat.first, self.flat.second, self.flat.scale1, self.flat.scale2


class AdamWEngine(Engine[AdamWBucket]):
    """All buckets of one device, stepped together."""

    def set_hyperparameters(self, hyper: np.ndarray, rates: Sequence[tuple[int, Tensor]]) -> None:
        """Upload hyper-parameters that changed; learning rates that live on the device are copied there."""
        self.upload(hyper)
        for row, rate in rates:
            self._hyper.device_tensor[row, columns.LR].copy_(rate.reshape(()), non_blocking=True)

    def step(self, scaling: Scaling, options: AdamWOptions) -> None:
        """Launch one step; ``scaling`` is on this device."""

        def launch(bucket: AdamWBucket, partials: Tensor | None) -> None:
            bucket.launch_prepare(self._hyper.device_tensor, partials, self.norm, scaling, options)
            if ops.watched():
                _watched_update(bucket, options.stochastic_rounding)
            else:
                bucket.launch_update(options.stochastic_rounding)

        self.each_bucket(launch, takes_norm=options.takes_norm)


def _watched_update(bucket: AdamWBucket, stochastic: bool) -> None:
    """The update as an op that a profile sees."""
    active = bucket.active()
    ops.fused_adamw(
        [bucket.pointers.params[index] for index in active],
        [grad for grad in bucket.pointers.grads if grad is not None],
        [tensor for index in active for tensor in bucket.parts[index].tensors()],
        [bucket.shadows[index] for index in active] if bucket.shadows else [],
        1,
        lambda: bucket.launch_update(stochastic),
    )
