"""What a step would dispatch on CUDA, where that differs from a CPU and can be known without one.

Three things differ. ``dropout`` is one op with a byte mask on CUDA, random numbers and a product on a CPU. Attention
goes to kernels that only CUDA has. Autocast there runs a list of ops in fp32 that a CPU leaves in 16 bits. All three
are added to torch's dispatcher while the block is open, so that nothing slips past: not what a checkpoint recomputes,
nor what a module calls from within.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional

from .cuda_autocast import cuda_autocast

_aten = torch.ops.aten

#: Bytes to which memory-efficient attention aligns a row of its bias: https://github.com/pytorch/pytorch, the function
#: ``preprocess_mask`` in aten/src/ATen/native/transformers/attention.cpp.
_BIAS_ALIGNMENT = 16


@contextlib.contextmanager
def as_on_cuda(compute_capability: tuple[int, int] | None = None) -> Iterator[None]:
    """Dispatch on CPU tensors (fake ones) what CUDA tensors would.

    Args:
        compute_capability: of the device; flash attention needs 8.0, which is assumed when None.
    """
    flash = has_flash_attention(compute_capability)
    with cuda_autocast(), torch.library._scoped_library("aten", "IMPL") as library:
        library.impl("dropout", _dropout, "AutogradCPU")
        library.impl("scaled_dot_product_attention", functools.partial(_attention, flash), "AutogradCPU")
        yield


def has_flash_attention(compute_capability: tuple[int, int] | None) -> bool:
    """Whether a device has PyTorch's flash attention, from 8.0 on; the only thing here that differs between GPUs."""
    return (compute_capability or (8, 0)) >= (8, 0)


def attention_kernel(
    query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, *, flash: bool, grouped: bool = False
) -> str:
    """Which kernel ``scaled_dot_product_attention`` takes on CUDA: ``flash``, ``efficient`` or ``math``.

    The order and the conditions are those of PyTorch's ``sdp_utils.cpp``, without cuDNN's attention: flash attention
    takes 16-bit types, heads of at most 256 and no mask; memory-efficient attention takes fp32 too, a mask, and heads
    that fill 16 bytes evenly; everything else is composed of products and a softmax.

    Args:
        query: (batch, heads, length, head dimension).
        key: likewise; its heads may be fewer when ``grouped``.
        mask: what is added to or masked from the scores, None without one.
        flash: the device has flash attention (compute capability 8.0).
        grouped: heads of the query share those of the key.
    """
    if query.dim() != 4:
        return "math"
    head, narrow = query.shape[-1], query.dtype in (torch.float16, torch.bfloat16)
    if flash and narrow and mask is None and head <= 256:
        return "flash"
    aligned = head % (16 // query.element_size()) == 0
    if aligned and not grouped and (query.dtype == torch.float32 or narrow):
        return "efficient"
    return "math"


def _dropout(input: Any, p: float, train: bool) -> Any:
    if not train or p == 0 or input.numel() == 0:
        return input
    if p == 1:
        return input * torch.zeros((), dtype=input.dtype)
    return torch.native_dropout(input, p, True)[0]


def _attention(
    flash: bool,
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    grouped = enable_gqa and query.shape[-3] != key.shape[-3]
    kernel = attention_kernel(query, key, attn_mask, flash=flash, grouped=grouped)
    if kernel == "math":
        return _aten._scaled_dot_product_attention_math(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=grouped
        )[0]
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    if kernel == "flash":
        return _flash(query, key, value, dropout_p, is_causal, scale)
    bias = _bias(attn_mask, query, key)
    needs_gradient = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (query, key, value))
    return _aten._scaled_dot_product_efficient_attention(
        query, key, value, bias, needs_gradient, dropout_p, is_causal, scale=scale
    )[0]


def _flash(query: Any, key: Any, value: Any, dropout_p: float, is_causal: bool, scale: float) -> Any:
    """Flash attention pads heads to a multiple of eight and cuts the result."""
    head = query.shape[-1]
    short = -head % 8
    if short:
        query, key, value = (functional.pad(tensor, (0, short)) for tensor in (query, key, value))
    output = _aten._scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, False, scale=scale)[0]
    return output[..., :head] if short else output


def _bias(mask: Any, query: Any, key: Any) -> Any:
    """A mask as memory-efficient attention takes it: additive, in the type of the query, expanded, rows aligned."""
    if mask is None:
        return None
    if mask.dtype == torch.bool:
        zero, masked = (torch.scalar_tensor(fill, dtype=query.dtype) for fill in (0.0, -math.inf))
        mask = torch.where(mask, zero, masked)
    width = mask.shape[-1]
    short = -width % _BIAS_ALIGNMENT
    if short:
        mask = functional.pad(mask, (0, short))[..., :width]
    return mask.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
