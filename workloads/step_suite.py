"""The suite ``step``: a whole client step with one optimizer against another, and the optimizer phase by itself.

All optimizers train one and the same model on the same batch; only the optimizer is exchanged between calls. Providers
with a plus exchange the form of the model as well, see :mod:`.step_models`; their weights are still the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..kernels.declarations import Check, Problem, Provider, Suite, Work
from ..kernels.suites.adafactor import adafactor_float64
from ..kernels.suites.adamw import EIGHT_BIT_TOLERANCE, HALF_STATE_TOLERANCE, adamw_float64
from ..kernels.suites.optimizers import (
    UPDATE_TOLERANCE,
    Hyper,
    OptimizerProblem,
    OptimizerProvider,
    Reference,
    check_on_fresh_inputs,
    optimizer_provider,
)
from ..kernels.suites.t5_shapes import FLAN_T5, elements, lora_shapes, parameter_shapes
from ..profiler.phases import listening
from ..profiler.timing import CudaClock, HostClock, StepTimer
from .client import build_client_step
from .client_config import ClientConfig
from .optimizers import OptimizerSettings, build_optimizer, optimizer_names, optimizer_spec
from .step_models import FORMS, FUSED, check_form, form_providers, form_unavailable, step_with

LORA_RANK = 8
#: Examples and tokens of a step where none are given: a CPU's is short, so that thirty pairs take half a minute.
DEFAULTS = {
    "cpu": {"batch_size": 1, "source_length": 128, "target_length": 32},
    "cuda": {"batch_size": 32, "source_length": 512, "target_length": 96},
}
#: What the registry calls edgeroof's own optimizers begins with this.
OURS = "fused-"
#: Forms of the model that are compared when none are named; compiling takes minutes on a CPU.
_DEFAULT_FORMS = {
    "cpu": ("adamw+fused-model",),
    "cuda": (
        "adamw+fused-model",
        "adamw+flash-model",
        "adamw+compiled-model",
        "adamw+eager-attention",
        "fused-adamw+fused-model",
    ),
}


@dataclass(frozen=True)
class StepProblem(Problem):
    """A client's step; the configuration's own optimizer is exchanged for each provider's."""

    config: ClientConfig = field(default_factory=ClientConfig)


@dataclass
class StepInputs:
    """The model and data that all optimizers train, and the batch they do it on."""

    step: Any
    batch: Any


def step_suite(*, precision: str = "fp32", clip_norm: float | None = None, kind: str = "cpu", **settings: Any) -> Suite:
    """The suite for clients of one precision.

    Args:
        precision: one of :data:`~edgeroof.workloads.client_config.PRECISIONS`.
        clip_norm: as in :class:`ClientConfig`.
        kind: ``cpu`` or ``cuda``, for the size of a step.
        **settings: other fields of :class:`ClientConfig`; those that are ``None`` keep the defaults of the device.

    Raises:
        UsageError: a setting makes no sense.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    config = ClientConfig(
        precision=precision, clip_norm=clip_norm, device=kind, **{**DEFAULTS[kind], **given, "steps": 1}
    )
    tokens = f"{config.source_length}/{config.target_length}"
    ours = tuple(name for name in optimizer_names() if name.startswith(OURS))
    return Suite(
        name="step",
        operation=f"one client step of {config.micro_batch} × {tokens} tokens in {precision}",
        providers=(*map(_provider, optimizer_names()), *(_form_provider(*names) for names in form_providers())),
        problems=_problems(config),
        defaults={"cpu": ("small",), "cuda": ("small", "base")},
        quick={"cpu": ("lora-small",), "cuda": ("lora-small", "small")},
        baseline="adamw",
        inputs=_inputs,
        check=_check,
        default_providers=("adamw-fused", *ours, *_DEFAULT_FORMS[kind]),
        notes=(
            "All optimizers train the same model in turn; 'rest' is the step without its optimizer phase.",
            "Each optimizer alone is checked against float64; training curves are not compared here.",
            "Names with a plus: the same weights in another form of the model; two layers of it are checked.",
        ),
    )


def _problems(config: ClientConfig) -> dict[str, StepProblem]:
    problems = {}
    for name, size in FLAN_T5.items():
        for prefix, shapes, rank in (
            ("", parameter_shapes(size), None),
            ("lora-", lora_shapes(size, LORA_RANK), LORA_RANK),
        ):
            problems[f"{prefix}{name}"] = StepProblem(
                name=f"{prefix}{name}",
                title=f"client step of FLAN-T5-{name}{f' with LoRA r={rank}' if rank else ''}, {config.precision}",
                parameters=elements(shapes),
                tensors=len(shapes),
                dtype="bf16" if config.precision == "bf16-pure" else "fp32",
                config=dataclasses.replace(config, model=name, lora_rank=rank),
            )
    return problems


def _inputs(problem: StepProblem, device: str) -> StepInputs:
    step = build_client_step(problem.config)
    return StepInputs(step, step.batches[0])


def _provider(name: str) -> Provider:
    def build(problem: StepProblem, inputs: StepInputs) -> Work:
        trained = [parameter for parameter in inputs.step.model.parameters() if parameter.requires_grad]
        config = problem.config
        settings = OptimizerSettings(config.learning_rate, config.weight_decay, config.device, config.clip_norm)
        timed = TimedStep(inputs, build_optimizer(name, trained, settings))
        return Work(timed, parts=timed.parts)

    return Provider(
        name,
        optimizer_spec(name).description,
        build,
        unavailable=lambda problem, device: optimizer_spec(name).unavailable(device) or _without_reference(name),
        judged=name.startswith(OURS),
    )


class TimedStep:
    """A step with one optimizer; after each call :meth:`parts` tells how long the optimizer phase took."""

    def __init__(self, inputs: StepInputs, optimizer: Any) -> None:
        self._inputs, self._optimizer = inputs, optimizer
        self._clock: Callable[[], Any] = CudaClock if inputs.step.device.type == "cuda" else HostClock
        self._timer: StepTimer | None = None

    def __call__(self) -> None:
        """Run the step."""
        self._inputs.step.optimizer = self._optimizer
        self._timer = StepTimer(self._clock())
        with listening(self._timer), self._timer.step():
            self._inputs.step.run(self._inputs.batch)
        self._inputs.step.optimizer = None  # whoever lets go of this object lets go of the optimizer's states

    def parts(self) -> Mapping[str, float]:
        """The optimizer phase and the rest of the last step in µs, by the device's clock."""
        assert self._timer is not None
        (timing,) = self._timer.results()
        optimizer = timing.device_ms["optimizer"]
        return {"optimizer": optimizer * 1e3, "rest": (timing.wall_ms - optimizer) * 1e3}


