"""Adafactor on Triton: the flat factors of a bucket of tensors, and the six launches of a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..support import launch_options, triton_dtype
from . import adafactor_geometry as geo
from . import ops
from .adafactor_geometry import geometry
from .columns import TABLE_WIDTH
from .engine import Engine, Scaling
from .layout import state_offsets
from .options import StepOptions
from .pointers import Member, PointerTable

State = dict[Tensor, dict[str, Any]]


class AdafactorBucket:
    """Tensors of one dtype on one device.

    Args:
        members: the tensors.
        state: ``optimizer.state``, whose entries are taken over and become views of the flat state.
        averaged: whether the group of a row keeps a first moment.
    """

    def __init__(self, members: Sequence[Member], state: State, averaged: Sequence[bool]) -> None:
        self.members = members
        params = [member.param for member in members]
        cut = geometry([param.shape for param in params])
        self._columns = cut.columns
        self._first = state_offsets([param.numel() for param in params])[0]
        self.pointers = PointerTable(members, offsets=self._first, geometry=cut.columns)
        self.device = device = params[0].device
        self.steps = torch.zeros(len(params), device=device)
        self.factors = torch.zeros(max(1, cut.factors), device=device)
        self.full = torch.zeros(max(1, cut.full), device=device)
        self.exp_avg = torch.zeros(max(1, cut.first), device=device) if any(averaged) else None
        self._coefficients = torch.zeros(len(params), geo.COEFFICIENT_WIDTH, device=device)
        self._tiles = torch.from_numpy(cut.tiles).to(device)
        self._segments = torch.from_numpy(cut.segments).to(device)
        self._partials = torch.zeros(max(1, cut.partials), device=device)
        self._segment_sums = torch.zeros(max(1, len(cut.segments)), device=device)
        self._squares = torch.zeros(max(1, len(cut.tiles)), device=device)
        self._sizes = torch.zeros(max(1, len(cut.tiles)), device=device)
        self.views: list[dict[str, Tensor]] = []
        for index, member in enumerate(members):
            self._take_over(index, member.param, state, averaged[member.group])

    def _take_over(self, index: int, param: Tensor, state: State, averaged: bool) -> None:
        entries = state[param]
        views = self._views(index, param, averaged)
        for key, view in views.items():
            if key in entries:
                view.copy_(entries[key])
        if entries:
            self.steps[index].fill_(float(entries.get("step", 0.0)))
        entries.clear()
        entries.update(views)
        entries["step"] = self.steps[index]
        entries["RMS"] = self._coefficients[index, geo.RMS]
        self.views.append(views)

    def _views(self, index: int, param: Tensor, averaged: bool) -> dict[str, Tensor]:
        """The tensor's part of the flat state, under the names and in the shapes that transformers uses."""
        row = self._columns[index]
        shape, column = param.shape, _column(row)
        views = {}
        if column(geo.FACTORED):
            rows, cols = shape[:-1], (*shape[:-2], shape[-1])
            views["exp_avg_sq_row"] = _part(self.factors, column(geo.ROW_STATE), rows)
            views["exp_avg_sq_col"] = _part(self.factors, column(geo.COL_STATE), cols)
        else:
            views["exp_avg_sq"] = _part(self.full, column(geo.FULL_STATE), shape)
        if averaged and self.exp_avg is not None:
            views["exp_avg"] = _part(self.exp_avg, self._first[index], shape)
        return views

    def launch(
        self, hyper: Tensor, scale: bool, partials: Tensor | None, norm: Tensor, scaling: Scaling, options: StepOptions
    ) -> None:
        """Step all tensors.

        Args:
            hyper: hyper-parameters on the device.
            scale: whether any group scales its rate by the size of the parameters.
            partials: partial sums of all squared gradients, None when no norm is taken.
            norm: where to write the norm.
            scaling: GradScaler's scale and flag.
            options: whether to clip, and to skip what is not finite.
        """
        from . import adafactor_kernels as kernels

        launch = launch_options()
        dtype = triton_dtype(self.pointers.dtype)
        table, count = self.pointers.tensor, len(self.members)
        tiles, segments = (len(self._tiles),), (len(self._segments),)
        sizes = self._sizes if scale else None
        kernels.adafactor_begin_kernel[(1,)](
            table, self.steps, hyper, self._coefficients, partials, None if partials is None else norm, *scaling,
            count, hyper.shape[0] - 1, 0 if partials is None else partials.numel(),
            CLIP=options.max_grad_norm is not None, SKIP_NONFINITE=options.skip_nonfinite, LANES=256, **launch,
        )  # fmt: skip
        if tiles[0]:
            kernels.adafactor_sums_kernel[tiles](
                table, self._coefficients, self._tiles, self._partials, self._sizes,
                PARAM_DTYPE=dtype, GRAD_DTYPE=dtype, SCALE=scale, **launch,
            )  # fmt: skip
        if segments[0]:
            kernels.adafactor_factors_kernel[segments](
                table, self._coefficients, self._segments, self._partials, self.factors, self._segment_sums, **launch
            )
        if not tiles[0]:
            return
        kernels.adafactor_rms_kernel[tiles](
            table, self._coefficients, self._tiles, self.factors, self.full, self._segment_sums, self._squares,
            GRAD_DTYPE=dtype, **launch,
        )  # fmt: skip
        kernels.adafactor_finish_kernel[(count,)](
            table, self.steps, hyper, self._coefficients, self._squares, sizes, LANES=1024, **launch
        )
        kernels.adafactor_apply_kernel[tiles](
            table, self._coefficients, self._tiles, self.factors, self.full, self._segment_sums, self.exp_avg,
            PARAM_DTYPE=dtype, GRAD_DTYPE=dtype, **launch,
        )  # fmt: skip


class AdafactorEngine(Engine[AdafactorBucket]):
    """All buckets of one device."""

    def step(self, scale: bool, scaling: Scaling, options: StepOptions) -> None:
        """Launch one step.

        Args:
            scale: whether any group scales its learning rate by the size of the parameters.
            scaling: GradScaler's scale and flag, on this device.
            options: see :meth:`AdafactorBucket.launch`.
        """

        def launch(bucket: AdafactorBucket, partials: Tensor | None) -> None:
            def run() -> None:
                bucket.launch(self._hyper.device_tensor, scale, partials, self.norm, scaling, options)

            if ops.watched():
                _watched(bucket, scale, run)
            else:
                run()

        self.each_bucket(launch, takes_norm=options.takes_norm)


def _watched(bucket: AdafactorBucket, scale: bool, run: Callable[[], None]) -> None:
    """The step as an op that a profile sees."""
    active = [index for index, grad in enumerate(bucket.pointers.grads) if grad is not None]
    ops.fused_adafactor(
        [bucket.pointers.params[index] for index in active],
        [grad for grad in bucket.pointers.grads if grad is not None],
        [view for index in active for view in bucket.views[index].values()],
        scale,
        3,
        run,
    )


def _column(row: np.ndarray) -> Callable[[int], int]:
    return lambda name: int(row[name - TABLE_WIDTH])


def _part(flat: Tensor, start: int, shape: Sequence[int]) -> Tensor:
    count = 1
    for size in shape:
        count *= size
    return flat[start : start + count].view(tuple(shape))
