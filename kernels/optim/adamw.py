"""FusedAdamW: a drop-in ``torch.optim.AdamW`` that reads and writes everything once a step."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from . import columns, ops
from .adamw_torch import Hyper, Item, PlainBatch, adamw_step
from .codes import mixed_seed
from .errors import OptimizerError
from .formats import StateFormat, adamw_bytes_per_parameter, state_format
from .fused import FusedOptimizer
from .gradient_factor import gradient_factor
from .layout import empty_in_order, fits_shape_and_order, flat_view
from .moments import STATE_KEYS, Moments, format_for
from .options import AdamWOptions, check_hyperparameters, check_variant
from .plan import Plan
from .pointers import Member, reject_unusable

#: Of one group: its row, its gradients, and what steps it with given hyper-parameters.
_Batch = tuple[int, list[Tensor], Callable[[Hyper], None]]

if TYPE_CHECKING:
    from .adamw_triton import AdamWEngine
    from .engine import Scaling


class FusedAdamW(FusedOptimizer["AdamWEngine"]):
    """AdamW in one pass over memory.

    It takes what ``torch.optim.AdamW`` takes and can replace it; state dictionaries go both ways. On CUDA with Triton
    a step is one tiny launch that computes coefficients and one launch per parameter dtype that updates all tensors
    of all groups; steps are counted on the device, so a step can be captured in a CUDA graph. Run one before the
    capture, and call :meth:`refresh_hyperparameters` after every change of a learning rate that is a number; one that
    is a tensor on the device is read at every replay. On a CPU, and where Triton is missing, the same arithmetic runs
    on torch's own fused op.

    Bytes per parameter and step (fp32 parameters and gradients, fp32 states: 28) are those of
    :meth:`bytes_per_parameter`.

    Args:
        params: parameters or parameter groups.
        lr: learning rate; a one-element tensor is read on its own device at every step.
        betas: decay rates of the two moments.
        eps: added to the denominator.
        weight_decay: decoupled decay, applied as ``p -= lr * weight_decay * p``.
        amsgrad: only False.
        maximize: step along the gradient.
        capturable: accepted for compatibility; on CUDA every step is capturable.
        foreach: ignored, accepted for compatibility; ``fused`` and ``differentiable`` likewise (only False).
        state_dtype: ``"fp32"``, ``"bf16"`` or ``"int8"`` (8-bit codes in blocks of 256, see :mod:`.codes`). The second
            moment in bf16 or int8 is rounded stochastically.
        stochastic_rounding: round bf16 parameters up or down so that the expectation is exact; without it, updates
            under half a bf16 step are lost.
        seed: of all stochastic rounding; the bits depend on seed, tensor, element and step count alone.
        max_grad_norm: clip gradients to this total norm as part of the step, as ``clip_grad_norm_`` would before
            it. The gradients themselves are not rewritten. :attr:`grad_norm` holds the norm.
        skip_nonfinite: when the total norm is not finite, change nothing, as GradScaler does.
        shadow_dtype: also write a copy of the parameters in this type; see :meth:`shadow`.
        backend: ``"auto"``, ``"triton"`` or ``"torch"``.

    Raises:
        OptimizerUsageError: a value makes no sense (also a ``ValueError``).
    """

    options: AdamWOptions
    _state_names = ("step", *STATE_KEYS)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        differentiable: bool = False,
        state_dtype: str = "fp32",
        stochastic_rounding: bool = False,
        seed: int = 0,
        max_grad_norm: float | None = None,
        skip_nonfinite: bool = False,
        shadow_dtype: torch.dtype | None = None,
        backend: str = "auto",
    ) -> None:
        check_hyperparameters(lr, betas, eps, weight_decay)
        check_variant(amsgrad, differentiable)
        options = AdamWOptions(
            max_grad_norm, skip_nonfinite, backend, state_dtype, stochastic_rounding, seed, shadow_dtype
        )
        self._shadows: dict[Tensor, Tensor] = {}
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
            "maximize": maximize, "capturable": capturable, "foreach": None, "fused": True, "differentiable": False,
            "decoupled_weight_decay": True,
        }  # fmt: skip
        super().__init__(params, defaults, options)

    # ---------------------------------------------------------------- what a user may ask

    @staticmethod
    def bytes_per_parameter(
        param_dtype: str = "fp32", *, state_dtype: str = "fp32", clip: bool = False, shadow: bool = False
    ) -> float:
        """Bytes read and written per parameter and step; see :func:`.formats.adamw_bytes_per_parameter`."""
        return adamw_bytes_per_parameter(param_dtype, state_dtype=state_dtype, clip=clip, shadow=shadow)

    def shadow(self, param: Tensor) -> Tensor:
        """Low-precision copy of a parameter, rewritten by every step.

        It is the same tensor every time, as long as the parameter keeps its shape and the order of its elements.

        Raises:
            OptimizerError: ``shadow_dtype`` was not given.
        """
        if self.options.shadow_dtype is None:
            raise OptimizerError("there are no shadow copies; give shadow_dtype=torch.bfloat16 to the optimizer")
        copy = self._shadows.get(param)
        if copy is None or not fits_shape_and_order(copy, param):
            copy = self._shadows[param] = empty_in_order(param, self.options.shadow_dtype)
            copy.copy_(param.detach())
        return copy

    def refresh_shadows(self) -> None:
        """Copy the parameters again, after something else than a step changed them."""
        with torch.no_grad():
            for param, copy in self._shadows.items():
                copy.copy_(param)

    def unquantized_state_dict(self) -> dict[str, Any]:
        """A state dictionary with fp32 moments, for ``torch.optim.AdamW`` or another format."""
        packed = self.state_dict()
        params = [param for group in self.param_groups for param in group["params"]]
        for index, entries in packed["state"].items():
            if "exp_avg_q8" in entries:
                plain = Moments.zeros(state_format("fp32"), params[index].numel(), params[index].device)
                plain.adopt(entries, params[index])
                step = entries["step"].clone()  # the loading optimizer may count on with it
                packed["state"][index] = {"step": step, **plain.entries(params[index])}
        return packed

    # ---------------------------------------------------------------- the step

    def _make_engine(self, buckets: list[list[Member]]) -> AdamWEngine:
        from .adamw_triton import AdamWBucket, AdamWEngine

        wants_shadow = self.options.shadow_dtype is not None
        made = []
        for members in buckets:
            shadows = [self.shadow(member.param) for member in members] if wants_shadow else []
            form = state_format(self.options.state_dtype)
            made.append(AdamWBucket(members, form, self.state, self.options.seed, shadows))
        return AdamWEngine(made, hyper_table(self.param_groups, self.options, set()))

    def _step_engine(self, engine: AdamWEngine, scaling: Scaling) -> None:
        self._set_hyperparameters(engine)
        engine.step(scaling, self.options)

    def _set_hyperparameters(self, engine: AdamWEngine) -> None:
        rates = [
            (row, group["lr"])
            for row, group in enumerate(self.param_groups)
            if isinstance(group["lr"], Tensor) and group["lr"].device == engine.device
        ]
        on_device = {row for row, _ in rates} if engine.device.type == "cuda" else set()
        engine.set_hyperparameters(hyper_table(self.param_groups, self.options, on_device), rates if on_device else [])

    def _step_on_torch(self, plan: Plan[AdamWEngine], scaling: Scaling) -> None:
        extras = self.options.takes_norm or scaling[0] is not None or self.options.shadow_dtype is not None
        told = ops.watched() and extras  # of every tensor, so nothing that was kept ready is used
        ready: list[_Batch] = []
        work: list[_Batch] = []
        looked_at: list[Item] = []
        for place, (row, numbered) in enumerate(plan.fallback):
            plain = None if told else plan.plain.get(place)
            grads = None if plain is None else plain.gradients()
            if plain is not None and grads is not None:
                ready.append((row, grads, functools.partial(plain.step, grads)))
                continue
            items = [self._item(param, number) for number, param in numbered if param.grad is not None]
            if not items:
                continue
            reject_unusable([item.param for item in items])
            stochastic = self.options.stochastic_rounding
            step = functools.partial(adamw_step, items, stochastic=stochastic)
            work.append((row, [item.grad for item in items], step))
            looked_at += items
            plan.plain.pop(place, None)
            if len(items) == len(numbered) and PlainBatch.fits(items):
                plan.plain[place] = PlainBatch(items, [self.state[item.param] for item in items])
        if not (ready or work):
            return
        if work and (told or (ops.watched() and not all(item.is_plain() for item in looked_at))):
            if ready:
                self._launch_on_torch(ready, scaling)
            ops.fused_adamw(
                [item.param for item in looked_at],
                [item.grad for item in looked_at],
                [tensor for item in looked_at for tensor in item.moments.tensors()],
                [item.shadow for item in looked_at if item.shadow is not None],
                2 if self.options.takes_norm else 1,
                functools.partial(self._launch_on_torch, work, scaling),
            )
        else:
            self._launch_on_torch([*ready, *work], scaling)

    def _launch_on_torch(self, work: list[_Batch], scaling: Scaling) -> None:
        factor, norm = gradient_factor([grad for _, grads, _ in work for grad in grads], *scaling, self.options)
        self._norm = self._norm if norm is None else norm
        if factor is None:
            return
        for row, _, step in work:
            step(self._hyper(row, factor))

    def _hyper(self, row: int, factor: float = 1.0) -> Hyper:
        group = self.param_groups[row]
        betas = (float(group["betas"][0]), float(group["betas"][1]))
        return Hyper(group["lr"], betas, group["eps"], group["weight_decay"], group["maximize"], factor)

    def _item(self, param: Tensor, number: int) -> Item:
        """A tensor with its state, made or converted when need be."""
        assert param.grad is not None
        entries = self.state[param]
        form = format_for(param, state_format(self.options.state_dtype))
        moments = _stored(entries, param, form)
        if moments is None:
            moments = Moments.zeros(form, param.numel(), param.device)
            moments.adopt(entries, param)
            step = torch.as_tensor(entries.get("step", 0.0), dtype=torch.float32).to(param.device)
            for key in STATE_KEYS:
                entries.pop(key, None)
            entries["step"] = step.clone()
            entries.update(moments.entries(param))
        shadow = None if self.options.shadow_dtype is None else self.shadow(param)
        seed = mixed_seed(self.options.seed, number)
        return Item(param, param.grad, moments, entries["step"], seed, shadow)

    # ---------------------------------------------------------------- torch.optim's protocol

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; it may come in the middle of training.

        Raises:
            OptimizerUsageError: it asks for what the constructor refuses.
        """
        check_variant(param_group.get("amsgrad", False), param_group.get("differentiable", False))
        super().add_param_group(param_group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state of this optimizer, in any state format, or of ``torch.optim.AdamW``.

        Raises:
            OptimizerUsageError: it was saved with ``amsgrad=True``.
        """
        super().load_state_dict(state_dict)

    def _check_loaded(self, state_dict: dict[str, Any]) -> None:
        for group in state_dict["param_groups"]:
            check_hyperparameters(group["lr"], group["betas"], group["eps"], group["weight_decay"])
            check_variant(group.get("amsgrad", False), differentiable=False)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._shadows = self.__dict__.get("_shadows") or {}
        for group in self.param_groups:
            group.setdefault("maximize", False)


def hyper_table(groups: list[dict[str, Any]], options: AdamWOptions, on_device: set[int]) -> np.ndarray:
    """Hyper-parameters as the kernels read them, one float64 row per group and a last one for the optimizer.

    Args:
        groups: the optimizer's parameter groups.
        options: its options.
        on_device: groups whose learning rate is a tensor on the device, filled in there.
    """
    table = np.zeros((len(groups) + 1, columns.HYPER_WIDTH))
    for row, group in enumerate(groups):
        table[row, columns.LR] = 0.0 if row in on_device else float(group["lr"])
        table[row, columns.WEIGHT_DECAY] = group["weight_decay"]
        table[row, columns.BETA1], table[row, columns.BETA2] = (float(beta) for beta in group["betas"])
        table[row, columns.EPS] = group["eps"]
        table[row, columns.SIGN] = -1.0 if group["maximize"] else 1.0
    table[-1, columns.MAX_NORM] = options.max_grad_norm or 0.0
    return table


def _stored(entries: dict[str, Any], param: Tensor, form: StateFormat) -> Moments | None:
    """The moments as they stand in the state, when they have the right format and order; else None."""
    step = entries.get("step")
    if not isinstance(step, Tensor) or step.dtype != torch.float32 or step.device != param.device:
        return None
    if form.quantized:
        if "exp_avg_q8" not in entries:
            return None
        return Moments(form, entries["exp_avg_q8"], entries["exp_avg_sq_q8"],
                       entries["exp_avg_scale"], entries["exp_avg_sq_scale"])  # fmt: skip
    first, second = entries.get("exp_avg"), entries.get("exp_avg_sq")
    if first is None or second is None or first.dtype != form.first or second.dtype != form.second:
        return None
    if not all(fits_shape_and_order(value, param) and value.device == param.device for value in (first, second)):
        return None
    return Moments(form, flat_view(first), flat_view(second))
