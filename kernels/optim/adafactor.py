"""FusedAdafactor: a drop-in ``transformers.optimization.Adafactor`` with few passes over memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from . import adafactor_geometry as geo
from . import columns, ops
from .adafactor_torch import AdafactorHyper, adafactor_step
from .errors import OptimizerUsageError
from .formats import adafactor_bytes_per_parameter
from .fused import FusedOptimizer
from .gradient_factor import gradient_factor
from .options import StepOptions
from .plan import Plan
from .pointers import Member, reject_unusable

if TYPE_CHECKING:
    from .adafactor_triton import AdafactorEngine
    from .engine import Scaling


class FusedAdafactor(FusedOptimizer["AdafactorEngine"]):
    """Adafactor with the numerics of ``transformers.optimization.Adafactor`` and its arguments.

    On CUDA with Triton a step is six launches per parameter dtype over all tensors, whatever their number; steps are
    counted on the device, so a step can be captured in a CUDA graph (run one before). Elsewhere torch ops work on
    stretches that fit in the cache. States have transformers' names and shapes and load both ways.

    Bytes per parameter and step: three reads of the gradient (four with clipping), one read and one write of the
    parameter; see :meth:`bytes_per_parameter`.

    Args:
        params: parameters or parameter groups.
        lr: learning rate, None with ``relative_step``.
        eps: added to squared gradients; least root mean square that ``scale_parameter`` multiplies by.
        clip_threshold: largest root mean square of a tensor's update.
        decay_rate: the averages of step t keep ``1 - t ** decay_rate``.
        beta1: decay of a first moment; None keeps none.
        weight_decay: decoupled decay, times the tensor's learning rate.
        scale_parameter: multiply the learning rate by the root mean square of the parameter.
        relative_step: compute the learning rate from the step count.
        warmup_init: start the relative steps at 1e-6.
        max_grad_norm: clip gradients to this total norm as part of the step, as ``clip_grad_norm_`` would before
            it. The gradients themselves are not rewritten. :attr:`grad_norm` holds the norm.
        skip_nonfinite: when the total norm is not finite, change nothing, as GradScaler does.
        backend: ``"auto"``, ``"triton"`` or ``"torch"``.

    Raises:
        OptimizerUsageError: the arguments contradict each other (also a ``ValueError``).
    """

    _state_names = ("step", "RMS", "exp_avg_sq_row", "exp_avg_sq_col", "exp_avg_sq", "exp_avg")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | None = None,
        eps: tuple[float, float] = (1e-30, 1e-3),
        clip_threshold: float = 1.0,
        decay_rate: float = -0.8,
        beta1: float | None = None,
        weight_decay: float = 0.0,
        scale_parameter: bool = True,
        relative_step: bool = True,
        warmup_init: bool = False,
        *,
        max_grad_norm: float | None = None,
        skip_nonfinite: bool = False,
        backend: str = "auto",
    ) -> None:
        if lr is not None and relative_step:
            raise OptimizerUsageError("lr and relative_step=True contradict each other; give relative_step=False")
        if lr is None and not relative_step:
            raise OptimizerUsageError("relative_step=False needs a learning rate lr")
        if warmup_init and not relative_step:
            raise OptimizerUsageError("warmup_init=True needs relative_step=True")
        defaults = {
            "lr": lr, "eps": eps, "clip_threshold": clip_threshold, "decay_rate": decay_rate, "beta1": beta1,
            "weight_decay": weight_decay, "scale_parameter": scale_parameter, "relative_step": relative_step,
            "warmup_init": warmup_init,
        }  # fmt: skip
        super().__init__(params, defaults, StepOptions(max_grad_norm, skip_nonfinite, backend))

    @staticmethod
    def bytes_per_parameter(
        param_dtype: str = "fp32", *, scale_parameter: bool = True, first_moment: bool = False, clip: bool = False
    ) -> float:
        """Bytes per parameter and step on CUDA; see :func:`.formats.adafactor_bytes_per_parameter`."""
        return adafactor_bytes_per_parameter(
            param_dtype, scale_parameter=scale_parameter, first_moment=first_moment, clip=clip
        )

    def _make_engine(self, buckets: list[list[Member]]) -> AdafactorEngine:
        from .adafactor_triton import AdafactorBucket, AdafactorEngine

        averaged = [group["beta1"] is not None for group in self.param_groups]
        made = [AdafactorBucket(members, self.state, averaged) for members in buckets]
        return AdafactorEngine(made, self._hyper_table())

    def _step_engine(self, engine: AdafactorEngine, scaling: Scaling) -> None:
        self._set_hyperparameters(engine)
        scale = any(group["scale_parameter"] for group in self.param_groups)
        engine.step(scale, scaling, self.options)

    def _set_hyperparameters(self, engine: AdafactorEngine) -> None:
        engine.upload(self._hyper_table())

    def _hyper_table(self) -> np.ndarray:
        return hyper_table(self.param_groups, self.options)

    def _step_on_torch(self, plan: Plan[AdafactorEngine], scaling: Scaling) -> None:
        batches = []
        for row, numbered in plan.fallback:
            params = [param for _, param in numbered if param.grad is not None]
            reject_unusable(params)
            hyper = AdafactorHyper.of(self.param_groups[row])
            batches.append((hyper, [(param, self._state_of(param, hyper)) for param in params]))
        everything = [pair for _, pairs in batches for pair in pairs]
        if not everything:
            return
        grads = [param.grad for param, _ in everything if param.grad is not None]

        def launch() -> None:
            factor, norm = gradient_factor(grads, *scaling, self.options)
            self._norm = self._norm if norm is None else norm
            if factor is None:
                return
            for hyper, pairs in batches:
                for param, state in pairs:
                    assert param.grad is not None
                    adafactor_step(param, param.grad, state, hyper, factor)

        if ops.watched():
            moments = [value for _, state in everything for name, value in state.items() if name not in ("step", "RMS")]
            scaled = any(hyper.scale_parameter for hyper, _ in batches)
            reads = 4 if self.options.takes_norm else 3
            ops.fused_adafactor([param for param, _ in everything], grads, moments, scaled, reads, launch)
        else:
            launch()

    def _state_of(self, param: Tensor, hyper: AdafactorHyper) -> dict[str, Any]:
        """The tensor's state, made when it is new and cast when it was loaded in another type."""
        state = self.state[param]
        wide = torch.float64 if param.dtype == torch.float64 else torch.float32
        shapes = {"exp_avg_sq": param.shape}
        if param.dim() >= 2:
            shapes = {"exp_avg_sq_row": param.shape[:-1], "exp_avg_sq_col": param.shape[:-2] + param.shape[-1:]}
        if hyper.beta1 is not None:
            shapes["exp_avg"] = param.shape
        for name, shape in shapes.items():
            if name not in state:
                state[name] = torch.zeros(shape, dtype=wide, device=param.device)
            elif state[name].dtype != wide or not state[name].is_contiguous():
                state[name] = state[name].to(wide).contiguous()
        for name in ("step", "RMS"):
            if not isinstance(state.get(name), Tensor):
                state[name] = torch.tensor(float(state.get(name, 0.0)))
        return state


def hyper_table(groups: list[dict[str, Any]], options: StepOptions) -> np.ndarray:
    """Hyper-parameters as the kernels read them, one float64 row per group and a last one for the optimizer."""
    table = np.zeros((len(groups) + 1, geo.HYPER_WIDTH))
    for row, group in enumerate(groups):
        flags = geo.FLAG_SCALE_PARAMETER * bool(group["scale_parameter"])
        flags += geo.FLAG_RELATIVE_STEP * bool(group["relative_step"])
        flags += geo.FLAG_WARMUP_INIT * bool(group["warmup_init"])
        table[row, geo.LR] = 0.0 if group["lr"] is None else float(group["lr"])
        table[row, geo.WEIGHT_DECAY] = group["weight_decay"]
        table[row, geo.BETA1] = group["beta1"] or 0.0
        table[row, geo.DECAY_RATE] = group["decay_rate"]
        table[row, geo.EPS_SQUARE], table[row, geo.EPS_SCALE] = group["eps"]
        table[row, geo.CLIP] = group["clip_threshold"]
        table[row, geo.FLAGS] = flags
    table[-1, columns.MAX_NORM] = options.max_grad_norm or 0.0
    return table
