"""CUDA's autocast on CPU tensors: the ops that it runs in fp32 and a CPU's does not.

The lists are those of PyTorch's ``autocast_mode.h`` (``AT_FORALL_FP32`` and ``AT_FORALL_FP32_SET_OPT_DTYPE``), for ops
that occur in models. Products are cast to 16 bits alike on both.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._pytree import tree_map_only

#: Run in fp32: their 16-bit inputs are cast up.
_IN_FP32 = (
    "acos", "asin", "cosh", "exp", "expm1", "log", "log10", "log2", "log1p", "reciprocal", "rsqrt", "sinh", "tan",
    "pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar", "softplus", "layer_norm", "native_layer_norm", "group_norm",
    "nll_loss", "nll_loss2d", "kl_div", "l1_loss", "smooth_l1_loss", "huber_loss", "mse_loss",
    "binary_cross_entropy_with_logits", "logsumexp", "cdist", "dist", "renorm", "rms_norm", "norm.Scalar",
    "cosine_similarity",
)  # fmt: skip

#: Give their result in fp32 unless told another type.
_WITH_FP32_RESULT = (
    "softmax.int", "log_softmax.int", "cumsum", "cumprod", "prod", "sum", "sum.dim_IntList", "linalg_vector_norm",
)  # fmt: skip

_NARROW = (torch.float16, torch.bfloat16)
_CPU_AUTOCAST = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)


@contextlib.contextmanager
def cuda_autocast() -> Iterator[None]:
    """While open, ``torch.autocast("cpu")`` casts what ``torch.autocast("cuda")`` would."""
    with torch.library._scoped_library("aten", "IMPL") as library:
        for name in (*_IN_FP32, *_WITH_FP32_RESULT):
            if _only_cuda_casts(name):
                packet, _, overload = name.partition(".")
                op = getattr(getattr(torch.ops.aten, packet), overload or "default")
                library.impl(name, _in_fp32(op) if name in _IN_FP32 else _with_fp32_result(op), "AutocastCPU")
        yield


def _only_cuda_casts(name: str) -> bool:
    """Whether this release of torch casts the op under CUDA's autocast, and does nothing under the CPU's."""
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    full = f"aten::{name}"
    known = torch._C._dispatch_has_kernel(full)
    return known and has_kernel(full, "AutocastCUDA") and not has_kernel(full, "AutocastCPU")


def _in_fp32(op: Any) -> Any:
    def run(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(_CPU_AUTOCAST):
            args, kwargs = tree_map_only(torch.Tensor, _widened, (args, kwargs))
            return op(*args, **kwargs)

    return run


def _with_fp32_result(op: Any) -> Any:
    def run(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(_CPU_AUTOCAST):
            names = [argument.name for argument in op._schema.arguments]
            position = names.index("dtype")
            given = args[position] if position < len(args) else kwargs.get("dtype")
            if given is None and args[0].dtype in _NARROW:
                args, kwargs = args[:position], kwargs | {"dtype": torch.float32}
            return op(*args, **kwargs)

    return run


def _widened(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype in _NARROW else tensor
