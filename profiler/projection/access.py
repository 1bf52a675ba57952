"""What strided reads cost: memory comes in sectors, of which a kernel may need only one element.

An elementwise kernel walks along its output. An input whose elements lie apart in that direction (a transposed one,
such as T5's position bias, which is stored with its heads innermost) brings a sector for each element, and its
neighbours are gone from L2 by the time they are wanted, unless all of it fits there.
"""

from __future__ import annotations

from ..costs.cost import flatten
from ..ops import ITEMSIZE, OpRecord, TensorMeta

_SECTOR = 32


def overfetched_bytes(record: OpRecord, l2_bytes: float) -> float:
    """Bytes that an elementwise op fetches beyond those it needs."""
    result = record.outputs[0] if record.outputs else next(flatten(record.args[:1]), None)
    if result is None or result.stride is None:
        return 0.0
    inner = _innermost(result)
    return sum(_overfetched(meta, result, inner, l2_bytes) for meta in flatten(record.args))


def _innermost(result: TensorMeta) -> int | None:
    """Counted from the last dimension: the one along which the output is contiguous."""
    assert result.stride is not None
    dimensions = [i for i, (size, step) in enumerate(zip(result.shape, result.stride)) if size > 1 and step == 1]
    return len(result.shape) - dimensions[0] if dimensions else None


def _overfetched(meta: TensorMeta, result: TensorMeta, inner: int | None, l2_bytes: float) -> float:
    if inner is None or meta.stride is None or inner > len(meta.shape):
        return 0.0
    step = meta.stride[-inner]
    if step <= 1 or meta.shape[-inner] != result.shape[-inner]:
        return 0.0
    item = ITEMSIZE.get(meta.dtype, 4)
    factor = min(_SECTOR / item, float(step))
    missing = meta.nbytes / (meta.nbytes + max(l2_bytes, 1.0))
    return (factor - 1.0) * meta.nbytes * missing
