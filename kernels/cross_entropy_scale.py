"""The backward pass of losses whose gradient was kept: it is multiplied by the gradient that comes from above.

``loss.backward()`` starts from one, and a gradient times one need not be touched: while the graph is not kept for
another pass, the kept gradient is scaled where it is, and skipped on the device, without waiting for it, when the
factor is one. It never is in fp16, where the weight of a mean comes only now.

A kept gradient in half precision has been rounded once; a factor that is no power of two rounds it once more.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from ..profiler.costs import Cost, register
from ..profiler.costs.cost import scalar, tensor, touched_bytes
from ..profiler.ops import OpRecord
from .cross_entropy_rows import takes_triton
from .operator import define, refuse_second_derivative
from .support import launch_options, on_device

#: Names of what has no second derivative, and of what has one.
SECOND_DERIVATIVE = ("cross-entropy", "torch.nn.functional.cross_entropy")

#: Elements that one program scales.
BLOCK = 8192


def scale_kept(gradient: Tensor, factors: Tensor, *, owned: bool, weighted: bool = False) -> Tensor:
    """A kept gradient times the gradient from above.

    Args:
        gradient: kept by the forward pass, contiguous.
        factors: of one element, or one a row of the gradient.
        owned: whether nothing but autograd holds the gradient, which is then used up, unless the graph is kept.
        weighted: whether the factors contain the weight of a mean, so that they are hardly ever one.

    Raises:
        UsageError: the backward pass is to be differentiated itself.
    """
    refuse_second_derivative(*SECOND_DERIVATIVE)
    if not owned or _is_traced(gradient) or _graph_is_kept():
        return cross_entropy_backward_op(gradient, factors)
    cross_entropy_backward_in_place_op(gradient, factors, weighted)
    return gradient


def _is_traced(gradient: Tensor) -> bool:
    """Whether this pass becomes a graph, such as torch.compile's, in which values may be used more than once."""
    return type(gradient) not in (Tensor, FakeTensor)


def _graph_is_kept() -> bool:
    """Whether the graph of the backward pass that is running may be used again; also where torch cannot tell."""
    ask = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)  # since torch 2.5
    return ask is None or bool(ask())


def _scale(gradient: Tensor, factors: Tensor) -> Tensor:
    result = torch.empty_like(gradient)
    if takes_triton(gradient):
        _launch(gradient, factors, result)
        return result
    return result.copy_(_product(gradient, factors))


def _scale_in_place(gradient: Tensor, factors: Tensor, weighted: bool) -> None:
    if takes_triton(gradient):
        _launch(gradient, factors, gradient)
    elif not (gradient.device.type == "cpu" and factors.numel() == 1 and factors.item() == 1):
        gradient.copy_(_product(gradient, factors))


def _product(gradient: Tensor, factors: Tensor) -> Tensor:
    wide = gradient.to(torch.promote_types(gradient.dtype, factors.dtype))
    return wide * (factors.reshape(()) if factors.numel() == 1 else factors[:, None])


def _launch(gradient: Tensor, factors: Tensor, result: Tensor) -> None:
    """Scale contiguous ``gradient`` into ``result``; by one factor, rows do not matter."""
    from .cross_entropy_kernels import scale_kernel

    one = factors.numel() == 1
    rows, columns = (1, gradient.numel()) if one else gradient.shape
    tiles = -(-columns // BLOCK)
    if not gradient.numel():
        return
    with on_device(gradient.device):
        scale_kernel[(rows * tiles,)](
            gradient, factors, result, columns, tiles, 0 if one else factors.stride(0),
            SKIP_ONES=result is gradient, BLOCK=BLOCK, **launch_options() | {"num_warps": 8},
        )  # fmt: skip


def scale_cost(record: OpRecord) -> Cost:
    """The gradient is read and written, one multiplication an element."""
    gradient, factors = tensor(record, 0), tensor(record, 1)
    read = touched_bytes([gradient, factors])
    return Cost(float(gradient.numel), read, gradient.nbytes, "vector", factors.dtype)


def scale_in_place_cost(record: OpRecord) -> Cost:
    """Only the factors are read when they are one, which is what ``loss.backward()`` starts from: the least it can be.

    It is an estimate: with a loss scale, or losses averaged over micro-batches, the gradient is read and written as
    well. Factors that contain the weight of a mean, as in fp16, are not one: there the cost is exact.
    """
    if scalar(record, 2) is True:
        return scale_cost(record)
    factors = tensor(record, 1)
    return Cost(0.0, factors.nbytes, 0.0, "none", factors.dtype, estimated=True)


cross_entropy_backward_op = define(
    "cross_entropy_backward(Tensor gradient, Tensor factors) -> Tensor",
    _scale,
    lambda gradient, factors: torch.empty_like(gradient),
)
cross_entropy_backward_in_place_op = define(
    "cross_entropy_backward_(Tensor(a!) gradient, Tensor factors, bool weighted) -> ()",
    _scale_in_place,
    lambda gradient, factors, weighted: None,
)


def register_costs() -> None:
    """Teach the profiler to price the scaling of kept gradients."""
    register("edgeroof::cross_entropy_backward", scale_cost)
    register("edgeroof::cross_entropy_backward_", scale_in_place_cost)
