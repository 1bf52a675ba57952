"""The model of a step in other forms that train the very same weights: fused, compiled, with eager attention.

Each form is a copy of the modules that shares all parameters, so it costs no memory, and a step with one form can take
turns with a step with another.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..kernels.declarations import Check
from ..kernels.suites.compiled import why_not
from .flan_t5 import init_weights, shipped_config
from .step import ClientStep

if TYPE_CHECKING:
    import torch

#: Precisions with fp32 weights.
CHECKED_PRECISIONS = ("fp32", "tf32", "bf16")
#: Two layers of the real width are as hard to get right as twelve, and quick to check in float64.
_CHECKED = {"num_layers": 2, "num_decoder_layers": 2, "vocab_size": 512, "dropout_rate": 0.0}


def _fused(model: Any) -> Any:
    from ..kernels.patch import fuse

    return fuse(model)


def _flash(model: Any) -> Any:
    from ..kernels.patch import FLASH, fuse

    return fuse(model, only=FLASH)


def _compiled(model: Any) -> Any:
    import torch

    return torch.compile(model)


def _eager_attention(model: Any) -> Any:
    model.set_attn_implementation("eager")
    return model


#: Forms by name: what they are, and what makes one of a copy of the model.
FORMS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "fused-model": ("edgeroof's fused operators in the model", _fused),
    "flash-model": ("the same with whole attentions in the flash style", _flash),
    "compiled-model": ("the model through torch.compile", _compiled),
    "eager-attention": ("transformers' eager attention", _eager_attention),
}

#: What ``attention`` is in the configuration of a form, where it is not the step's.
_ATTENTION = {"flash-model": "flash", "eager-attention": "eager"}

#: Forms that compute with edgeroof's operators.
FUSED = ("fused-model", "flash-model")


def form_providers() -> Iterator[tuple[str, str, str]]:
    """Name, optimizer and form of what a suite of steps compares: each form with AdamW, and all of edgeroof's."""
    for form in FORMS:
        yield f"adamw+{form}", "adamw", form
    yield "fused-adamw+fused-model", "fused-adamw", "fused-model"


def form_unavailable(form: str, precision: str, device: str) -> str | None:
    """Why a form cannot be compared; ``None`` when it can."""
    if precision not in CHECKED_PRECISIONS:
        return f"forms of the model are checked in {', '.join(CHECKED_PRECISIONS)}, not in {precision}"
    return why_not(device) if form == "compiled-model" else None


def step_with(step: ClientStep, form: str) -> ClientStep:
    """The same step, on the same weights and data, with its model in another form.

    Args:
        step: of a model that is not fused.
        form: one of :data:`FORMS`.
    """
    other = copy.copy(step)
    other.model = FORMS[form][1](sharing_copy(step.model))
    attention = _ATTENTION.get(form, step.config.attention)
    other.config = dataclasses.replace(step.config, fused=form in FUSED, attention=attention)
    return other


def sharing_copy(model: Any) -> Any:
    """A copy of a model's modules, whose parameters and buffers are those of the model."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, shared)


def check_form(form: str, size: str, precision: str, device: str, seed: int) -> Check:
    """Compare the gradients of a form with float64, and its error with that of the plain model.

    Args:
        form: one of :data:`FORMS`.
        size: of FLAN-T5; two of its layers are checked.
        precision: of the client, one of :data:`CHECKED_PRECISIONS`.
        device: where.
        seed: of weights and tokens.

    Returns:
        The error of the gradient that comes nearest to what is allowed, relative to its norm; allowed is twice that of
        eager attention, plus 1e-5.

    Raises:
        UsageError: there is no such size.
    """
    from transformers import T5Config, T5ForConditionalGeneration

    settings = {name: value for name, value in shipped_config(size).items() if name not in ("model_type", "use_cache")}
    config = T5Config(**(settings | _CHECKED))
    config._attn_implementation = "eager"
    plain = T5ForConditionalGeneration(config).train()
    init_weights(plain, seed)
    plain = plain.to(device)
    batch = _checked_batch(seed, device)
    other = FORMS[form][1](copy.deepcopy(plain))
    truth = gradients(in_float64(plain), batch, "fp32")
    allowed, found = (_errors(gradients(model, batch, precision), truth) for model in (plain, other))
    limits = {name: 2 * error + 1e-5 for name, error in allowed.items()}
    worst = max(found, key=lambda name: found[name] / limits[name])
    measure = "relative error of a gradient of two layers; allowed is twice that of eager, plus 1e-5"
    return Check(found[worst], limits[worst], measure, worst)


def _checked_batch(seed: int, device: str) -> dict[str, torch.Tensor]:
    import torch

    generator = torch.Generator().manual_seed(seed)
    ids, labels = (torch.randint(3, 512, (2, length), generator=generator) for length in (48, 16))
    mask = torch.ones_like(ids)
    mask[1, 30:], labels[0, 12:] = 0, -100
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device), "labels": labels.to(device)}


def gradients(model: Any, batch: dict[str, torch.Tensor], precision: str) -> dict[str, torch.Tensor]:
    """Gradients of the model's own loss by the names of their parameters.

    Args:
        model: a T5 language model, compiled or not.
        batch: ``input_ids``, ``attention_mask`` and ``labels``.
        precision: ``bf16`` for autocast.
    """
    import torch

    mixed = torch.autocast(batch["input_ids"].device.type, dtype=torch.bfloat16)
    model.zero_grad(set_to_none=True)
    with mixed if precision == "bf16" else contextlib.nullcontext():
        loss = model(**batch, use_cache=False).loss
    loss.backward()
    named = ((name.removeprefix("_orig_mod."), parameter) for name, parameter in model.named_parameters())
    return {name: parameter.grad.clone() for name, parameter in named if parameter.grad is not None}


def in_float64(model: Any) -> Any:
    """A copy of a T5 in float64 throughout; transformers' own norm would go through float32."""
    exact = copy.deepcopy(model).double()
    for module in exact.modules():
        if type(module).__name__ == "T5LayerNorm":
            module.forward = _float64_norm.__get__(module)
    return exact


def _float64_norm(norm: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    variance = hidden_states.pow(2).mean(-1, keepdim=True)
    return norm.weight * hidden_states * (variance + norm.variance_epsilon).rsqrt()


def _errors(found: dict[str, torch.Tensor], truth: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: float((found[name].double() - exact).norm() / exact.norm()) for name, exact in truth.items()}
