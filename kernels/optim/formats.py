"""How optimizer states are stored, and what a step costs in bytes per parameter."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .columns import BLOCK, CODE_TILE, TILE
from .errors import OptimizerUsageError

#: Bytes of one scale, shared by ``BLOCK`` elements.
SCALE_BYTES = 4

_ITEMSIZE = {"fp32": 4, "bf16": 2, "fp16": 2, "fp64": 8}

DTYPE_NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.float64: "fp64"}


@dataclass(frozen=True)
class StateFormat:
    """Storage of Adam's two moments.

    Attributes:
        name: what the user types.
        kind: number by which the Triton kernels know it.
        first: dtype of the first moment.
        second: dtype of the second moment.
        bytes: bytes of one element of one moment, its share of a scale included.
    """

    name: str
    kind: int
    first: torch.dtype
    second: torch.dtype
    bytes: float

    @property
    def quantized(self) -> bool:
        """Whether elements are 8-bit codes with a scale per block."""
        return self.name == "int8"

    @property
    def tile(self) -> int:
        """Elements that a Triton program updates at once, so that a thread's share of each tensor is whole vectors."""
        return CODE_TILE if self.quantized else TILE


FORMATS = {
    "fp32": StateFormat("fp32", 0, torch.float32, torch.float32, 4.0),
    "bf16": StateFormat("bf16", 1, torch.bfloat16, torch.bfloat16, 2.0),
    "int8": StateFormat("int8", 2, torch.int8, torch.uint8, 1.0 + SCALE_BYTES / BLOCK),
}


def state_format(name: str) -> StateFormat:
    """Look up a format.

    Raises:
        OptimizerUsageError: there is no such format.
    """
    if name not in FORMATS:
        raise OptimizerUsageError(f"unknown state_dtype {name!r}; it can be {', '.join(FORMATS)}")
    return FORMATS[name]


def adamw_bytes_per_parameter(
    param_dtype: str = "fp32", *, state_dtype: str = "fp32", clip: bool = False, shadow: bool = False
) -> float:
    """Bytes that one FusedAdamW step reads and writes per parameter on CUDA, gradients in the parameters' type.

    Args:
        param_dtype: ``"fp32"``, ``"bf16"`` or ``"fp16"``.
        state_dtype: ``"fp32"``, ``"bf16"`` or ``"int8"``.
        clip: whether the gradient norm is taken (for ``max_grad_norm`` or ``skip_nonfinite``): one more read.
        shadow: whether a 2-byte copy of the parameters is written.

    Returns:
        Bytes per parameter: fp32 28, with clipping 32; bf16 states 20; 8-bit states 16.06; bf16 parameters with
        fp32 states 22, with bf16 states 14, with 8-bit states 10.06.
    """
    item = _ITEMSIZE[param_dtype]
    moments = 2 * 2 * state_format(state_dtype).bytes
    return 2 * item + item * (2 if clip else 1) + moments + (2 if shadow else 0)


def adafactor_bytes_per_parameter(
    param_dtype: str = "fp32", *, scale_parameter: bool = True, first_moment: bool = False, clip: bool = False
) -> float:
    """Bytes that one FusedAdafactor step reads and writes per parameter of a matrix on CUDA.

    Args:
        param_dtype: type of parameters and gradients, ``"fp32"``, ``"bf16"`` or ``"fp16"``.
        scale_parameter: whether parameters are read once more for their root mean square.
        first_moment: whether a first moment (fp32) is kept.
        clip: whether the gradient norm is taken (for ``max_grad_norm`` or ``skip_nonfinite``): one more read.

    Returns:
        Bytes per parameter without those per row and column (factors and partial sums, under 0.3 a parameter for
        matrices of 512 × 512 and more): fp32 20, with ``scale_parameter`` 24, with a first moment 8 more.
    """
    item = _ITEMSIZE[param_dtype]
    return item * (3 + 2 + (1 if scale_parameter else 0) + (1 if clip else 0)) + (8 if first_moment else 0)
