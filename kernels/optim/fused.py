"""What every fused optimizer does around its update: closures, the plan, clipping options, loading and copying."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from .engine import Engine, Scaling
from .options import StepOptions
from .plan import Plan, check_one_norm, divide
from .pointers import Member, is_capturing
from .state_dicts import keep_state_types
from .state_watch import StateWatch

EngineT = TypeVar("EngineT", bound=Engine[Any])


class FusedOptimizer(Optimizer, Generic[EngineT]):
    """An optimizer that steps all tensors of a device and dtype at once; subclasses say how.

    GradScaler leaves unscaling and skipping to the step: it sets ``grad_scale`` and ``found_inf`` around it.
    """

    options: StepOptions
    #: Entries of a tensor's state that are the optimizer's own.
    _state_names: tuple[str, ...] = ()

    def __init__(self, params: Any, defaults: dict[str, Any], options: StepOptions) -> None:
        self.options = options
        self._captured: EngineT | None = None
        self._forget()
        super().__init__(params, defaults)

    def _forget(self) -> None:
        """Drop what belongs to this object and these tensors alone."""
        self._plan: Plan[EngineT] | None = None
        self._norm: Tensor | None = None
        self._step_supports_amp_scaling = True

    # ---------------------------------------------------------------- what subclasses say

    def _make_engine(self, buckets: list[list[Member]]) -> EngineT:
        """The engine of the tensors that Triton serves."""
        raise NotImplementedError

    def _step_engine(self, engine: EngineT, scaling: Scaling) -> None:
        """Step what Triton serves."""
        raise NotImplementedError

    def _set_hyperparameters(self, engine: EngineT) -> None:
        """Upload hyper-parameters that changed."""
        raise NotImplementedError

    def _step_on_torch(self, plan: Plan[EngineT], scaling: Scaling) -> None:
        """Step what Triton does not serve; on a CPU, everything."""
        raise NotImplementedError

    # ---------------------------------------------------------------- the step

    @property
    def grad_norm(self) -> Tensor | None:
        """Total norm of the last step's unscaled gradients before clipping, a 0-dim tensor; None when not taken.

        On CUDA every step writes it to the same tensor, so clone what is to be kept.
        """
        return self._norm

    @property
    def max_grad_norm(self) -> float | None:
        """Norm to which gradients are clipped; it may be changed between steps."""
        return self.options.max_grad_norm

    @max_grad_norm.setter
    def max_grad_norm(self, value: float | None) -> None:
        options = replace(self.options, max_grad_norm=value)
        if options.takes_norm and self._plan is not None:
            check_one_norm(self._plan)
        self.options = options

    @torch.no_grad()
    def refresh_hyperparameters(self) -> None:
        """Upload changed hyper-parameters without a step: what replays of a captured step will use."""
        if self._plan is not None and self._plan.engine is not None:
            self._set_hyperparameters(self._plan.engine)
            self._plan.engine.replenish()

    @torch.compiler.disable  # it launches kernels by addresses, of which a compiled graph knows nothing
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Make one step.

        Args:
            closure: re-evaluates the model and returns the loss.

        Returns:
            The closure's loss, or None.

        Raises:
            OptimizerError: a gradient is sparse, or a graph capture began before the first step or after a change of
                hyper-parameters.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        plan = self._current_plan()
        scaling = getattr(self, "grad_scale", None), getattr(self, "found_inf", None)
        if plan.engine is not None:
            device = plan.engine.device
            if is_capturing(device):
                self._captured = plan.engine  # replays use its memory, whatever plan comes before the next capture
            self._step_engine(plan.engine, (_on(scaling[0], device), _on(scaling[1], device)))
            self._norm = plan.engine.norm if self.options.takes_norm else None
        if plan.fallback:
            self._step_on_torch(plan, scaling)
        if plan.watch is None:
            plan.watch = StateWatch(self.state, self._state_names)
        return loss

    def _current_plan(self) -> Plan[EngineT]:
        """The plan, made anew when parameters, states or types changed, or gradients appeared for the first time."""
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

    # ---------------------------------------------------------------- torch.optim's protocol

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; it may come in the middle of training."""
        super().add_param_group(param_group)
        self._plan = None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state of this optimizer or of the one that it replaces."""
        final: list[dict[str, Any]] = []  # what the user's hooks made of it

        def before(_: Optimizer, loaded: dict[str, Any]) -> None:
            self._check_loaded(loaded)
            final.append(loaded)

        hooks = [
            self.register_load_state_dict_pre_hook(before),
            self.register_load_state_dict_post_hook(lambda _: keep_state_types(self, final[0]), prepend=True),
        ]
        try:
            super().load_state_dict(state_dict)
        finally:
            for hook in hooks:
                hook.remove()

    def _check_loaded(self, state_dict: dict[str, Any]) -> None:
        """Refuse a state that this optimizer cannot go on from."""

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "options": self.options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__.setdefault("_captured", None)
        self._forget()


def _on(value: Tensor | None, device: torch.device) -> Tensor | None:
    return None if value is None else value.to(device, dtype=torch.float32, non_blocking=True)
