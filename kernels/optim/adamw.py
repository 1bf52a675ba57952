"""FusedAdamW: a drop-in ``torch.optim.AdamW`` that reads and writes everything once a step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from . import columns, ops
from .adamw_torch import Hyper, Item, PlainBatch, adamw_step, gradient_norm
from .codes import mixed_seed
from .errors import OptimizerError
from .formats import StateFormat, adamw_bytes_per_parameter, state_format
from .layout import flat_view, is_dense, same_order
from .moments import STATE_KEYS, Moments, format_for
from .options import AdamWOptions, check_hyperparameters
from .plan import Plan, check_one_norm, divide
from .pointers import reject_unusable
from .state_dicts import keep_state_types

if TYPE_CHECKING:
    from .adamw_triton import AdamWEngine
    from .pointers import Member


class FusedAdamW(Optimizer):
    """AdamW in one pass over memory.

    It takes what ``torch.optim.AdamW`` takes and can replace it; state dictionaries go both ways. On CUDA with Triton
    a step is one tiny launch that computes coefficients and one launch per parameter dtype that updates all tensors
    of all groups; steps are counted on the device, so a step can be captured in a CUDA graph (run one before the
    capture). On a CPU, and where Triton is missing, the same arithmetic runs on torch's own fused op.

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
        check_hyperparameters(lr, betas, eps, weight_decay, amsgrad)
        if differentiable:
            raise OptimizerError("differentiable=True is not supported by a fused step; use torch.optim.AdamW")
        self.options = AdamWOptions(
            state_dtype, stochastic_rounding, seed, max_grad_norm, skip_nonfinite, shadow_dtype, backend
        )
        self._plan: Plan[AdamWEngine] | None = None
        self._shadows: dict[Tensor, Tensor] = {}
        self._norm: Tensor | None = None
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
            "maximize": maximize, "capturable": capturable, "foreach": None, "fused": True, "differentiable": False,
            "decoupled_weight_decay": True,
        }  # fmt: skip
        super().__init__(params, defaults)
        self._step_supports_amp_scaling = True

    # ---------------------------------------------------------------- what a user may ask

    @staticmethod
    def bytes_per_parameter(
        param_dtype: str = "fp32", *, state_dtype: str = "fp32", clip: bool = False, shadow: bool = False
    ) -> float:
        """Bytes read and written per parameter and step; see :func:`.formats.adamw_bytes_per_parameter`."""
        return adamw_bytes_per_parameter(param_dtype, state_dtype=state_dtype, clip=clip, shadow=shadow)

    @property
    def grad_norm(self) -> Tensor | None:
        """Total norm of the last step's unscaled gradients before clipping, a 0-dim tensor; None when not taken."""
        return self._norm

    def shadow(self, param: Tensor) -> Tensor:
        """Low-precision copy of a parameter, rewritten by every step; the same tensor every time.

        Raises:
            OptimizerError: ``shadow_dtype`` was not given.
        """
        if self.options.shadow_dtype is None:
            raise OptimizerError("there are no shadow copies; give shadow_dtype=torch.bfloat16 to the optimizer")
        if param not in self._shadows:
            self._shadows[param] = torch.empty_like(param, dtype=self.options.shadow_dtype)
            self.refresh_shadows()
        return self._shadows[param]

    def refresh_shadows(self) -> None:
        """Copy the parameters again, after something else than a step changed them."""
        with torch.no_grad():
            for param, copy in self._shadows.items():
                copy.copy_(param)

    @torch.no_grad()
    def refresh_hyperparameters(self) -> None:
        """Upload changed hyper-parameters without a step: what replays of a captured step will use."""
        if self._plan is not None:
            self._set_hyperparameters(self._plan)

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

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Make one step.

        Args:
            closure: re-evaluates the model and returns the loss.

        Returns:
            The closure's loss, or None.

        Raises:
            OptimizerError: a gradient is sparse, or a graph capture began before the first step.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        plan = self._current_plan()
        scale, found_inf = getattr(self, "grad_scale", None), getattr(self, "found_inf", None)
        if plan.engine is not None:
            self._set_hyperparameters(plan)
            plan.engine.step(
                scaling=(_on(scale, plan.engine.device), _on(found_inf, plan.engine.device)),
                clip=self.options.max_grad_norm is not None,
                skip_nonfinite=self.options.skip_nonfinite,
                stochastic=self.options.stochastic_rounding,
            )
            self._norm = plan.engine.norm if self.options.takes_norm else None
        if plan.fallback:
            self._step_on_torch(plan, scale, found_inf)
        return loss

    def _current_plan(self) -> Plan[AdamWEngine]:
        """The plan, made anew when parameters came, gradients appeared for the first time, or types changed."""
        plan = self._plan
        if plan is not None and plan.is_current(self):
            return plan
        plan = self._plan = divide(self, self.options.backend)
        if self.options.takes_norm:
            check_one_norm(plan)
        if plan.buckets:
            plan.engine = self._make_engine(list(plan.buckets.values()))
            plan.engine.refresh()
        return plan

    def _make_engine(self, buckets: list[list[Member]]) -> AdamWEngine:
        from .adamw_triton import AdamWBucket, AdamWEngine

        wants_shadow = self.options.shadow_dtype is not None
        made = []
        for members in buckets:
            shadows = [self.shadow(member.param) for member in members] if wants_shadow else []
            form = state_format(self.options.state_dtype)
            made.append(AdamWBucket(members, form, self.state, self.options.seed, shadows))
        return AdamWEngine(made, hyper_table(self.param_groups, self.options, set()))

    def _set_hyperparameters(self, plan: Plan[AdamWEngine]) -> None:
        if plan.engine is None:
            return
        rates = [
            (row, group["lr"])
            for row, group in enumerate(self.param_groups)
            if isinstance(group["lr"], Tensor) and group["lr"].device == plan.engine.device
        ]
        on_device = {row for row, _ in rates} if plan.engine.device.type == "cuda" else set()
        plan.engine.set_hyperparameters(
            hyper_table(self.param_groups, self.options, on_device), rates if on_device else []
        )

    def _step_on_torch(self, plan: Plan[AdamWEngine], scale: Tensor | None, found_inf: Tensor | None) -> None:
        """Step what Triton does not serve; on a CPU, everything."""
        batches = []
        simple = scale is None and found_inf is None and not self.options.takes_norm
        for place, (row, numbered) in enumerate(plan.fallback):
            plain = plan.plain.get(place) if simple else None
            if plain is not None and plain.step(self._hyper(row)):
                continue
            items = [self._item(param, number) for number, param in numbered if param.grad is not None]
            if items:
                batches.append((row, items))
                plan.plain.pop(place, None)
                if len(items) == len(numbered) and PlainBatch.fits(items):
                    plan.plain[place] = PlainBatch(items, [self.state[item.param] for item in items])
        if not batches:
            return
        reject_unusable([item.param for _, items in batches for item in items])

        def launch() -> None:
            self._launch_on_torch(batches, scale, found_inf)

        if ops.watched() and not self._is_plain(batches, scale):
            everything = [item for _, items in batches for item in items]
            ops.fused_adamw(
                [item.param for item in everything],
                [item.grad for item in everything],
                [tensor for item in everything for tensor in item.moments.tensors()],
                [item.shadow for item in everything if item.shadow is not None],
                2 if self.options.takes_norm else 1,
                launch,
            )
        else:
            launch()

    def _is_plain(self, batches: list[tuple[int, list[Item]]], scale: Tensor | None) -> bool:
        """Whether the step is a call of torch's fused op and nothing else."""
        extras = self.options.takes_norm or scale is not None or self.options.shadow_dtype is not None
        return not extras and all(item.is_plain() for _, items in batches for item in items)

    def _launch_on_torch(
        self, batches: list[tuple[int, list[Item]]], scale: Tensor | None, found_inf: Tensor | None
    ) -> None:
        if found_inf is not None and float(found_inf):
            return
        factor = 1.0
        if scale is not None:
            factor = 1.0 / float(scale)
        if self.options.takes_norm:
            grads = [item.grad for _, items in batches for item in items]
            self._norm = gradient_norm(grads, 1.0 / factor)
            norm = float(self._norm)
            if self.options.skip_nonfinite and not np.isfinite(norm):
                return
            if self.options.max_grad_norm is not None:
                ratio = self.options.max_grad_norm / (norm + 1e-6)
                factor *= 1.0 if ratio > 1.0 else ratio
        for row, items in batches:
            adamw_step(items, self._hyper(row, factor), stochastic=self.options.stochastic_rounding)

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
        """Add a group; it may come in the middle of training."""
        super().add_param_group(param_group)
        self._plan = None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state of this optimizer, in any state format, or of ``torch.optim.AdamW``.

        Raises:
            OptimizerUsageError: it was saved with ``amsgrad=True``.
        """
        for group in state_dict["param_groups"]:
            check_hyperparameters(
                group["lr"], group["betas"], group["eps"], group["weight_decay"], group.get("amsgrad", False)
            )
        super().load_state_dict(state_dict)
        keep_state_types(self, state_dict)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "options": self.options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._plan = None
        self._norm = None
        self._shadows = self.__dict__.get("_shadows") or {}
        self._step_supports_amp_scaling = True
        for group in self.param_groups:
            group.setdefault("maximize", False)

    @property
    def max_grad_norm(self) -> float | None:
        """Norm to which gradients are clipped; it may be changed between steps."""
        return self.options.max_grad_norm

    @max_grad_norm.setter
    def max_grad_norm(self, value: float | None) -> None:
        self.options = replace(self.options, max_grad_norm=value)


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
    if form.quantized:
        if "exp_avg_q8" not in entries:
            return None
        return Moments(form, entries["exp_avg_q8"], entries["exp_avg_sq_q8"],
                       entries["exp_avg_scale"], entries["exp_avg_sq_scale"])  # fmt: skip
    first, second = entries.get("exp_avg"), entries.get("exp_avg_sq")
    if first is None or second is None or first.dtype != form.first or second.dtype != form.second:
        return None
    for value in (first, second):
        ordered = same_order(value, param) if is_dense(param) else value.is_contiguous()
        if not (is_dense(value) and ordered and value.device == param.device):
            return None
    return Moments(form, flat_view(first), flat_view(second))


def _on(value: Tensor | None, device: torch.device) -> Tensor | None:
    return None if value is None else value.to(device, dtype=torch.float32, non_blocking=True)
