"""The kernel table and the ops table as data frames, built from columns of codes without a loop over rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..ops import OpRecord
from ..schema import KERNEL_COLUMNS, OP_COLUMNS
from .context import AUTOGRAD_NAMES, PHASE_NAMES, Context
from .pricing import Price
from .trace import DEVICE_KINDS, Trace

if TYPE_CHECKING:
    import pandas as pd

#: Kinds of rows: those of device activities, and dispatched ops on a CPU.
KIND_NAMES = (*DEVICE_KINDS, "op")
CPU_KIND = KIND_NAMES.index("op")


@dataclass(slots=True)
class Rows:
    """Columns of the kernel table as codes; one entry per row, in order of start."""

    kind: np.ndarray  # int8, index into KIND_NAMES
    name: np.ndarray  # int32, index into Trace.names
    device: np.ndarray  # int32
    stream: np.ndarray  # int64
    start_ns: np.ndarray  # int64
    dur_ns: np.ndarray  # int64
    origin: np.ndarray  # int64, host event whose labels the row takes; -1 when unlinked
    linked: np.ndarray  # bool
    step: np.ndarray  # int32
    price: np.ndarray  # int64, index into the prices; -1 without an op
    share: np.ndarray  # float64, part of the op's cost that is booked on this row
    own_bytes: np.ndarray  # float64, bytes of a copy or fill that replace the op's cost; NaN elsewhere
    communication: np.ndarray  # bool, a collective by its name


def build_tables(
    trace: Trace, rows: Rows, labels: Context, prices: Sequence[Price], records: Sequence[OpRecord]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables.

    Args:
        trace: the trace the rows are from.
        rows: what was attributed.
        labels: of the host events.
        prices: of the ops; those of ``records`` come first.
        records: op records of another pass, if any.
    """
    import pandas as pd

    codes = _labels(rows, labels, prices, records)
    op_index, ops = _ops(rows, codes, prices, records)
    costs = _costs(trace, rows, prices)
    op_names, op_codes = _interned([price.op for price in prices])
    shapes, shape_codes = _interned([price.shapes for price in prices])
    columns: dict[str, Any] = {
        "step": rows.step,
        "name": _categorical(rows.name, trace.names),
        "kind": _categorical(rows.kind, KIND_NAMES),
        "device_index": rows.device,
        "stream": rows.stream,
        "start_us": rows.start_ns / 1000,
        "dur_us": rows.dur_ns / 1000,
        "phase": _categorical(codes.phase, PHASE_NAMES),
        "module": _categorical(codes.module, codes.modules),
        "op": _categorical(_pick(op_codes, rows.price), op_names),
        "op_index": op_index,
        "autograd": _categorical(codes.autograd, AUTOGRAD_NAMES),
        "shapes": _categorical(_pick(shape_codes, rows.price), shapes),
        **costs,
        "linked": rows.linked,
    }
    kernels = pd.DataFrame({name: columns[name] for name in KERNEL_COLUMNS}, copy=False)
    return kernels, ops


@dataclass(slots=True)
class _Codes:
    phase: np.ndarray
    autograd: np.ndarray
    module: np.ndarray
    modules: list[str]


def _labels(rows: Rows, labels: Context, prices: Sequence[Price], records: Sequence[OpRecord]) -> _Codes:
    """Labels of the launch's place in the trace; module and autograd side of the record where there is one."""
    linked = rows.origin >= 0
    at = np.maximum(rows.origin, 0)
    empty = np.zeros(len(at), np.int32)
    phase = np.where(linked, labels.phase[at], 0) if len(labels.phase) else empty
    autograd = np.where(linked, labels.autograd[at], 0) if len(labels.phase) else empty
    module = np.where(linked, labels.module[at], 0) if len(labels.phase) else empty
    phase = np.where(rows.communication, PHASE_NAMES.index("communication"), phase)
    autograd = np.where(rows.communication, 0, autograd)
    modules = dict(zip(labels.modules, range(len(labels.modules))))
    record = _pick(np.array([price.record for price in prices], np.int64), rows.price, missing=-1)
    if len(records):
        of_record = np.array([modules.setdefault(r.module, len(modules)) for r in records], np.int32)
        side = np.array([AUTOGRAD_NAMES.index(r.autograd) if r.autograd else 0 for r in records], np.int32)
        module = np.where(record >= 0, of_record[np.maximum(record, 0)], module)
        autograd = np.where(record >= 0, side[np.maximum(record, 0)], autograd)
    return _Codes(phase, autograd, module, list(modules))


