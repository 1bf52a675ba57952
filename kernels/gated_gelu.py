"""T5's gated GELU, ``dropout(gelu_new(a) * b)``: what the feed-forward layer does between its matmuls.

PyTorch's own path is eight operators and keeps their results; here bytes per element are

=========  ====================================  =====  =====
pass       moves                                 bf16   fp32
=========  ====================================  =====  =====
forward    ``a``, ``b``, the result              6      12
backward   ``a``, ``b``, and three gradients     10     20
=========  ====================================  =====  =====

Nothing but ``a`` and ``b``, which the matmuls before have made, is kept for the backward pass; the GELU and what
dropout kept are computed again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from ..profiler.costs import Cost, register
from ..profiler.costs.cost import bytes_read, bytes_written, output, scalar
from ..profiler.ops import OpRecord
from . import operator
from .dropout import drop, seed_for, threshold_and_scale
from .operator import define, differentiate, refuse_second_derivative
from .support import launch_options, on_device
from .variants import KernelVariant

#: Per element: cube 2, scales and sums 4, tanh 1, products 3; backward: again, slope 8, gradients 3; dropout 2.
FORWARD_FLOPS, BACKWARD_FLOPS, DROPOUT_FLOPS = 10, 20, 2

#: Bytes of a thread's access, and how many it has in flight for each tensor.
ACCESS_BYTES, ACCESSES = 16, 2
_WARPS = 4

_TRITON_DTYPES = frozenset({torch.float32, torch.bfloat16, torch.float16})


def gated_gelu(a: Tensor, b: Tensor, *, dropout: float = 0.0, seed: Tensor | None = None) -> Tensor:
    """``gelu_new(a) * b``, then dropout.

    ``gelu_new`` is GELU's approximation with tanh (D. Hendrycks and K. Gimpel, arXiv 1606.08415). Arithmetic is fp32
    for half precision, whether autocast is on or not, and the result is rounded once. The Triton kernels round the
    probability of dropout to a multiple of 2⁻¹⁶. They and torch's path drop different elements for a seed.

    Args:
        a: floating numbers, any shape and strides; the result is of its type, or of the wider one of both.
        b: of the same shape.
        dropout: probability with which an element is dropped, 0 to 1; the others are divided by its complement.
        seed: int64 of one element, on the device of ``a``; drawn from torch's generator when ``None``.

    Returns:
        Of the same shape, contiguous.

    Raises:
        UsageError: an argument makes no sense.
    """
    if not a.is_floating_point() or not b.is_floating_point():
        raise UsageError(f"a and b are floating numbers, not {a.dtype} and {b.dtype}")
    if a.shape != b.shape or a.device != b.device:
        raise UsageError(
            f"a {tuple(a.shape)} on {a.device} and b {tuple(b.shape)} on {b.device} differ in shape or device"
        )
    return gated_gelu_op(a, b, seed_for(dropout, seed, a.device), float(dropout))


# -------------------------------------------------------------------- the operators


def _forward(a: Tensor, b: Tensor, seed: Tensor | None, dropout: float) -> Tensor:
    if not _takes_triton(a, b):
        gelu = torch.ops.aten.gelu(_wide(a), approximate="tanh")
        return drop(gelu.mul_(b), seed, dropout).to(_result(a, b)).contiguous()
    from .gated_gelu_kernels import gated_gelu_kernel

    a, b = a.contiguous(), b.contiguous()
    out = torch.empty_like(a, dtype=_result(a, b))
    _launch(gated_gelu_kernel, (a, b, seed, out), out.numel(), dropout)
    return out


def _backward(grad: Tensor, a: Tensor, b: Tensor, seed: Tensor | None, dropout: float) -> tuple[Tensor, Tensor]:
    """Gradients of both, each in its type."""
    if not _takes_triton(a, b, grad):
        slope, value = drop(_wide(grad), seed, dropout), _wide(a)
        grad_a = torch.ops.aten.gelu_backward(slope * b, value, approximate="tanh")
        grad_b = torch.ops.aten.gelu(value, approximate="tanh").mul_(slope)
        return grad_a.to(a.dtype).contiguous(), grad_b.to(b.dtype).contiguous()
    from .gated_gelu_kernels import gated_gelu_backward_kernel

    grad, a, b = grad.contiguous(), a.contiguous(), b.contiguous()
    grad_a, grad_b = torch.empty_like(a), torch.empty_like(b)
    _launch(gated_gelu_backward_kernel, (grad, a, b, seed, grad_a, grad_b), a.numel(), dropout)
    return grad_a, grad_b


def _fake(a: Tensor, b: Tensor, seed: Tensor | None, dropout: float) -> Tensor:
    return a.new_empty(a.shape, dtype=_result(a, b))


def _fake_backward(grad: Tensor, a: Tensor, b: Tensor, seed: Tensor | None, dropout: float) -> tuple[Tensor, Tensor]:
    return a.new_empty(a.shape), b.new_empty(b.shape)


def _result(a: Tensor, b: Tensor) -> torch.dtype:
    return torch.promote_types(a.dtype, b.dtype)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _takes_triton(*tensors: Tensor) -> bool:
    return all(tensor.dtype in _TRITON_DTYPES for tensor in tensors) and operator.use_triton(tensors[0])


def launch_form(itemsize: int) -> tuple[int, int]:
    """Elements of a program, and of a thread's access, where the narrowest tensor has elements of so many bytes."""
    vector = ACCESS_BYTES // itemsize
    return _WARPS * 32 * vector * ACCESSES, vector


