"""FLOPs and bytes of an op: one table from op name to a small pure function of its record.

To add an op, write its rule in the module it belongs to (or register one at run time with :func:`register`); see
``docs/adding-an-op-cost.md``.
"""

from __future__ import annotations

from collections.abc import Callable

from ..ops import OpRecord
from . import matmul, movement, optimizer, pointwise, reduction
from .cost import Cost, UnpriceableError

__all__ = ["METADATA_OPS", "Cost", "is_metadata", "is_priced", "price", "register", "with_kernel_dtype"]

Rule = Callable[[OpRecord], Cost]

_RULES: dict[str, Rule] = {
    **pointwise.RULES,
    **movement.RULES,
    **reduction.RULES,
    **matmul.RULES,
    **optimizer.RULES,
}

#: Ops that only make or change tensor metadata, or reserve memory; no kernel runs.
METADATA_OPS: frozenset[str] = frozenset(
    f"aten::{name}"
    for name in (
        "view", "_unsafe_view", "reshape", "_reshape_alias", "t", "transpose", "transpose_", "permute", "expand",
        "expand_as", "as_strided", "as_strided_", "slice", "select", "narrow", "squeeze", "squeeze_", "unsqueeze",
        "unsqueeze_", "flatten", "unflatten", "unfold", "split", "split_with_sizes", "chunk", "unbind", "diagonal",
        "alias", "detach", "detach_", "lift", "lift_fresh", "empty", "empty_like", "empty_strided", "new_empty",
        "new_empty_strided", "resize_", "set_", "view_as", "view_as_real", "view_as_complex", "movedim", "swapaxes",
        "T", "mT", "numpy_T", "resolve_conj", "resolve_neg", "conj", "_conj", "result_type", "size", "stride",
        "is_nonzero", "unsafe_split", "unsafe_chunk", "broadcast_tensors", "broadcast_to", "data",
        "requires_grad_", "_version", "output_nr", "is_same_size", "_has_compatible_shallow_copy_type", "record_stream",
        "is_pinned", "_nested_tensor_size", "sym_size", "sym_stride", "sym_numel", "real", "imag", "_neg_view",
        "to", "type_as", "contiguous", "dropout", "atleast_1d", "atleast_2d", "atleast_3d", "pin_memory",
    )
)  # fmt: skip


def register(name: str, rule: Rule) -> None:
    """Price the op ``name`` (such as ``mylib::fused_softmax``) with ``rule`` from now on."""
    _RULES[name] = rule


def is_metadata(name: str) -> bool:
    """Whether the op launches nothing."""
    return name in METADATA_OPS


def is_priced(name: str) -> bool:
    """Whether a rule for the op exists."""
    return name in _RULES


def price(record: OpRecord) -> Cost | None:
    """FLOPs and bytes of one op; ``None`` when there is no rule or the record lacks what the rule needs."""
    rule = _RULES.get(record.name)
    if rule is None:
        return None
    try:
        return rule(record)
    except UnpriceableError:
        return None


def with_kernel_dtype(cost: Cost, kernel_name: str) -> Cost:
    """The cost with its arithmetic as the kernel's name betrays it: fp32 and fp64 products may run on matrix units.

    cuBLAS, cuDNN and CUTLASS name TF32 kernels ``...tf32...`` or ``...s1688gemm...`` (fp16 and bf16 ones name their
    type); Hopper's ``nvjet`` kernels only know matrix units; memory-efficient attention computes fp32 products in three
    TF32 ones from sm_80 on (so its time at the roof is the least it can be). fp64 ones are called ``...d884gemm...``.
    """
    if not cost.flops:
        return cost
    name = kernel_name.lower()
    if cost.dtype == "fp32" and _runs_in_tf32(name):
        return cost._replace(dtype="tf32", unit="tensor")
    if cost.dtype == "fp64" and "d884gemm" in name:
        return cost._replace(unit="tensor")
    return cost


def _runs_in_tf32(name: str) -> bool:
    if "tf32" in name or "nvjet" in name:
        return True
    if "fmha_cutlass" in name:
        return "_f32_" in name and "sm80" in name
    return "s1688gemm" in name and "fp16" not in name and "bf16" not in name