def _costs(trace: Trace, rows: Rows, prices: Sequence[Price]) -> dict[str, Any]:
    known = [price.cost for price in prices]
    flops = np.array([np.nan if cost is None else cost.flops for cost in known])
    read = np.array([np.nan if cost is None else cost.bytes_read for cost in known])
    written = np.array([np.nan if cost is None else cost.bytes_written for cost in known])
    own = ~np.isnan(rows.own_bytes)
    is_host_source = np.array(["HtoD" in name for name in trace.names], bool)[rows.name]
    is_host_target = np.array(["DtoH" in name for name in trace.names], bool)[rows.name]
    is_fill = rows.kind == KIND_NAMES.index("memset")
    read_here = np.where(is_fill | is_host_source, 0.0, rows.own_bytes)
    written_here = np.where(is_host_target, 0.0, rows.own_bytes)
    dtypes, dtype_codes = _interned(["" if cost is None else cost.dtype for cost in known])
    units, unit_codes = _interned(["none" if cost is None else cost.unit for cost in known], first="none")
    sources, source_codes = _interned([price.provenance for price in prices], first="unknown")
    if "inferred" not in sources:
        sources.append("inferred")
    source = _pick(source_codes, rows.price)
    source = np.where(own & (source == sources.index("unknown")), sources.index("inferred"), source)
    return {
        "dtype": _categorical(np.where(own, 0, _pick(dtype_codes, rows.price)), dtypes),
        "unit": _categorical(np.where(own, 0, _pick(unit_codes, rows.price)), units),
        "flops": np.where(own, 0.0, _pick(flops, rows.price, np.nan) * rows.share),
        "bytes_read": np.where(own, read_here, _pick(read, rows.price, np.nan) * rows.share),
        "bytes_written": np.where(own, written_here, _pick(written, rows.price, np.nan) * rows.share),
        "provenance": _categorical(source, sources),
    }


def _ops(rows: Rows, codes: _Codes, prices: Sequence[Price], records: Sequence[OpRecord]) -> tuple[np.ndarray, Any]:
    """Row of the ops table of each kernel, and that table: the records, then each distinct op that was launched."""
    op_index = _pick(np.array([price.record for price in prices], np.int64), rows.price, missing=-1)
    inferred = np.flatnonzero((rows.price >= 0) & (op_index < 0))
    keys = np.stack([rows.price, codes.phase, codes.module, codes.autograd])[:, inferred].astype(np.int64)
    first, inverse = distinct_columns(keys)
    op_index[inferred] = len(records) + inverse
    places = keys[:, first]
    frame = _op_frame(
        prices=[*prices[: len(records)], *(prices[i] for i in places[0].tolist())],
        phases=[*(r.phase for r in records), *(PHASE_NAMES[i] for i in places[1].tolist())],
        modules=[*(r.module for r in records), *(codes.modules[i] for i in places[2].tolist())],
        autograd=[*(r.autograd or "none" for r in records), *(AUTOGRAD_NAMES[i] for i in places[3].tolist())],
    )
    return op_index, frame


def _op_frame(
    prices: Sequence[Price], phases: Sequence[str], modules: Sequence[str], autograd: Sequence[str]
) -> pd.DataFrame:
    import pandas as pd

    def category(text: Callable[[Price], str]) -> pd.Categorical:
        return _from_values([text(price) for price in prices])

    def number(value: str) -> np.ndarray:
        return np.array([np.nan if price.cost is None else getattr(price.cost, value) for price in prices], float)

    columns = {
        "op_index": np.arange(len(prices)),
        "op": category(lambda price: price.op),
        "phase": _from_values(phases),
        "module": _from_values(modules),
        "autograd": _from_values(autograd),
        "inputs": category(lambda price: price.inputs),
        "outputs": category(lambda price: price.outputs),
        "dtype": category(lambda price: price.cost.dtype if price.cost else ""),
        "unit": category(lambda price: price.cost.unit if price.cost else "none"),
        "flops": number("flops"),
        "bytes_read": number("bytes_read"),
        "bytes_written": number("bytes_written"),
        "provenance": category(lambda price: price.provenance),
    }
    return pd.DataFrame({name: columns[name] for name in OP_COLUMNS}, copy=False)


def distinct_columns(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First position of each distinct column of ``keys``, and for each column which of them it is."""
    combined = np.zeros(keys.shape[1], np.int64)
    for key in keys:
        combined = combined * (int(key.max(initial=0)) + 1) + key
    _, first, inverse = np.unique(combined, return_index=True, return_inverse=True)
    return first, inverse


def _pick(values: np.ndarray, index: np.ndarray, missing: Any = 0) -> np.ndarray:
    """``values[index]``, with ``missing`` where the index is -1."""
    if not len(values):
        return np.full(len(index), missing)
    return np.where(index >= 0, values[np.maximum(index, 0)], missing)


def _interned(values: Sequence[str], first: str = "") -> tuple[list[str], np.ndarray]:
    """Distinct values, ``first`` before all others, and the code of each value."""
    known = {first: 0}
    codes = np.array([known.setdefault(value, len(known)) for value in values], np.int64)
    return list(known), codes


def _from_values(values: Sequence[str]) -> pd.Categorical:
    known: dict[str, int] = {}
    codes = np.array([known.setdefault(value, len(known)) for value in values], np.int64)
    return _categorical(codes, list(known))


def _categorical(codes: np.ndarray, names: Sequence[str]) -> pd.Categorical:
    """Codes into ``names`` as a categorical of only those names that occur."""
    import pandas as pd

    used = np.bincount(codes, minlength=len(names)) > 0
    compact = np.cumsum(used) - 1
    return pd.Categorical.from_codes(compact[codes], [name for name, keep in zip(names, used.tolist()) if keep])
