"""From an op record to the kernel it launches: what kind it is, and the sizes its time depends on."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from ..costs import Cost
from ..ops import ITEMSIZE, OpRecord, TensorMeta

#: Position of the first factor of each op that is one matrix product.
_FIRST_FACTOR = {
    "aten::mm": 0, "aten::bmm": 0, "aten::_scaled_mm": 0, "aten::_int_mm": 0, "aten::addmm": 1, "aten::addmm_": 1,
    "aten::_addmm_activation": 1, "aten::baddbmm": 1, "aten::baddbmm_": 1,
}  # fmt: skip

_SOFTMAX = frozenset({"aten::_softmax", "aten::_log_softmax", "aten::_safe_softmax"})
_SOFTMAX_BACKWARD = frozenset({"aten::_softmax_backward_data", "aten::_log_softmax_backward_data"})
_NORMS = frozenset({"aten::native_layer_norm", "aten::_fused_rms_norm", "aten::rms_norm"})
_NORMS_BACKWARD = frozenset({"aten::native_layer_norm_backward", "aten::_fused_rms_norm_backward"})

#: Ops whose answer the host waits for.
SYNCHRONISING = frozenset({"aten::_local_scalar_dense", "aten::nonzero", "aten::item", "aten::equal", "aten::_unique2"})

#: Elements that one launch of a fused or foreach optimizer covers: 320 blocks of 65,536 (before CUDA 13).
_ELEMENTS_PER_LAUNCH = 320 * 65_536


@dataclass(frozen=True)
class Work:
    """One op as its kernels see it.

    Attributes:
        kind: ``product`` (matrix product), ``compute`` (other arithmetic such as fused attention), ``norm``,
            ``norm_backward``, ``softmax``, ``softmax_backward``, or ``stream``.
        shape: (batch, m, n, k, operands contiguous along k) of a product, (rows, length) of a row-wise kernel, else
            empty.
        item: bytes of an element.
        dtype: type of the arithmetic.
        unit: ``tensor``, ``vector`` or ``none``.
        batched: whether a product comes from a batched op.
        launches: kernels on the device.
    """

    kind: str
    shape: tuple[int, ...] = ()
    item: int = 4
    dtype: str = "fp32"
    unit: str = "none"
    batched: bool = False
    launches: int = 1


def work_of(record: OpRecord, cost: Cost) -> Work:
    """Classify one op; whatever is not known better streams its bytes."""
    if record.name in _FIRST_FACTOR:
        return _product(record, cost) or Work("compute", dtype=cost.dtype, unit=cost.unit)
    if record.name in _NORMS | _NORMS_BACKWARD:
        backward = record.name in _NORMS_BACKWARD
        kind, launches = ("norm_backward", 3) if backward else ("norm", 1)
        return _rows(record, kind, _norm_length(record, backward), launches)
    if record.name in _SOFTMAX | _SOFTMAX_BACKWARD:
        kind = "softmax_backward" if record.name in _SOFTMAX_BACKWARD else "softmax"
        return _rows(record, kind, _softmax_length(record), 1)
    if cost.unit != "none" and cost.flops and ("attention" in record.name or "convolution" in record.name):
        return Work("compute", dtype=cost.dtype, unit=cost.unit)
    return Work("stream", dtype=cost.dtype, unit=cost.unit, launches=_launches(record))


def _product(record: OpRecord, cost: Cost) -> Work | None:
    first = _FIRST_FACTOR[record.name]
    left, right = record.args[first], record.args[first + 1]
    if not isinstance(left, TensorMeta) or not isinstance(right, TensorMeta) or len(left.shape) != len(right.shape):
        return None
    batch = prod(left.shape[:-2])
    m, k = left.shape[-2:]
    n = right.shape[-1]
    if not min(batch, m, n, k):
        return None
    item = ITEMSIZE.get(left.dtype, 4)
    along_inner = int(_step(left, -1) == 1) + int(_step(right, -2) == 1)
    return Work("product", (batch, m, n, k, along_inner), item, cost.dtype, cost.unit, batched=len(left.shape) == 3)


def _step(meta: TensorMeta, dimension: int) -> int:
    """Elements from one entry of a dimension to the next; a contiguous tensor where strides are unknown."""
    if meta.stride is None:
        return 1 if dimension == -1 else meta.shape[-1]
    return meta.stride[dimension]


def _rows(record: OpRecord, kind: str, length: int, launches: int) -> Work:
    source = record.args[0]
    if not isinstance(source, TensorMeta) or not length or not source.numel:
        return Work("stream")
    rows = max(1, source.numel // length)
    return Work(kind, (rows, length), ITEMSIZE.get(source.dtype, 4), source.dtype, "vector", launches=launches)


def _norm_length(record: OpRecord, backward: bool) -> int:
    shape = record.args[2 if backward else 1]
    return prod(size for size in shape if isinstance(size, int)) if isinstance(shape, (tuple, list)) else 0


def _softmax_length(record: OpRecord) -> int:
    source = record.args[0]
    dimension = next((value for value in record.args[1:3] if isinstance(value, int)), -1)
    if not isinstance(source, TensorMeta) or not source.shape:
        return 0
    return source.shape[dimension] if -len(source.shape) <= dimension < len(source.shape) else 0


def _launches(record: OpRecord) -> int:
    """Kernels of an op: one, but as many as its lists of tensors fill for a foreach or fused optimizer."""
    if "_foreach_" not in record.name and "_fused_adam" not in record.name and "_fused_sgd" not in record.name:
        return 1
    tensors = record.args[0] if record.args and isinstance(record.args[0], (tuple, list)) else ()
    elements = sum(meta.numel for meta in tensors if isinstance(meta, TensorMeta))
    return max(1, -(-elements // _ELEMENTS_PER_LAUNCH))
