"""Random tensors for operator suites."""

from __future__ import annotations

from typing import Any


class Draw:
    """Random tensors of one dtype on one device, from a seed.

    Args:
        dtype: ``fp32`` or ``bf16``.
        device: ``cpu`` or ``cuda``.
        seed: of the numbers.
    """

    def __init__(self, dtype: str, device: str, seed: int) -> None:
        import torch

        self.dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
        self.device = device
        self.generator = torch.Generator(device).manual_seed(seed)

    def normal(self, *shape: int, spread: float = 1.0, mean: float = 0.0, gradient: bool = True) -> Any:
        """Normally distributed numbers."""
        import torch

        found = torch.empty(shape, dtype=self.dtype, device=self.device)
        return found.normal_(mean, spread, generator=self.generator).requires_grad_(gradient)

    def integers(self, low: int, high: int, *shape: int) -> Any:
        """Integers from ``low`` to below ``high``."""
        import torch

        return torch.randint(low, high, shape, device=self.device, generator=self.generator)
