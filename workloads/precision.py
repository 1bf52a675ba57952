"""Number formats of a training step: autocast, weights, gradient scaling, TF32.

``bf16`` and ``fp16`` are mixed precision: weights, gradients and optimizer states stay fp32 and matrix products run in
16 bits under autocast. ``bf16-pure`` keeps everything in bf16.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import WorkloadError

if TYPE_CHECKING:
    import torch

_AUTOCAST = {"bf16": "bfloat16", "fp16": "float16"}

#: First compute capability with TF32 and bf16 in hardware.
_AMPERE = (8, 0)


@dataclass(frozen=True)
class Precision:
    """How a step computes.

    Attributes:
        name: one of :data:`~edgeroof.workloads.client_config.PRECISIONS`.
        device: such as ``"cuda:0"``.
    """

    name: str
    device: str

    @property
    def kind(self) -> str:
        """``"cpu"`` or ``"cuda"``."""
        return self.device.split(":")[0]

    @property
    def weights(self) -> torch.dtype:
        """Type of weights, gradients and optimizer states."""
        import torch

        return torch.bfloat16 if self.name == "bf16-pure" else torch.float32

    def check(self) -> None:
        """See that the device can do it.

        Raises:
            WorkloadError: it cannot.
        """
        import torch

        if self.kind == "cuda" and self.name in ("tf32", "bf16", "bf16-pure"):
            capability = torch.cuda.get_device_capability(self.device)
            if capability < _AMPERE:
                version = ".".join(map(str, capability))
                raise WorkloadError(
                    f"precision {self.name} needs compute capability 8.0 and {self.device} has {version}; "
                    "use fp32 or fp16"
                )
        if self.kind == "cpu" and self.name == "fp16":
            try:
                torch.ones(8, 8, dtype=torch.float16) @ torch.ones(8, 8, dtype=torch.float16)
            except RuntimeError as error:
                raise WorkloadError("this PyTorch has no fp16 matrix product on CPU; use fp32 or bf16") from error

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """The context for the forward pass and the loss."""
        import torch

        if self.name not in _AUTOCAST:
            return contextlib.nullcontext()
        return torch.autocast(self.kind, dtype=getattr(torch, _AUTOCAST[self.name]))

    def scaler(self) -> torch.amp.GradScaler | None:
        """A gradient scaler for fp16, None for the rest."""
        import torch

        return torch.amp.GradScaler(self.kind) if self.name == "fp16" else None

    @contextlib.contextmanager
    def matrix_products(self) -> Iterator[None]:
        """Switch TF32 on or off for the enclosed work, and back to what it was afterwards."""
        import torch

        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if self.name == "tf32" else "highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)
