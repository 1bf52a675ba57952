"""The forms in which the kernels of T5's layer norm are launched, for ahead-of-time compilation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .rms_norm_launch import (
    BACKWARD_ACCESSES,
    FORWARD_ACCESSES,
    PART_COLUMNS,
    PART_WARPS,
    PARTS,
    constants_of,
    launch_form,
)
from .variants import KernelVariant

_ITEMSIZE = {"fp32": 4, "bf16": 2, "fp16": 2}

#: Rows and multiprocessors that leave the layout to the length of a row.
_MANY_ROWS, _PROCESSORS = 1 << 20, 16


def forward_variant(
    dtype: str, columns: int = 768, *, add: bool = False, dropout: bool = False, x_dtype: str | None = None
) -> KernelVariant:
    """The norm; with ``x_dtype`` for ``x``, as autocast has it. Its bytes are those of the tensors that it moves."""
    given = {
        "residual": dtype if add else None, "x": x_dtype or dtype, "seed": "i64" if dropout else None,
        "total": dtype if add else None, "normed": dtype, "weight": dtype, "rstd": "fp32",
    }  # fmt: skip
    title = _title(dtype, columns, add, dropout, x_dtype)
    return _variant("rms_norm_kernel", title, given, ("residual", "x", "total", "normed"), columns, FORWARD_ACCESSES)


def backward_variant(
    dtype: str, columns: int = 768, *, add: bool = False, dropout: bool = False, x_dtype: str | None = None
) -> KernelVariant:
    """Its gradient, with that of the weight."""
    given = {
        "grad_total": dtype if add else None, "grad": dtype, "total": dtype, "seed": "i64" if dropout else None,
        "grad_residual": dtype, "grad_x": (x_dtype or dtype) if dropout else None, "weight": dtype, "rstd": "fp32",
        "parts": "fp32",
    }  # fmt: skip
    title = _title(dtype, columns, add, dropout, x_dtype)
    moved = ("grad_total", "grad", "total", "grad_residual", "grad_x")
    return _variant("rms_norm_backward_kernel", title, given, moved, columns, BACKWARD_ACCESSES)


def _title(dtype: str, columns: int, add: bool, dropout: bool, x_dtype: str | None) -> str:
    extras = (("sum", add), ("dropout", dropout), (f"{x_dtype} x", x_dtype is not None))
    return ", ".join([f"{dtype} x {columns}", *(text for text, wanted in extras if wanted)])


def _variant(
    kernel: str, title: str, given: dict[str, str | None], moved: tuple[str, ...], columns: int, accesses: int
) -> KernelVariant:
    sizes = [_ITEMSIZE[kind] for kind in (given[name] for name in moved) if kind]
    form = launch_form(_MANY_ROWS, columns, min(sizes), accesses, _PROCESSORS)
    constants: dict[str, Any] = constants_of(form) | {name: None for name, kind in given.items() if kind is None}
    signature = {name: f"*{kind}" for name, kind in given.items()} | {"rows": "i32", "columns": "i32"}
    signature |= {"eps": "fp32", "threshold": "i32", "scale": "fp32"} | dict.fromkeys(constants, "constexpr")
    return KernelVariant(
        kernel, title, "rms_norm_kernels", signature, constants, form.rows * form.width, float(sum(sizes)),
        per_line=True, aligned=("columns",), masked=True, warps=form.warps,
    )  # fmt: skip


def variants() -> Iterator[KernelVariant]:
    """The forms of T5's layers, in the widths of its sizes, trained and evaluated."""
    yield forward_variant("bf16")
    yield forward_variant("bf16", add=True, dropout=True)
    yield forward_variant("fp32", add=True, dropout=True)
    yield forward_variant("fp32", add=True, dropout=True, x_dtype="bf16")
    yield backward_variant("bf16")
    yield backward_variant("bf16", add=True, dropout=True)
    yield backward_variant("fp32", add=True, dropout=True)
    yield backward_variant("fp32", add=True, dropout=True, x_dtype="bf16")
    yield backward_variant("bf16", 512, add=True)
    constants = {"COUNT": PARTS, "WIDTH": PART_COLUMNS}
    signature = {"parts": "*fp32", "result": "*bf16", "count": "i32", "columns": "i32"}
    yield KernelVariant(
        "add_parts_kernel", "bf16", "rms_norm_kernels", signature | dict.fromkeys(constants, "constexpr"), constants,
        PARTS * PART_COLUMNS, 4.0, per_line=True, aligned=("columns",), masked=True, warps=PART_WARPS,
    )  # fmt: skip
