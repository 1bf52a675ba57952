"""Ops that move data without arithmetic: copies, fills, random fills, gathers, scatters, concatenation.

A gather reads only the rows it is asked for, at most the whole table; a scatter writes only the rows it is given.
"""

from __future__ import annotations

from collections.abc import Callable

from ..ops import ITEMSIZE, OpRecord, TensorMeta
from .cost import (
    Cost,
    UnpriceableError,
    bytes_read,
    bytes_written,
    flatten,
    is_in_place,
    output,
    tensor,
    touched_bytes,
)


def _move(read: float, written: float, dtype: str) -> Cost:
    return Cost(0.0, read, written, "none", dtype)


def _written_dtype(record: OpRecord) -> str:
    first = next(flatten(record.outputs), None) or next(flatten(record.args[:1]), None)
    return first.dtype if first else "fp32"


def _copy(record: OpRecord) -> Cost:
    """One read of the inputs, one write of the outputs: clone, cat, stack, _to_copy, flip, repeat."""
    return _move(bytes_read(record), bytes_written(record), _written_dtype(record))


def _copy_into(record: OpRecord) -> Cost:
    """``copy_(destination, source)``: the destination is only written."""
    destination, source = tensor(record, 0), tensor(record, 1)
    return _move(source.nbytes, destination.nbytes, destination.dtype)


def _foreach_copy(record: OpRecord) -> Cost:
    destinations, sources = list(flatten(record.args[:1])), list(flatten(record.args[1:2]))
    if not destinations or not sources:
        raise UnpriceableError(f"{record.name}: no shapes")
    return _move(touched_bytes(sources), touched_bytes(destinations), destinations[0].dtype)


def _fill(record: OpRecord) -> Cost:
    """Writes without reading: zeros, full, arange, ``zero_``, ``fill_``, random fills."""
    if is_in_place(record):
        targets = list(flatten(record.args[:1]))
        if not targets:
            raise UnpriceableError(f"{record.name}: no shapes")
        return _move(0.0, touched_bytes(targets), targets[0].dtype)
    return _move(0.0, bytes_written(record), _written_dtype(record))


def _gather(table: int, index: int) -> Callable[[OpRecord], Cost]:
    """``gather``-like: reads the index and, of the table, no more than what comes out."""

    def price(record: OpRecord) -> Cost:
        source, positions, result = tensor(record, table), tensor(record, index), output(record)
        read = min(result.nbytes, source.nbytes) + positions.nbytes
        return _move(read, result.nbytes, result.dtype)

    return price


def _index(record: OpRecord) -> Cost:
    """``index(self, indices)``: advanced indexing with a list of index tensors."""
    source, result = tensor(record, 0), output(record)
    indices = touched_bytes(flatten(record.args[1:2]))
    return _move(min(result.nbytes, source.nbytes) + indices, result.nbytes, result.dtype)


def _scatter(values: int, indices: int, accumulates: bool) -> Callable[[OpRecord], Cost]:
    """``scatter``-like: reads values and indices, writes as much; reads the target too where it accumulates.

    Out of place, the rest of the target is copied as well.
    """

    def price(record: OpRecord) -> Cost:
        target = tensor(record, 0)
        source = next(flatten(record.args[values : values + 1]), None)
        positions = list(flatten(record.args[indices : indices + 1]))
        if source is None and not positions:
            raise UnpriceableError(f"{record.name}: no shapes")
        itemsize = ITEMSIZE.get(target.dtype, 4)
        moved = min((source or positions[0]).distinct * itemsize, target.nbytes)
        read = touched_bytes(positions) + (source.nbytes if source else 0)
        if not is_in_place(record):
            return _move(read + target.nbytes, target.nbytes, target.dtype)
        return _move(read + (moved if accumulates else 0), moved, target.dtype)

    return price


def _embedding_backward(record: OpRecord) -> Cost:
    """Zeroes the whole gradient of the table, then adds one row per index.

    Reads the incoming gradient, the indices and the rows it adds to; writes the table and, again, those rows.
    """
    grad, indices, result = tensor(record, 0), tensor(record, 1), output(record)
    rows = min(grad.distinct * ITEMSIZE.get(result.dtype, 4), result.nbytes)
    return Cost(float(grad.numel), grad.nbytes + indices.nbytes + rows, result.nbytes + rows, "vector", grad.dtype)


def _item(record: OpRecord) -> Cost:
    """``.item()``: one element crosses to the host."""
    source: TensorMeta = tensor(record, 0)
    return _move(ITEMSIZE.get(source.dtype, 4), 0.0, source.dtype)


_COPIES = (
    "clone", "_to_copy", "cat", "_cat", "stack", "flip", "roll", "repeat", "constant_pad_nd",
    "pixel_shuffle", "copy", "channel_shuffle", "_foreach_clone", "split_with_sizes_copy", "slice_backward",
    "select_backward", "_reshape_copy", "diag_embed", "col2im", "im2col", "repeat_interleave", "_pin_memory", "one_hot",
    "view_copy", "slice_scatter", "select_scatter", "_pack_padded_sequence", "_conj_physical", "lift_fresh_copy",
)  # fmt: skip
_FILLS = (
    "zeros", "ones", "full", "arange", "zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full",
    "zero_", "fill_", "eye", "scalar_tensor", "rand", "randn", "randint", "rand_like", "randn_like", "randint_like",
    "randperm", "uniform_", "normal_", "bernoulli_", "random_", "exponential_", "log_normal_", "geometric_", "cauchy_",
    "_foreach_zero_", "linspace", "tril_indices", "triu_indices",
)  # fmt: skip

RULES: dict[str, Callable[[OpRecord], Cost]] = {f"aten::{name}": _copy for name in _COPIES}
RULES |= {f"aten::{name}": _fill for name in _FILLS}
RULES |= {
    "aten::bernoulli": _copy,
    "aten::copy_": _copy_into,
    "aten::_foreach_copy_": _foreach_copy,
    "aten::embedding": _gather(0, 1),
    "aten::index_select": _gather(0, 2),
    "aten::gather": _gather(0, 2),
    "aten::take": _gather(0, 1),
    "aten::masked_select": _copy,
    "aten::index": _index,
    "aten::embedding_dense_backward": _embedding_backward,
    "aten::_local_scalar_dense": _item,
    "aten::item": _item,
}
for _suffix in ("", "_"):
    RULES |= {
        f"aten::scatter{_suffix}": _scatter(3, 2, accumulates=False),
        f"aten::scatter_add{_suffix}": _scatter(3, 2, accumulates=True),
        f"aten::index_add{_suffix}": _scatter(3, 2, accumulates=True),
        f"aten::index_copy{_suffix}": _scatter(3, 2, accumulates=False),
        f"aten::index_fill{_suffix}": _scatter(3, 2, accumulates=False),
        f"aten::index_put{_suffix}": _scatter(2, 1, accumulates=False),
        f"aten::_index_put_impl{_suffix}": _scatter(2, 1, accumulates=False),
        f"aten::masked_scatter{_suffix}": _scatter(2, 1, accumulates=False),
    }
