"""The table that tells a kernel where every parameter and gradient is, kept on the device and uploaded on change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from . import columns
from .codes import mixed_seed
from .errors import OptimizerError
from .layout import is_aligned, is_dense, same_order


@dataclass(frozen=True)
class Member:
    """A parameter of a bucket: the row of its group's hyper-parameters and its number in the optimizer."""

    param: Tensor
    group: int
    number: int


def is_capturing(device: torch.device) -> bool:
    """Whether a CUDA graph is being captured."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


class Upload:
    """A device tensor that mirrors a host array; only changes travel, through pinned memory, without a wait.

    A fresh pinned buffer per upload lets the host go on at once. Under graph capture the upload becomes part of the
    graph, so its buffer must be pinned before (capture forbids pinning) and is kept for as long as this object lives.
    """

    def __init__(self, host: np.ndarray, device: torch.device) -> None:
        self.device_tensor = torch.from_numpy(host.copy()).to(device)
        self._pinned = device.type == "cuda"
        self._spare: Tensor | None = self._buffer(host)
        self._captured: list[Tensor] = []

    def _buffer(self, host: np.ndarray) -> Tensor:
        return torch.from_numpy(host.copy()).pin_memory() if self._pinned else torch.from_numpy(host.copy())

    def write(self, host: np.ndarray) -> None:
        """Copy ``host`` to the device, in stream order."""
        if is_capturing(self.device_tensor.device):
            if self._spare is None:
                raise OptimizerError(
                    "more than one step is captured into CUDA graphs by this optimizer without an eager step between; "
                    "run one step outside of capture before each capture"
                )
            self._spare.numpy()[...] = host
            self._captured.append(self._spare)
            self.device_tensor.copy_(self._spare, non_blocking=True)
            self._spare = None
            return
        self.device_tensor.copy_(self._buffer(host), non_blocking=True)

    def replenish(self) -> None:
        """Make ready for another capture; called by every step outside of one."""
        if self._spare is None:
            self._spare = self._buffer(self._captured[-1].numpy())


class PointerTable:
    """Pointers of a bucket of tensors that have one dtype and one device.

    Tensors that are no stretch of memory, and gradients whose order or type differs from their parameter's, are worked
    on in staging copies, which costs their traffic again; nothing in ordinary training needs it.
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        offsets: Sequence[int] | None = None,
        seed: int = 0,
        shadows: Sequence[Tensor] = (),
        geometry: np.ndarray | None = None,
    ) -> None:
        """Describe the members.

        Args:
            members: tensors of one dtype and device.
            offsets: where each stands in a flat state.
            seed: of the optimizer's random numbers.
            shadows: copies of the parameters that are written along.
            geometry: more columns for the table; with them, tensors must be contiguous, not only dense.
        """
        self.members = members
        self._usable = is_dense if geometry is None else Tensor.is_contiguous
        self.params = [member.param for member in members]
        self.device = self.params[0].device
        self.dtype = self.params[0].dtype
        self._shapes = [param.shape for param in self.params]
        self._strided = [index for index, param in enumerate(self.params) if not param.is_contiguous()]
        self._work_params: list[Tensor] = []
        self._staged_params: list[tuple[Tensor, Tensor]] = []
        self._staged_grads: dict[int, Tensor] = {}
        self._staging: list[tuple[Tensor, int]] = []
        self._signature: list[object] = []
        self._host = np.zeros((len(members), columns.TABLE_WIDTH), dtype=np.int64)
        if geometry is not None:
            self._host = np.concatenate([self._host, geometry], axis=1)
        self._host[:, columns.NUMEL] = [param.numel() for param in self.params]
        if offsets is not None:
            self._host[:, columns.STATE] = offsets
        self._host[:, columns.GROUP] = [member.group for member in members]
        self._host[:, columns.SEED] = [mixed_seed(seed, member.number) for member in members]
        if shadows:
            self._host[:, columns.SHADOW] = [shadow.data_ptr() for shadow in shadows]
        self._upload = Upload(self._host, self.device)
        self.grads: list[Tensor | None] = []

    @property
    def tensor(self) -> Tensor:
        """The table on the device, ``[tensors, TABLE_WIDTH]`` int64."""
        return self._upload.device_tensor

    def changed(self) -> bool:
        """Whether a parameter was given other memory of another type, shape or device, so that buckets are stale."""
        return any(
            param.dtype != self.dtype or param.device != self.device or param.shape != shape
            for param, shape in zip(self.params, self._shapes)
        )

    def refresh(self) -> bool:
        """Look up this step's pointers; upload the table if any differs. False when the bucket itself is stale.

        Raises:
            OptimizerError: a gradient is sparse or on another device.
        """
        self.grads = grads = [param.grad for param in self.params]
        try:
            signature: list[object] = [param.data_ptr() for param in self.params]
            signature += [0 if grad is None else grad.data_ptr() for grad in grads]
            signature += [True if grad is None else grad.is_contiguous() for grad in grads]
        except RuntimeError:
            reject_unusable(self.params)
            raise
        for index in self._strided:
            grad = grads[index]
            signature.append(None if grad is None else grad.stride())
        capturing = is_capturing(self.device)
        if not capturing:
            self._upload.replenish()
        if signature != self._signature or capturing:
            if self.changed():
                return False
            self._locate(grads)
            self._signature = signature
        return True

    def _locate(self, grads: Sequence[Tensor | None]) -> None:
        """Fill the table's pointers and flags."""
        reject_unusable(self.params)
        self._work_params, self._staged_params, self._staging = [], [], []
        for index, (param, grad) in enumerate(zip(self.params, grads)):
            work = param
            if not self._usable(param):
                work = torch.empty(param.shape, dtype=param.dtype, device=param.device)
                self._staged_params.append((param, work))
            self._work_params.append(work)
            where = 0
            if grad is not None and param.numel():
                where = self._gradient_pointer(index, grad, work)
            self._host[index, columns.PARAM] = work.data_ptr()
            self._host[index, columns.GRAD] = where
            self._host[index, columns.ALIGNED] = is_aligned(work.data_ptr(), where)
            if grad is not None and not param.numel():
                self._host[index, columns.GRAD] = 1  # nothing is read there; the step still counts
        self._upload.write(self._host)

    def _gradient_pointer(self, index: int, grad: Tensor, work: Tensor) -> int:
        if grad.dtype == work.dtype and self._usable(grad) and same_order(grad, work):
            return grad.data_ptr()
        staged = self._staged_grads.get(index)
        if staged is None:
            staged = self._staged_grads[index] = torch.empty_strided(
                work.shape, work.stride(), dtype=work.dtype, device=work.device
            )
        self._staging.append((staged, index))
        return staged.data_ptr()

    def gather(self) -> None:
        """Fill the staging copies."""
        for staged, index in self._staging:
            grad = self.grads[index]
            if grad is not None:
                staged.copy_(grad)
        for param, work in self._staged_params:
            work.copy_(param)

    def scatter(self) -> None:
        """Write staged parameters back."""
        for param, work in self._staged_params:
            param.copy_(work)


def reject_unusable(params: Sequence[Tensor]) -> None:
    """Refuse gradients that no fused step can use.

    Raises:
        OptimizerError: says which and what to do.
    """
    for index, param in enumerate(params):
        grad = param.grad
        if grad is None:
            continue
        if grad.layout != torch.strided:
            raise OptimizerError(
                f"the gradient of parameter {index} of shape {tuple(param.shape)} is sparse ({grad.layout}), which the "
                "fused optimizers do not support; build the embedding with sparse=False or use torch.optim.SparseAdam"
            )
        if grad.device != param.device:
            raise OptimizerError(
                f"parameter {index} of shape {tuple(param.shape)} is on {param.device} but its gradient on "
                f"{grad.device}; move them to one device before the step"
            )
