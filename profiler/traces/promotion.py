"""Torch's rules for the type and the shape of what several tensors make together."""

from __future__ import annotations

from collections.abc import Sequence

from ..ops import TensorMeta

#: Numbers of ``c10::ScalarType``, as the ``dtype`` arguments of ops are recorded.
SCALAR_TYPES = {
    0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "fp16", 6: "fp32", 7: "fp64",
    9: "complex64", 10: "complex128", 11: "bool", 15: "bf16", 23: "fp8", 24: "fp8",
}  # fmt: skip
FLOATING = ("fp8", "bf16", "fp16", "fp32", "fp64", "complex64", "complex128")
INTEGERS = ("bool", "uint8", "int8", "int16", "int32", "int64")


def promote(metas: Sequence[TensorMeta]) -> str:
    """Result type of tensors, by torch's rules: 0-dimensional ones only count where their kind is a higher one.

    Raises:
        ValueError: there is no tensor of a known type.
    """
    sized = [meta.dtype for meta in metas if meta.shape]
    scalars = [meta.dtype for meta in metas if not meta.shape]
    best = _widest(sized)
    highest = _widest(scalars)
    if best is None or (highest in FLOATING and best in INTEGERS):
        best = highest if best is None or highest is None else "fp32"
    if best is None:
        raise ValueError("no tensor of a known type")
    return best


def _widest(dtypes: Sequence[str]) -> str | None:
    floating = [dtype for dtype in dtypes if dtype in FLOATING]
    if {"fp16", "bf16"} <= set(floating):
        floating.append("fp32")
    if floating:
        return max(floating, key=FLOATING.index)
    integers = [dtype for dtype in dtypes if dtype in INTEGERS]
    return max(integers, key=INTEGERS.index) if integers else None


def broadcast(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Common shape of tensors of these shapes.

    Raises:
        ValueError: they do not fit together.
    """
    rank = max(map(len, shapes))
    result = []
    for sizes in zip(*((1,) * (rank - len(shape)) + shape for shape in shapes)):
        size = next((size for size in sizes if size != 1), 1)
        if any(other not in (1, size) for other in sizes):
            raise ValueError("shapes do not broadcast")
        result.append(size)
    return tuple(result)