def _launch(kernel: Any, tensors: tuple[Tensor | None, ...], numel: int, dropout: float) -> None:
    if not numel:
        return
    block, vector = launch_form(min(tensor.element_size() for tensor in tensors if tensor is not None))
    given = next(tensor for tensor in tensors if tensor is not None)
    with on_device(given.device):
        kernel[(-(-numel // block),)](
            *tensors, numel, *threshold_and_scale(dropout), BLOCK=block, VECTOR=vector,
            **launch_options() | {"num_warps": _WARPS},
        )  # fmt: skip


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    a, b, seed, ctx.dropout = inputs
    ctx.save_for_backward(a, b, seed)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    refuse_second_derivative("gated_gelu", "torch.nn.functional.gelu")
    return *gated_gelu_backward_op(grad, *ctx.saved_tensors, ctx.dropout), None, None


gated_gelu_op = define("gated_gelu(Tensor a, Tensor b, Tensor? seed, float dropout) -> Tensor", _forward, _fake)
gated_gelu_backward_op = define(
    "gated_gelu_backward(Tensor grad, Tensor a, Tensor b, Tensor? seed, float dropout) -> (Tensor, Tensor)",
    _backward,
    _fake_backward,
)
differentiate("gated_gelu", _differentiate, _setup)


# -------------------------------------------------------------------- costs


def gated_gelu_cost(record: OpRecord) -> Cost:
    """Both factors are read once, the product written."""
    return _cost(record, FORWARD_FLOPS, seed=2)


def gated_gelu_backward_cost(record: OpRecord) -> Cost:
    """Both factors and the gradient are read once, two gradients written."""
    return _cost(record, BACKWARD_FLOPS, seed=3)


def _cost(record: OpRecord, per_element: int, seed: int) -> Cost:
    flops = per_element + (DROPOUT_FLOPS if scalar(record, seed) is not None else 0)
    result = output(record)
    dtype = "fp64" if result.dtype == "fp64" else "fp32"
    return Cost(float(flops * result.numel), bytes_read(record), bytes_written(record), "vector", dtype)


def register_costs() -> None:
    """Teach the profiler to price the gated GELU and its gradient."""
    register("edgeroof::gated_gelu", gated_gelu_cost)
    register("edgeroof::gated_gelu_backward", gated_gelu_backward_cost)


# -------------------------------------------------------------------- forms for ahead-of-time compilation

_ITEMSIZE = {"fp32": 4, "bf16": 2, "fp16": 2}


def variant(dtype: str, *, backward: bool = False, dropout: bool = True) -> KernelVariant:
    """One of both kernels; its bytes are those of the tensors that it moves."""
    names = ("grad", "a", "b", "grad_a", "grad_b") if backward else ("a", "b", "out")
    block, vector = launch_form(_ITEMSIZE[dtype])
    constants: dict[str, Any] = {"BLOCK": block, "VECTOR": vector} | ({} if dropout else {"seed": None})
    signature = dict.fromkeys(names, f"*{dtype}") | {"seed": "*i64", "numel": "i32", "threshold": "i32"}
    signature |= {"scale": "fp32"} | dict.fromkeys(constants, "constexpr")
    return KernelVariant(
        "gated_gelu_backward_kernel" if backward else "gated_gelu_kernel", f"{dtype}, dropout" if dropout else dtype,
        "gated_gelu_kernels", signature, constants, block, float(len(names) * _ITEMSIZE[dtype]),
        aligned=("numel",), masked=True, warps=_WARPS,
    )  # fmt: skip


def variants() -> Iterator[KernelVariant]:
    """The forms of T5's feed-forward layers, trained and evaluated."""
    for dtype in ("bf16", "fp32"):
        yield variant(dtype, dropout=False)
        yield variant(dtype)
        yield variant(dtype, backward=True)
