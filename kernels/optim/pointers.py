"""The table that tells a kernel where every parameter and gradient is, kept on the device and uploaded on change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..support import on_device
from . import columns
from .codes import mixed_seed
from .errors import OptimizerError
from .layout import VECTOR_BYTES, aligned, is_dense, same_order


@dataclass(frozen=True)
class Member:
    """A parameter of a bucket: the row of its group's hyper-parameters and its number in the optimizer."""

    param: Tensor
    group: int
    number: int


def is_capturing(device: torch.device) -> bool:
    """Whether a CUDA graph is being captured on the device's current stream."""
    if device.type != "cuda":
        return False
    with on_device(device):
        return torch.cuda.is_current_stream_capturing()


class Upload:
    """A device tensor that mirrors a host array; changes travel through pinned memory, without a wait.

    Every upload has a pinned buffer of its own, which the allocator does not give away before the copy is done: the
    host goes on at once and never writes what a copy still reads.
    """

    def __init__(self, host: np.ndarray, device: torch.device) -> None:
        self.device_tensor = torch.from_numpy(host.copy()).to(device)
        self._pinned = device.type == "cuda"

    def _buffer(self, host: np.ndarray) -> Tensor:
        return torch.from_numpy(host.copy()).pin_memory() if self._pinned else torch.from_numpy(host.copy())

    def write(self, host: np.ndarray) -> None:
        """Copy ``host`` to the device, in stream order."""
        self.device_tensor.copy_(self._buffer(host), non_blocking=True)


