"""Fused operators in a T5: ``fuse(model)`` puts them in, ``unfuse(model)`` takes them out.

    model = fuse(AutoModelForSeq2SeqLM.from_pretrained("google/flan-t5-base"))

Modules keep their classes, names and weights: each fused one gets a forward of its own, so state dicts, hooks, adapters
and other models are as before. Copies and pickles of a fused model are fused. T5 and FLAN-T5 of transformers 4.57 to
5.24 are supported, in training and inference. ``docs/fused-kernels.md`` says what each part saves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .patching import attention, flash, layers, loss
from .patching.structure import PatchError, Replacement, stacks, t5_class
from .registration import register_costs

if TYPE_CHECKING:
    from torch import nn

__all__ = ["DEFAULT", "FLASH", "PARTS", "PatchError", "fuse", "fused_parts", "unfuse"]

#: What can be fused, and what it covers.
PARTS = {
    "softmax": "scores + position bias + mask, softmax, dropout of every attention",
    "attention": "every attention as a whole, in the flash style; instead of softmax",
    "rms_norm": "norms, each with the dropout and residual add before it",
    "gated_gelu": "gelu_new(a) * b and its dropout in every gated feed-forward",
    "cross_entropy": "the loss that the model computes from labels",
}

#: What is fused unless it is said, and the same with attentions in the flash style.
DEFAULT = ("softmax", "rms_norm", "gated_gelu", "cross_entropy")
FLASH = ("attention", "rms_norm", "gated_gelu", "cross_entropy")

_PLANS: dict[str, Callable[[nn.Module], Iterator[Replacement]]] = {
    "softmax": attention.plan,
    "attention": flash.plan,
    "rms_norm": layers.plan_norms,
    "gated_gelu": layers.plan_gates,
    "cross_entropy": loss.plan,
}

#: Parts that not every T5 has, and the class of the modules that others have for them: T5 v1.0 has no gates, an encoder
#: alone no loss.
_OPTIONAL = {"gated_gelu": "T5DenseGatedActDense", "cross_entropy": "T5ForConditionalGeneration"}

#: By its forward, a fused module is known again, also in a copy of the model.
_PART_OF: dict[Callable[..., Any], str] = {
    attention.table_forward: "softmax",
    attention.inline_forward: "softmax",
    flash.flash_forward: "attention",
    layers.norm_forward: "rms_norm",
    layers.self_attention_forward: "rms_norm",
    layers.cross_attention_forward: "rms_norm",
    layers.feed_forward: "rms_norm",
    layers.gate_forward: "gated_gelu",
    loss.forward_with_loss: "cross_entropy",
}


def fuse(model: nn.Module, only: Iterable[str] | None = None) -> nn.Module:
    """Let a T5 compute with fused operators.

    Everything is checked before anything is changed.

    Args:
        model: a T5 or FLAN-T5, or a module that holds one, such as a model with LoRA adapters. It is changed in place.
        only: names in :data:`PARTS`, such as all of :data:`FLASH`; None means :data:`DEFAULT`, without gates in a T5
            v1.0, which has none, and without the loss in a model that computes none.

    Returns:
        The same model.

    Raises:
        UsageError: there is no such part, or two that exclude each other are named.
        PatchError: the model is no T5, is fused already, lacks a part, has another attention than eager or SDPA, or is
            of a release of transformers with another T5 than those known.
    """
    chosen = _chosen(only)
    stacks(model)
    already = fused_parts(model)
    if already:
        raise PatchError(f"this {type(model).__name__} is fused already ({', '.join(already)}); unfuse it first")
    planned = {part: list(_PLANS[part](model)) for part in chosen}
    missing = [
        part for part, found in planned.items() if not found and (only is not None or not _may_lack(model, part))
    ]
    if missing:
        raise PatchError(
            f"{type(model).__name__} has no {' and no '.join(missing)} that is as transformers has it; leave that out "
            "of only="
        )
    for found in planned.values():
        for module, name, value in found:
            setattr(module, name, value)
    register_costs()
    return model


def unfuse(model: nn.Module) -> nn.Module:
    """Undo :func:`fuse`; a model that is not fused stays as it is.

    Returns:
        The same model.
    """
    if "softmax" in fused_parts(model):
        attention.restore(model)
    for module in model.modules():
        if _part_of(module) is not None:
            del module.forward
    return model


def fused_parts(model: nn.Module) -> tuple[str, ...]:
    """Names of the parts that are fused in a model."""
    found = {_part_of(module) for module in model.modules()}
    return tuple(part for part in PARTS if part in found)


def _chosen(only: Iterable[str] | None) -> tuple[str, ...]:
    if only is None:
        return DEFAULT
    named = {only} if isinstance(only, str) else set(only)
    unknown = sorted(named - set(PARTS))
    if unknown or not named:
        raise UsageError(f"nothing to fuse is called {', '.join(unknown) or 'so'}; there are {', '.join(PARTS)}")
    if {"softmax", "attention"} <= named:
        raise UsageError("attention is fused instead of softmax; name one of them")
    return tuple(part for part in PARTS if part in named)


def _may_lack(model: nn.Module, part: str) -> bool:
    """Whether a part is one that not every T5 has, and this model has no module for it, of a subclass either."""
    return part in _OPTIONAL and not any(isinstance(module, t5_class(_OPTIONAL[part])) for module in model.modules())


def _part_of(module: nn.Module) -> str | None:
    forward = vars(module).get("forward")
    return _PART_OF.get(forward.func) if isinstance(forward, partial) else None
