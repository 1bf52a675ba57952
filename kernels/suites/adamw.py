"""The suite ``adamw``: one AdamW step over the parameters of a FLAN-T5, with and without gradient clipping."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
from collections.abc import Callable, Sequence
from typing import Any

from ..declarations import Suite
from .compiled import CompiledAdamW, compiled_step, why_not
from .optimizers import (
    CLIP_PASSES,
    UPDATE_TOLERANCE,
    Hyper,
    OptimizerProblem,
    OptimizerProvider,
    optimizer_provider,
    optimizer_suite,
    t5_problems,
    without_ours,
)
from .t5_shapes import Shape, elements

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

#: Multiplications, additions, one square root and two divisions of an element, none counted twice.
FLOPS_PER_PARAMETER = 14

#: Passes over memory of one element (reads and writes of p, g, m, v or a temporary), each of one item.
#: One pass over everything: read p, g, m, v and write p, m, v.
FUSED_PASSES = 7
#: Op by op: decay 2, lerp 3, square average 2 + 3, square root 2, correction 2, epsilon 2, update 4.
EAGER_PASSES = 20

#: Bytes per parameter to read and write both states in fp32, which apex and bitsandbytes keep for bf16 parameters too.
FP32_STATES = 16
#: Bytes per parameter to read and write both states in 8 bits, with an fp32 scale per block of 256 elements.
EIGHT_BIT_STATES = 4 * (1 + 4 / 256)
#: Parameters beyond which small states take seconds a step on a CPU.
MOST_REDUCED_ON_CPU = 10_000_000
#: What rounding states to bf16 may do to the first steps' updates, relative to the largest; the same for 8 bits.
HALF_STATE_TOLERANCE = 0.02
EIGHT_BIT_TOLERANCE = 0.2


def adamw_suite(dtype: str = "fp32", clip_norm: float | None = None) -> Suite:
    """The suite for parameters and gradients of one dtype.

    Args:
        dtype: ``fp32`` or ``bf16``.
        clip_norm: clip the gradient to this norm within the call; ``None`` does not clip.
    """
    return optimizer_suite(
        "adamw",
        "one AdamW step",
        providers=(*_torch_providers(), *_our_providers(), *_other_providers()),
        problems=t5_problems(FLOPS_PER_PARAMETER, _floor_bytes, dtype, clip_norm),
        clip_norm=clip_norm,
        baseline="torch-fused",
        reference=adamw_float64,
        notes=(
            "Bytes are what each provider has to move by design; temporaries count, caches and paging do not.",
            "Liger-Kernel is no provider: it has kernels for models, none for optimizers.",
        ),
    )


def adamw_float64(before: list[Any], gradients: list[list[Any]], hyper: Hyper) -> list[Any]:
    """The truth: steps of :func:`edgeroof.kernels.reference.adamw_reference` from zero states."""
    from ..reference import AdamWState, adamw_reference

    settings: dict[str, Any] = {"lr": hyper.lr, "weight_decay": hyper.weight_decay}
    after = []
    for index, parameter in enumerate(before):
        state = AdamWState.zeros_like(parameter)
        for of_step in gradients:
            parameter = adamw_reference(parameter, of_step[index], state, betas=(BETA1, BETA2), eps=EPSILON, **settings)
        after.append(parameter)
    return after


def _floor_bytes(shapes: Sequence[Shape], item: int) -> float:
    return FUSED_PASSES * item * elements(tuple(shapes))


def _passes(items: int, state_bytes: float = 0, *, clips_itself: bool = False) -> Callable[[OptimizerProblem], float]:
    """Bytes of a call that moves so many items, and bytes of states in a format of their own, per parameter.

    Clipping that is fused reads the gradient once more.
    """

    def bytes_moved(problem: OptimizerProblem) -> float:
        clipping = 0 if problem.clip_norm is None else 1 if clips_itself else CLIP_PASSES
        return ((items + clipping) * problem.item_bytes + state_bytes) * problem.parameters

    return bytes_moved


def _provider(name: str, description: str, make: Any, **options: Any) -> OptimizerProvider:
    return optimizer_provider(name, description, make, adamw_float64, elementwise=True, **options)


def _torch_adamw(parameters: list[Any], problem: OptimizerProblem, hyper: Hyper, **options: Any) -> Any:
    import torch

    return torch.optim.AdamW(
        parameters, lr=hyper.lr, betas=(BETA1, BETA2), eps=EPSILON, weight_decay=hyper.weight_decay, **options
    )


def _compiled(parameters: list[Any], problem: OptimizerProblem, hyper: Hyper) -> Any:
    import torch

    if parameters[0].device.type == "cpu":
        return CompiledAdamW(parameters, hyper.lr, hyper.weight_decay)
    lr = hyper._replace(lr=torch.tensor(hyper.lr, device=parameters[0].device))  # type: ignore[arg-type]
    return compiled_step(_torch_adamw(parameters, problem, lr, foreach=True, capturable=True))


def _only_cuda(reason: str) -> Callable[[OptimizerProblem, str], str | None]:
    return lambda problem, device: None if device == "cuda" else reason


def _torch_providers() -> tuple[OptimizerProvider, ...]:
    loop = functools.partial(_torch_adamw, foreach=False, fused=False)
    foreach = functools.partial(_torch_adamw, foreach=True, fused=False)
    fused = functools.partial(_torch_adamw, fused=True)
    graph = functools.partial(_torch_adamw, fused=True, capturable=True)
    return (
        _provider("torch-loop", "a dozen ops per tensor", loop, bytes_moved=_passes(EAGER_PASSES)),
        _provider("torch-foreach", "a dozen ops over lists of all tensors", foreach, bytes_moved=_passes(EAGER_PASSES)),
        _provider("torch-fused", "one op that goes over everything once", fused, bytes_moved=_passes(FUSED_PASSES)),
        _provider(
            "torch-compile",
            "the update compiled by inductor (on a CPU tensor by tensor)",
            _compiled,
            bytes_moved=_passes(FUSED_PASSES),
            unavailable=lambda problem, device: why_not(device),
            build_once=("cuda",),
        ),
        _provider(
            "torch-fused-graph",
            "torch-fused replayed from a CUDA graph",
            graph,
            bytes_moved=_passes(FUSED_PASSES),
            graph=True,
            unavailable=_only_cuda("CUDA graphs need a GPU"),
        ),
    )


def _fused_adamw(parameters: list[Any], problem: OptimizerProblem, hyper: Hyper, **options: Any) -> Any:
    from ..optim import FusedAdamW

    return FusedAdamW(
        parameters,
        lr=hyper.lr,
        betas=(BETA1, BETA2),
        eps=EPSILON,
        weight_decay=hyper.weight_decay,
        max_grad_norm=problem.clip_norm,
        **options,
    )


def _without_ours(problem: OptimizerProblem, device: str) -> str | None:
    return without_ours("FusedAdamW")


def _our_bytes(state_dtype: str) -> Callable[[OptimizerProblem], float]:
    def bytes_moved(problem: OptimizerProblem) -> float:
        from ..optim import FusedAdamW

        clips = problem.clip_norm is not None
        return problem.parameters * FusedAdamW.bytes_per_parameter(problem.dtype, state_dtype=state_dtype, clip=clips)

    return bytes_moved


def _reduced(state_dtype: str) -> Callable[..., Any]:
    """FusedAdamW with small states; bf16 parameters are rounded stochastically, else small updates are lost."""

    def make(parameters: list[Any], problem: OptimizerProblem, hyper: Hyper) -> Any:
        options = {"state_dtype": state_dtype, "stochastic_rounding": problem.dtype == "bf16"}
        return _fused_adamw(parameters, problem, hyper, **options)

    return make


def _without_reduced(problem: OptimizerProblem, device: str) -> str | None:
    if device == "cpu" and problem.parameters > MOST_REDUCED_ON_CPU:
        return "small states are for GPUs; on a CPU they are computed op by op, so only LoRA sizes are timed there"
    return _without_ours(problem, device)


def _our_providers() -> tuple[OptimizerProvider, ...]:
    ours: dict[str, Any] = {"clips_itself": True, "unavailable": _without_ours}
    full, half, eight = (_our_bytes(state_dtype) for state_dtype in ("fp32", "bf16", "int8"))
    return (
        _provider("edgeroof", "FusedAdamW, fp32 states", _fused_adamw, bytes_moved=full, judged=True, **ours),
        _provider(
            "edgeroof-graph",
            "FusedAdamW, fp32 states, replayed from a CUDA graph",
            _fused_adamw,
            bytes_moved=full,
            judged=True,
            graph=True,
            **ours | {"unavailable": lambda p, d: _without_ours(p, d) or _only_cuda("CUDA graphs need a GPU")(p, d)},
        ),
        _provider(
            "edgeroof-bf16",
            "FusedAdamW, bf16 states",
            _reduced("bf16"),
            bytes_moved=half,
            tolerance=HALF_STATE_TOLERANCE,
            **ours | {"unavailable": _without_reduced},
        ),
        _provider(
            "edgeroof-8bit",
            "FusedAdamW, 8-bit states",
            _reduced("int8"),
            bytes_moved=eight,
            tolerance=EIGHT_BIT_TOLERANCE,
            **ours | {"unavailable": _without_reduced},
        ),
    )


def _installed(module: str, package: str, device: str) -> str | None:
    """Why a GPU library cannot be used; ``None`` if it can."""
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return f"{package} is not installed"
    if device != "cuda":
        return f"{package} {version} is installed, but its optimizers need a GPU"
    try:
        importlib.import_module(module)
    except Exception as error:  # libraries built for another CUDA fail in many ways
        return f"{package} {version} cannot be imported: {error}"
    return None


def _other_providers() -> tuple[OptimizerProvider, ...]:
    def from_library(module: str, name: str, **extra: Any) -> Callable[..., Any]:
        def make(parameters: list[Any], problem: OptimizerProblem, hyper: Hyper) -> Any:
            build = getattr(importlib.import_module(module), name)
            settings = {"lr": hyper.lr, "betas": (BETA1, BETA2), "eps": EPSILON, "weight_decay": hyper.weight_decay}
            return build(parameters, **settings, **extra)

        return make

    def provider(
        name: str, description: str, module: str, cls: str, package: str, moved: Any, **extra: Any
    ) -> OptimizerProvider:
        return _provider(
            name,
            description,
            from_library(module, cls, **extra),
            bytes_moved=moved,
            unavailable=lambda problem, device: _installed(module, package, device),
            tolerance=EIGHT_BIT_TOLERANCE if name.endswith("8bit") else UPDATE_TOLERANCE,
        )

    bnb, ao = "bitsandbytes.optim", "torchao.optim"
    wide, coded = _passes(3, FP32_STATES), _passes(3, EIGHT_BIT_STATES)
    return (
        provider("apex", "apex FusedAdam", "apex.optimizers", "FusedAdam", "apex", wide, adam_w_mode=True),
        provider("bitsandbytes", "bitsandbytes AdamW, 32-bit states", bnb, "AdamW", "bitsandbytes", wide),
        provider("bitsandbytes-8bit", "bitsandbytes AdamW8bit, 8-bit states", bnb, "AdamW8bit", "bitsandbytes", coded),
        provider("torchao-8bit", "torchao AdamW8bit, compiled", ao, "AdamW8bit", "torchao", coded),
        provider(
            "optimi", "optimi AdamW, a Triton launch per tensor", "optimi", "AdamW", "torch-optimi", _optimi_bytes,
            triton=True,
        ),
    )  # fmt: skip


def _optimi_bytes(problem: OptimizerProblem) -> float:
    """With bf16 parameters it reads and writes a compensation (Kahan's) as well."""
    return _passes(FUSED_PASSES + (2 if problem.dtype == "bf16" else 0))(problem)
