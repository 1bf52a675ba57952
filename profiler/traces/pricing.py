"""Prices of the dispatched ops of a trace, each distinct combination of op and inputs priced once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from .. import costs
from ..costs import Cost
from ..ops import OpRecord, TensorMeta
from .inference import describe, dtype_of_kernel, infer_record
from .trace import Trace


@dataclass(frozen=True, slots=True)
class Price:
    """What an op costs and how it is called in tables."""

    op: str
    cost: Cost | None
    provenance: str
    shapes: str = ""
    inputs: str = ""
    outputs: str = ""
    record: int = -1  # position among the records of another pass
    lost_list: bool = False  # unpriced because the trace lacks shapes or types of a tensor list


@dataclass(slots=True)
class Pricer:
    """Prices events of one trace, from records where there are any, else from what the trace recorded."""

    trace: Trace
    records: Sequence[OpRecord]
    matches: Mapping[int, int]
    manifest: Sequence[TensorMeta]
    prices: list[Price] = field(default_factory=list)
    _of_signature: dict[tuple[int, int, str | None], int] = field(default_factory=dict)
    _of_kernel: dict[tuple[int, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.prices.extend(_price_of_record(record, position) for position, record in enumerate(self.records))

    def price(self, event: int, kernel_name: int = -1) -> int:
        """Index into :attr:`prices` of what the op event costs.

        Args:
            event: index into ``trace.host``.
            kernel_name: index into ``trace.names`` of the op's main kernel, -1 on a CPU. It tells fp32 products in TF32
                apart, and the type of tensor lists.
        """
        base = self.matches[event] if event in self.matches else self._inferred(event, kernel_name)
        if kernel_name < 0:
            return base
        key = (base, kernel_name)
        if key not in self._of_kernel:
            self._of_kernel[key] = self._for_kernel(base, self.trace.names[kernel_name])
        return self._of_kernel[key]

    def is_final(self, prices: np.ndarray) -> np.ndarray:
        """Whether ops with these prices keep their kernels: they have a cost, or a record that has none to give."""
        final = np.array([price.cost is not None or price.record >= 0 for price in self.prices], bool)
        return final[prices] if len(final) else np.zeros(len(prices), bool)

    def _inferred(self, event: int, kernel_name: int) -> int:
        trace = self.trace
        name, signature = int(trace.host.name[event]), int(trace.host.signature[event])
        kernel = trace.names[kernel_name] if kernel_name >= 0 else ""
        hint = dtype_of_kernel(kernel) if b"List" in trace.signatures[signature].types else None
        key = (name, signature, hint)
        if key not in self._of_signature:
            self._of_signature[key] = self._add(self._price(name, signature, kernel))
        return self._of_signature[key]

    def _price(self, name_id: int, signature_id: int, kernel: str) -> Price:
        name, signature = self.trace.names[name_id], self.trace.signatures[signature_id]
        record = infer_record(name, signature, kernel_name=kernel, manifest=self.manifest) if signature_id else None
        if record is None:
            return Price(name, None, "unknown")
        price = _price_of_record(record, -1)
        lost = price.cost is None and costs.is_priced(name) and b"TensorList" in signature.types
        return replace(price, lost_list=True) if lost else price

    def _for_kernel(self, base: int, kernel: str) -> int:
        price = self.prices[base]
        if price.cost is None:
            return base
        cost = costs.with_kernel_dtype(price.cost, kernel)
        if cost == price.cost:
            return base
        if price.record >= 0:  # the row of the ops table is the record's, so it changes with it
            self.prices[base] = replace(price, cost=cost)
            return base
        return self._add(replace(price, cost=cost))

    def _add(self, price: Price) -> int:
        self.prices.append(price)
        return len(self.prices) - 1


def _price_of_record(record: OpRecord, position: int) -> Price:
    cost = costs.price(record)
    provenance = "unknown" if cost is None else "estimated" if cost.estimated else record.provenance
    return Price(
        op=record.name,
        cost=cost,
        provenance=provenance,
        shapes=describe(record.args, types=False),
        inputs=describe(record.args),
        outputs=describe(record.outputs),
        record=position,
    )
