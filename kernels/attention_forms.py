"""The forms in which the attention kernels are launched, for ahead-of-time compilation.

They have no hot loop that is counted: what they load goes to matrix units, and how often depends on the lengths.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from .attention_launch import TILES, constants_of, forward_form, key_form, query_form
from .variants import KernelVariant

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_FORMS = {
    "attention_kernel": forward_form,
    "attention_query_kernel": query_form,
    "attention_key_kernel": key_form,
}
_COUNTS = ("heads", "queries", "keys", "offset", "span", "threshold")
#: Tensors that each kernel is given, besides those that all are given.
_TENSORS = {
    "attention_kernel": ("out", "statistics"),
    "attention_query_kernel": ("out", "statistics", "grad", "means", "grad_query"),
    "attention_key_kernel": ("statistics", "grad", "means", "grad_key", "grad_value", "diagonals"),
}
_ALWAYS_FP32 = frozenset({"statistics", "means", "diagonals"})


def variant(
    kernel: str, dtype: str, *, mask: str | None = "u8", rows: bool = False, bias: bool = True, dropout: bool = True,
    causal: bool = False, dim: int = 64,
) -> KernelVariant:  # fmt: skip
    """A form of one of the three kernels.

    Args:
        kernel: its name.
        dtype: Triton type of queries, keys and values.
        mask: Triton type of the mask, ``"u8"`` for a boolean one, ``None`` for none.
        rows: whether queries have masks of their own.
        bias: whether there is a position bias, which in the backward pass has a gradient.
        dropout: whether there is dropout.
        causal: whether keys after a query are left out.
        dim: width of a head.
    """
    form = _FORMS[kernel](_DTYPES[dtype])
    constants = constants_of(form, dim, causal=causal, mask_rows=rows)
    strided = ("query", "key", "value", *(("grad",) if "grad" in _TENSORS[kernel] else ()))
    strides = [f"{name}_{step}" for name in strided for step in "bhr"] + [f"mask_{step}" for step in "bhq"]
    signature = dict.fromkeys(("query", "key", "value"), f"*{dtype}")
    signature |= {name: "*fp32" if name in _ALWAYS_FP32 else f"*{dtype}" for name in _TENSORS[kernel]}
    signature |= {"bias": "*fp32", "mask": f"*{mask}", "seed": "*i64", "scale": "fp32"}
    signature |= dict.fromkeys([*_COUNTS, *strides], "i32")
    absent = {"bias": not bias, "diagonals": not bias, "mask": mask is None, "seed": not dropout}
    constants |= {name: None for name, missing in absent.items() if missing and name in signature}
    constants["mask_k"] = 1  # which the launch tells the compiler as well
    return KernelVariant(
        kernel, _title(dtype, mask, rows, bias, dropout, causal, dim), "attention_kernels",
        signature | dict.fromkeys(constants, "constexpr"), constants, aligned=tuple(strides), warps=form.warps,
        stages=form.stages,
    )  # fmt: skip


def _title(dtype: str, mask: str | None, rows: bool, bias: bool, dropout: bool, causal: bool, dim: int) -> str:
    kind = "boolean mask" if mask == "u8" else "mask"
    parts = [f"{dtype} x {dim}", "bias" if bias else "", "" if mask is None else f"{kind} per query" if rows else kind]
    return ", ".join(part for part in (*parts, "causal" if causal else "", "dropout" if dropout else "") if part)


def variants() -> Iterator[KernelVariant]:
    """The attentions of a T5: encoder and cross-attention with padding, the decoder's own with a causal mask."""
    for kernel in _FORMS:
        yield variant(kernel, "bf16")
        yield variant(kernel, "bf16", mask="fp32", rows=True)
        yield variant(kernel, "bf16", mask=None, causal=True)
        yield variant(kernel, "bf16", bias=False)
        yield variant(kernel, "fp32")
    signature = {
        "diagonals": "*fp32", "buckets": "*i32", "grad_table": "*fp32", "heads": "i32", "key_tiles": "i32",
        "query_tiles": "i32", "offset": "i32", "span": "i32", "SIDE": "constexpr", "TILES": "constexpr",
    }  # fmt: skip
    constants = {"SIDE": key_form(torch.bfloat16).columns, "TILES": TILES}
    yield KernelVariant("bucket_sums_kernel", "fp32", "attention_kernels", signature, constants)