def sgd_float64(before: list[Any], gradients: list[list[Any]], hyper: Hyper, momentum: float = 0.0) -> list[Any]:
    """SGD in float64 with coupled weight decay, as torch defines it."""
    after = []
    for index, start in enumerate(before):
        p, velocity = start.clone(), start * 0
        for of_step in gradients:
            velocity = momentum * velocity + of_step[index] + hyper.weight_decay * p
            p = p - hyper.lr * velocity
        after.append(p)
    return after


def _momentum_float64(before: list[Any], gradients: list[list[Any]], hyper: Hyper) -> list[Any]:
    return sgd_float64(before, gradients, hyper, momentum=0.9)


def reference_of(name: str) -> Reference | None:
    """The float64 truth of a registered optimizer, by the family in its name; ``None`` for a family without one."""
    families: dict[str, Reference] = {
        "adamw": adamw_float64,
        "adafactor": adafactor_float64,
        "sgd-momentum": _momentum_float64,
        "sgd": sgd_float64,
    }
    return next((reference for family, reference in families.items() if family in name), None)


def _without_reference(name: str) -> str | None:
    return None if reference_of(name) else f"there is no float64 reference to check {name} against"


def _form_provider(name: str, optimizer: str, form: str) -> Provider:
    def build(problem: StepProblem, inputs: StepInputs) -> Work:
        return _provider(optimizer).build(problem, StepInputs(step_with(inputs.step, form), inputs.batch))

    def unavailable(problem: StepProblem, device: str) -> str | None:
        return optimizer_spec(optimizer).unavailable(device) or form_unavailable(form, problem.config.precision, device)

    description = f"{optimizer_spec(optimizer).description}; {FORMS[form][0]}"
    compiles = ("cpu", "cuda") if form == "compiled-model" else ()
    return Provider(name, description, build, unavailable, judged=form in FUSED, build_once=compiles)


def _check(provider: Provider, problem: StepProblem, device: str, seed: int) -> Check:
    _, _, form = provider.name.partition("+")
    if form:
        return check_form(form, problem.config.model, problem.config.precision, device, seed)
    reference = reference_of(provider.name)
    assert reference is not None
    tensors = OptimizerProblem("check", "check", problem.parameters, problem.tensors, problem.dtype)
    return check_on_fresh_inputs(_bare(provider.name, device, reference), tensors, device, seed, reference)


def _bare(name: str, device: str, reference: Reference) -> OptimizerProvider:
    """The optimizer alone, as the check of optimizer suites wants it."""

    def make(parameters: list[Any], problem: OptimizerProblem, hyper: Hyper) -> Any:
        return build_optimizer(name, parameters, OptimizerSettings(hyper.lr, hyper.weight_decay, device))

    return optimizer_provider(name, name, make, reference, tolerance=_tolerance(name))


def _tolerance(name: str) -> float:
    """Allowed relative error of the update: states of few bits, named at the end, round it."""
    return {"bf16": HALF_STATE_TOLERANCE, "8bit": EIGHT_BIT_TOLERANCE}.get(name.rpartition("-")[2], UPDATE_TOLERANCE)