class CapturableUpload(Upload):
    """An upload that may become part of a CUDA graph.

    Its buffer must be pinned before, since capture forbids pinning, and is kept for as long as this object lives. Every
    replay copies it again, so what the device holds is unknown from the first capture on.
    """

    def __init__(self, host: np.ndarray, device: torch.device) -> None:
        super().__init__(host, device)
        self._spare: Tensor | None = self._buffer(host)
        self._in_graphs: list[Tensor] = []

    @property
    def in_graphs(self) -> bool:
        """Whether a replay may have overwritten what was uploaded last."""
        return bool(self._in_graphs)

    def write(self, host: np.ndarray) -> None:
        """Copy ``host`` to the device, in stream order; under capture, at every replay.

        Raises:
            OptimizerError: a second capture without a step between.
        """
        if not is_capturing(self.device_tensor.device):
            super().write(host)
            return
        if self._spare is None:
            raise OptimizerError(
                "more than one step is captured into CUDA graphs by this optimizer without an eager step between; "
                "run one step outside of capture before each capture"
            )
        self._spare.numpy()[...] = host
        self._in_graphs.append(self._spare)
        self.device_tensor.copy_(self._spare, non_blocking=True)
        self._spare = None

    def replenish(self) -> None:
        """Make ready for another capture; called by every step outside of one."""
        if self._spare is None:
            self._spare = self._buffer(self._in_graphs[-1].numpy())


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
        self._strides = [param.stride() for param in self.params]
        self._flat = [False] * len(members)  # whether a parameter is contiguous, so that any contiguous gradient fits
        self._work = list(self.params)  # what kernels write: the parameter or its staging copy
        self._staged_params: dict[int, Tensor] = {}
        self._staged_grads: dict[int, Tensor] = {}
        self._staging: dict[int, Tensor] = {}  # those of the staged gradients that this step fills
        self._param_pointers: list[int] = []
        self._grad_pointers: list[int] = []
        self._grad_layouts: object = None
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
        self._upload = CapturableUpload(self._host, self.device)
        self.grads: list[Tensor | None] = []

    @property
    def tensor(self) -> Tensor:
        """The table on the device, ``[tensors, TABLE_WIDTH]`` int64."""
        return self._upload.device_tensor

    def changed(self) -> bool:
        """Whether a parameter was given memory of another type, shape, order or device, so that buckets are stale."""
        return any(
            param.dtype != self.dtype or param.device != self.device or param.shape != shape or param.stride() != stride
            for param, shape, stride in zip(self.params, self._shapes, self._strides)
        )

    def refresh(self) -> bool:
        """Look up this step's pointers; upload the table if any differs. False when the bucket itself is stale.

        Everything is looked at in every step, as parameters and gradients may be replaced at any time; only what moved
        is looked at closely.

        Raises:
            OptimizerError: a gradient is sparse or on another device.
        """
        self.grads = grads = [param.grad for param in self.params]
        try:
            params = list(map(_data_ptr, self.params))
            pointers, layouts = _places(grads)
        except RuntimeError:
            reject_unusable(self.params)
            raise
        capturing = is_capturing(self.device)
        if not capturing:
            self.replenish()
        if params != self._param_pointers or layouts != self._grad_layouts:
            if self.changed():
                return False
            reject_unusable(self.params)
            self._locate_params(params)
            moved: Iterable[int] = range(len(grads))
        elif pointers != self._grad_pointers:
            moved = [index for index, (new, old) in enumerate(zip(pointers, self._grad_pointers)) if new != old]
        elif capturing or self._upload.in_graphs:
            moved = ()  # the upload must become part of the graph, or undo what a replay uploaded
        else:
            return True
        for index in moved:
            self._locate_grad(index, grads[index], pointers[index])
        self._host[:, columns.ALIGNED] = aligned(self._host[:, columns.PARAM], self._host[:, columns.GRAD])
        self._upload.write(self._host)
        self._param_pointers, self._grad_pointers, self._grad_layouts = params, pointers, layouts
        return True

    def replenish(self) -> None:
        """Make ready for another capture, outside of one."""
        self._upload.replenish()

    def release(self) -> None:
        """Let go of the gradients after the launches, or ``zero_grad`` would not free them."""
        self.grads = []

    def _locate_params(self, pointers: Sequence[int]) -> None:
        self._host[:, columns.PARAM] = pointers
        self._staged_params = {}
        for index, param in enumerate(self.params):
            self._work[index], self._flat[index] = param, param.is_contiguous()
            if not (self._flat[index] or self._usable(param)):
                work = torch.empty(param.shape, dtype=param.dtype, device=param.device)
                self._work[index] = self._staged_params[index] = work
                self._host[index, columns.PARAM] = work.data_ptr()

    def _locate_grad(self, index: int, grad: Tensor | None, pointer: int) -> None:
        self._staging.pop(index, None)
        if grad is None:
            pointer = 0
        elif not self._shapes[index].numel():
            pointer = VECTOR_BYTES  # nothing is read there; the step still counts
        elif not (self._flat[index] and grad.dtype == self.dtype and grad.is_contiguous()):
            pointer = self._gradient_pointer(index, grad, self._work[index])
        self._host[index, columns.GRAD] = pointer

    def _gradient_pointer(self, index: int, grad: Tensor, work: Tensor) -> int:
        if grad.dtype == work.dtype and self._usable(grad) and same_order(grad, work):
            return grad.data_ptr()
        staged = self._staged_grads.get(index)
        if staged is None or staged.stride() != work.stride():
            staged = self._staged_grads[index] = torch.empty_strided(
                work.shape, work.stride(), dtype=work.dtype, device=work.device
            )
        self._staging[index] = staged
        return staged.data_ptr()

    def gather(self) -> None:
        """Fill the staging copies."""
        for index, staged in self._staging.items():
            grad = self.grads[index]
            if grad is not None:
                staged.copy_(grad)
        for index, work in self._staged_params.items():
            work.copy_(self.params[index])

    def scatter(self) -> None:
        """Write staged parameters back."""
        for index, work in self._staged_params.items():
            self.params[index].copy_(work)


_data_ptr = Tensor.data_ptr  # looked up once: hundreds of calls a step
_is_contiguous = Tensor.is_contiguous


def _places(grads: Sequence[Tensor | None]) -> tuple[list[int], object]:
    """Address of every gradient, 0 for none, and their layouts: True when all are contiguous, else all strides."""
    present = [grad for grad in grads if grad is not None]
    contiguous = all(map(_is_contiguous, present))
    layouts = contiguous or [None if grad is None else grad.stride() for grad in grads]
    if len(present) == len(grads):
        return list(map(_data_ptr, present)), layouts
    return [0 if grad is None else grad.data_ptr() for grad in grads], layouts


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
