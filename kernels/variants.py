"""The forms in which kernels are launched, for ahead-of-time compilation.

Every module of kernels lists its own with ``variants()``; :func:`kernel_variants` chains them.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

#: Modules of this package that have a ``variants()``, in the order in which they are shown.
MODULES = ("optim.variants", "softmax", "rms_norm", "gated_gelu", "cross_entropy", "attention_forms")


@dataclass(frozen=True)
class KernelVariant:
    """A kernel with the types and constants of one kind of launch.

    Attributes:
        kernel: name of the Triton function.
        variant: what is special, for people, such as ``"bf16, int8 states"``.
        module: module of this package that holds the function, such as ``"optim.adamw_kernels"``.
        signature: Triton type of every argument, ``"constexpr"`` for constants.
        constants: values of the constants; types of elements are given by name (``"fp32"``).
        tile: elements that the hot loop handles at once; 0 when there is no hot loop.
        bytes_per_element: documented bytes of this kernel alone; 0 without a hot loop.
        per_line: whether accesses smaller than a tile belong to rows and columns, not to parameters.
        aligned: arguments that are whole numbers divisible by 16 in this form, as the launch tells the compiler.
        masked: whether the hot loop is masked: rows whose length is no power of two still load whole vectors.
        warps: warps of a block.
        stages: of the pipeline of loops whose loads go to matrix units; Triton's default.
    """

    kernel: str
    variant: str
    module: str
    signature: dict[str, str]
    constants: dict[str, Any]
    tile: int = 0
    bytes_per_element: float = 0.0
    per_line: bool = False
    aligned: tuple[str, ...] = ()
    masked: bool = False
    warps: int = 4
    stages: int = 3


def kernel_variants() -> Iterator[KernelVariant]:
    """All variants of all kernels."""
    for name in MODULES:
        yield from importlib.import_module(f".{name}", __package__).variants()
