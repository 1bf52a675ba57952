"""Ops that move data without arithmetic: copies, fills, random fills, gathers, scatters, concatenation.

A gather reads only the rows it is asked for, at most the whole table; a scatter writes only the rows it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from math import prod

from ..ops import ITEMSIZE, OpRecord, TensorMeta
from .cost import (
    Cost,
    UnpriceableError,
    bytes_read,
    bytes_written,
    flatten,
    is_in_place,
    output,
    scalar,
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


def _put(record: OpRecord, elements: int, accumulates: bool, estimated: bool = False) -> Cost:
    """Writes ``elements`` of the target, after reading them where it accumulates; reads indices and values.

    Out of place, the rest of the target is copied as well.
    """
    target = tensor(record, 0)
    moved = min(elements * ITEMSIZE.get(target.dtype, 4), target.nbytes)
    read = touched_bytes(flatten(arg for i, arg in enumerate(record.args) if i and i not in record.mutated))
    if is_in_place(record):
        read, written = read + (moved if accumulates else 0), moved
    else:
        read, written = read + target.nbytes, target.nbytes
    flops = float(elements) if accumulates else 0.0
    return Cost(flops, read, written, "vector" if flops else "none", target.dtype, estimated)


def _scatter(counted: int, accumulates: bool) -> Callable[[OpRecord], Cost]:
    """``scatter(self, dim, index, source)``: as many elements as argument ``counted`` has."""

    def price(record: OpRecord) -> Cost:
        return _put(record, tensor(record, counted).numel, accumulates)

    return price


def _index_fill(record: OpRecord) -> Cost:
    """``index_fill(self, dim, index, value)``: whole slices of the target."""
    target, index, dim = tensor(record, 0), tensor(record, 2), scalar(record, 1)
    if not isinstance(dim, int) or not -len(target.shape) <= dim < len(target.shape):
        raise UnpriceableError(f"{record.name}: the dimension is unknown")
    rows = target.shape[dim]
    return _put(record, index.numel * target.numel // rows if rows else 0, accumulates=False)


def _masked_scatter(record: OpRecord) -> Cost:
    """``masked_scatter(self, mask, source)``: how many elements the mask picks is not known, at most the source's."""
    return _put(record, tensor(record, 2).numel, accumulates=False, estimated=True)


def _index_put(record: OpRecord) -> Cost:
    """``index_put(self, indices, values, accumulate)``: values may be broadcast, ``None`` takes a whole dimension."""
    target, values = tensor(record, 0), tensor(record, 2)
    listed = scalar(record, 1)
    indices = listed if isinstance(listed, (tuple, list)) else (listed,)
    given = list(flatten(indices))
    by_mask = not given or any(index.dtype in ("bool", "uint8") for index in given)
    elements = values.numel if by_mask else _indexed_elements(target, indices, given)
    return _put(record, elements, accumulates=scalar(record, 3) in (True, "True"), estimated=by_mask)


def _indexed_elements(target: TensorMeta, indices: Sequence[object], given: Sequence[TensorMeta]) -> int:
    """Positions that integer indices name together, times the dimensions that none of them indexes."""
    together = zip_longest(*(reversed(index.shape) for index in given), fillvalue=1)
    positions = prod(0 if 0 in sizes else max(sizes) for sizes in together)
    whole = (size for i, size in enumerate(target.shape) if i >= len(indices) or indices[i] is None)
    return positions * prod(whole)


def _embedding_backward(record: OpRecord) -> Cost:
    """Zeroes the whole gradient of the table, then adds one row per index.

    Reads the incoming gradient, the indices and the rows it adds to; writes the table and, again, those rows.
    """
    grad, indices, result = tensor(record, 0), tensor(record, 1), output(record)
    rows = min(grad.numel * ITEMSIZE.get(result.dtype, 4), result.nbytes)
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
    "expand_copy", "permute_copy",
)  # fmt: skip
_FILLS = (
    "zeros", "ones", "full", "arange", "zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full",
    "zero_", "fill_", "eye", "scalar_tensor", "rand", "randn", "randint", "rand_like", "randn_like", "randint_like",
    "randperm", "uniform_", "normal_", "bernoulli_", "random_", "exponential_", "log_normal_", "geometric_", "cauchy_",
    "_foreach_zero_", "fill", "zero", "linspace", "tril_indices", "triu_indices",
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
        f"aten::scatter{_suffix}": _scatter(2, accumulates=False),
        f"aten::scatter_add{_suffix}": _scatter(2, accumulates=True),
        f"aten::scatter_reduce{_suffix}": _scatter(2, accumulates=True),
        f"aten::index_add{_suffix}": _scatter(3, accumulates=True),
        f"aten::index_copy{_suffix}": _scatter(3, accumulates=False),
        f"aten::index_fill{_suffix}": _index_fill,
        f"aten::index_put{_suffix}": _index_put,
        f"aten::_index_put_impl{_suffix}": _index_put,
        f"aten::masked_scatter{_suffix}": _masked_scatter,
    }
