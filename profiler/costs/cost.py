"""What an op costs, and the small helpers every cost rule is made of.

Bytes are *compulsory traffic*: each distinct byte an op must read is counted once, each byte it must write once, as if
caches were perfect inside the op and empty between ops. Views, expanded tensors and the same tensor given twice are
counted by the memory they touch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ..ops import ITEMSIZE, OpRecord, TensorMeta

FLOATING = frozenset({"fp64", "fp32", "tf32", "fp16", "bf16", "fp8", "complex64", "complex128"})

#: Types that matrix units multiply; fp32 runs on vector units unless TF32 is allowed.
MATRIX_DTYPES = frozenset({"tf32", "fp16", "bf16", "fp8", "int8"})


class Cost(NamedTuple):
    """Cost of one op: FLOPs, bytes, and the unit and type of the arithmetic.

    ``unit`` is ``tensor`` (matrix units), ``vector`` or ``none``; ``estimated`` marks rules that depend on the data.
    """

    flops: float
    bytes_read: float
    bytes_written: float
    unit: str
    dtype: str
    estimated: bool = False

    @property
    def bytes(self) -> float:
        """Bytes read and written."""
        return self.bytes_read + self.bytes_written


class UnpriceableError(Exception):
    """The record lacks the metadata that its rule needs; :func:`~edgeroof.profiler.costs.price` answers ``None``."""


def tensor(record: OpRecord, position: int) -> TensorMeta:
    """Argument ``position`` of the op, which must be a tensor with a known shape.

    Raises:
        UnpriceableError: there is no such tensor.
    """
    value = record.args[position] if position < len(record.args) else None
    if not isinstance(value, TensorMeta):
        raise UnpriceableError(f"{record.name}: argument {position} has no recorded shape")
    return value


def output(record: OpRecord, position: int = 0) -> TensorMeta:
    """Output ``position`` of the op.

    Raises:
        UnpriceableError: the output is unknown.
    """
    if position >= len(record.outputs):
        raise UnpriceableError(f"{record.name}: output {position} is unknown")
    return record.outputs[position]


def scalar(record: OpRecord, position: int) -> object:
    """Plain value of argument ``position``, ``None`` when absent."""
    return record.args[position] if position < len(record.args) else None


def flatten(values: Iterable[object]) -> Iterator[TensorMeta]:
    """Every tensor among ``values``, looking into tensor lists."""
    for value in values:
        if isinstance(value, TensorMeta):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from flatten(value)


def footprint(meta: TensorMeta) -> tuple[object, ...]:
    """Key that is equal for tensors that touch the same memory, however they are transposed or reshaped.

    Dimensions are sorted by stride, expanded ones dropped, and neighbours that are contiguous are merged.
    """
    if meta.stride is None:
        return (meta.storage, meta.offset, meta.numel)
    merged: list[tuple[int, int]] = []
    for step, size in sorted((step, size) for size, step in zip(meta.shape, meta.stride) if size != 1 and step):
        if merged and merged[-1][0] * merged[-1][1] == step:
            merged[-1] = (merged[-1][0], merged[-1][1] * size)
        else:
            merged.append((step, size))
    return (meta.storage, meta.offset, *merged)


def touched_bytes(metas: Iterable[TensorMeta]) -> int:
    """Bytes of memory that one pass over all ``metas`` touches, the same memory counted once."""
    seen: set[tuple[object, ...]] = set()
    total = 0
    for meta in metas:
        if meta.storage:
            key = footprint(meta)
            if key in seen:
                continue
            seen.add(key)
        total += meta.nbytes
    return total


def is_in_place(record: OpRecord) -> bool:
    """Whether the op's name says that it changes its first argument (``add_``, ``_foreach_mul_``)."""
    return record.name.endswith("_") and not record.name.endswith("__")


def bytes_written(record: OpRecord) -> int:
    """Bytes of everything the op writes: what it mutates, or else its outputs."""
    mutated = list(flatten(record.args[i] for i in record.mutated if i < len(record.args)))
    if is_in_place(record):
        if not mutated:
            mutated = list(flatten(record.args[:1]))
        return touched_bytes(mutated)
    written = mutated + list(record.outputs)
    if not written:
        raise UnpriceableError(f"{record.name}: outputs are unknown")
    return touched_bytes(written)


def bytes_read(record: OpRecord, ignored: Sequence[int] = ()) -> int:
    """Bytes of every tensor input; an ``out=`` argument is written, not read. Positions in ``ignored`` don't count."""
    skipped = {*ignored, *(() if is_in_place(record) else record.mutated)}
    return touched_bytes(flatten(arg for i, arg in enumerate(record.args) if i not in skipped))


def arithmetic_dtype(*metas: TensorMeta) -> str:
    """Type the op computes in: the widest floating type among ``metas``, else the first one's.

    Next to tensors with dimensions, 0-dimensional ones are scalars, whose type does not widen the arithmetic.
    """
    sized = [meta for meta in metas if meta.shape and meta.dtype in FLOATING]
    floating = [meta.dtype for meta in sized or metas if meta.dtype in FLOATING]
    if floating:
        return max(floating, key=lambda dtype: ITEMSIZE[dtype])
    return metas[0].dtype if metas else "fp32"


def matrix_unit(dtype: str) -> str:
    """Unit that multiplies matrices of ``dtype``."""
    return "tensor" if dtype in MATRIX_DTYPES else "vector"
