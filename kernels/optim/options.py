"""What a fused AdamW can be asked for beyond torch's hyper-parameters."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real

import torch

from .errors import OptimizerUsageError
from .formats import state_format

BACKENDS = ("auto", "triton", "torch")


@dataclass(frozen=True)
class StepOptions:
    """Options of any fused step.

    Raises:
        OptimizerUsageError: an option makes no sense.
    """

    max_grad_norm: float | None = None
    skip_nonfinite: bool = False
    backend: str = "auto"

    def __post_init__(self) -> None:
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            raise OptimizerUsageError(
                f"max_grad_norm must be positive, or None for no clipping; got {self.max_grad_norm}"
            )
        if self.backend not in BACKENDS:
            raise OptimizerUsageError(f"unknown backend {self.backend!r}; it can be {', '.join(BACKENDS)}")

    @property
    def takes_norm(self) -> bool:
        """Whether the gradients are read once more for their norm."""
        return self.max_grad_norm is not None or self.skip_nonfinite


@dataclass(frozen=True)
class AdamWOptions(StepOptions):
    """Those of AdamW; see :class:`~edgeroof.kernels.optim.FusedAdamW` for their meaning."""

    state_dtype: str = "fp32"
    stochastic_rounding: bool = False
    seed: int = 0
    shadow_dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        state_format(self.state_dtype)
        if self.shadow_dtype not in (None, torch.bfloat16, torch.float16):
            raise OptimizerUsageError(f"shadow_dtype must be torch.bfloat16 or torch.float16; got {self.shadow_dtype}")


def check_hyperparameters(lr: object, betas: object, eps: float, weight_decay: float) -> None:
    """Refuse what ``torch.optim.AdamW`` refuses.

    Raises:
        OptimizerUsageError: names the value.
    """
    if isinstance(lr, torch.Tensor) and lr.numel() != 1:
        raise OptimizerUsageError("a learning rate given as a tensor must have one element")
    if not isinstance(lr, torch.Tensor) and not (isinstance(lr, Real) and float(lr) >= 0.0):
        raise OptimizerUsageError(f"invalid learning rate {lr}: it must be a number of at least 0")
    if not (isinstance(betas, (tuple, list)) and len(betas) == 2 and all(0.0 <= float(beta) < 1.0 for beta in betas)):
        raise OptimizerUsageError(f"invalid betas {betas}: two numbers in [0, 1) are needed")
    if not eps >= 0.0:
        raise OptimizerUsageError(f"invalid eps {eps}: it must be at least 0")
    if not weight_decay >= 0.0:
        raise OptimizerUsageError(f"invalid weight_decay {weight_decay}: it must be at least 0")


def check_variant(amsgrad: bool, differentiable: bool) -> None:
    """Refuse variants of AdamW that a fused step has not.

    Raises:
        OptimizerUsageError: says what to use instead.
    """
    if differentiable:
        raise OptimizerUsageError("differentiable=True is not supported by a fused step; use torch.optim.AdamW")
    if amsgrad:
        raise OptimizerUsageError("amsgrad=True is not supported by FusedAdamW; use torch.optim.AdamW(amsgrad=True)")
