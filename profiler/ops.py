"""Op records: what was dispatched, with the metadata that its cost needs.

An :class:`OpRecord` comes from one of two places. The recorder (:mod:`.recorder`) sees every dispatched ATen op with
its true tensors; a Kineto trace (:mod:`.inference`) only has input shapes, from which outputs are inferred. Costs are
functions of the record alone, so both are priced by the same table.

``args`` holds the arguments in the order of the op's schema, keyword-only ones included: tensors as
:class:`TensorMeta`, tensor lists as tuples of them, everything else as a plain Python value (``None`` when absent).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

ITEMSIZE: dict[str, int] = {
    "fp64": 8, "fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "fp8": 1,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1, "bool": 1,
    "complex64": 8, "complex128": 16,
}  # fmt: skip


class TensorMeta(NamedTuple):
    """What a tensor looks like in memory.

    ``stride`` is in elements, ``None`` when it was not recorded (taken as contiguous). ``storage`` identifies the
    memory behind the tensor, 0 when unknown; ``offset`` is in elements.
    """

    shape: tuple[int, ...]
    dtype: str
    stride: tuple[int, ...] | None = None
    storage: int = 0
    offset: int = 0

    @property
    def numel(self) -> int:
        """Number of elements, counted with repeats of expanded dimensions."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def distinct(self) -> int:
        """Number of different elements in memory: an expanded dimension (stride 0) counts once."""
        if self.stride is None:
            return self.numel
        count, extent = 1, 1
        for size, step in zip(self.shape, self.stride):
            if size == 0:
                return 0
            if step:
                count *= size
                extent += (size - 1) * step
        return min(count, extent)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that one pass over the tensor touches."""
        return self.distinct * ITEMSIZE.get(self.dtype, 4)


@dataclass(slots=True)
class OpRecord:
    """One dispatched op.

    ``mutated`` lists the positions in ``args`` that the op writes to. ``phase``, ``module`` and ``autograd`` are empty
    strings where they are unknown.
    """

    name: str
    args: tuple[Any, ...]
    outputs: tuple[TensorMeta, ...]
    mutated: tuple[int, ...] = ()
    phase: str = ""
    module: str = ""
    autograd: str = ""
    provenance: str = "exact"
