"""Which bytes a kernel finds in L2, because a recent one touched them: a stack of storages in order of use."""

from __future__ import annotations

from collections import OrderedDict

from ..costs.cost import flatten
from ..ops import OpRecord, TensorMeta

#: Share of L2 that holds data between kernels; the rest goes to what streams past.
_KEPT = 0.7


class Residency:
    """The storages that L2 may hold, least recently used first."""

    def __init__(self, l2_bytes: float) -> None:
        self._room = _KEPT * l2_bytes
        self._held: OrderedDict[int, float] = OrderedDict()
        self._total = 0.0

    def read_hits(self, record: OpRecord) -> float:
        """Bytes that the op reads from L2; then note everything that it touches."""
        inputs = {meta.storage: meta for meta in flatten(record.args) if meta.storage}
        hits = sum(min(float(meta.nbytes), self._held.get(storage, 0.0)) for storage, meta in inputs.items())
        for meta in (*inputs.values(), *(meta for meta in record.outputs if meta.storage)):
            self._touch(meta)
        return hits

    def _touch(self, meta: TensorMeta) -> None:
        self._total -= self._held.pop(meta.storage, 0.0)
        if meta.nbytes > self._room:
            return  # it streams through
        self._held[meta.storage] = float(meta.nbytes)
        self._total += meta.nbytes
        while self._total > self._room:
            self._total -= self._held.popitem(last=False)[1]
