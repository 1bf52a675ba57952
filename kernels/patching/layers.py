"""T5's norms, residual adds and gated feed-forward on the fused operators.

A T5 layer is ``h + dropout(f(norm(h)))``, and what follows its sum is the norm of the next layer, in the same block, in
the next one, or at the end of the stack. The sum and that norm are one operator, run by the layer that has the sum; the
norm's result is kept for that very tensor, for as long as there is the tensor. The next norm takes it if it is asked to
norm this tensor, and computes its own otherwise, so hooks that replace hidden states, another order of layers, or a
norm put in place of ours cost speed and not correctness.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from ..gated_gelu import gated_gelu
from ..rms_norm import add_rms_norm, rms_norm
from .structure import PatchError, Replacement, computes_as, expect, find, new_forward, stacks, t5_class
from .submodules import is_altered, rate_of

if TYPE_CHECKING:
    from torch import nn

#: Class of the activation that can be fused.
ACTIVATION = "NewGELUActivation"

#: Norms that were computed with a sum, by the sum. No attributes of it: copies and pickles would contain them.
_carried: Any = WeakTensorKeyDictionary()


class Normed(NamedTuple):
    """The norm of a tensor, computed ahead.

    Attributes:
        norm: the module it is for.
        result: what that module would compute.
        version: of the tensor, to notice in-place changes.
    """

    norm: Any
    result: Tensor
    version: int | None


class Following(NamedTuple):
    """The norm after a layer.

    Attributes:
        norm: of the next layer.
        blocks: the blocks on both sides of a boundary between; empty within a block.
    """

    norm: Any
    blocks: tuple[Any, ...] = ()


# --------------------------------------------------------------------------------- norms and residual adds


def plan_norms(model: nn.Module) -> Iterator[Replacement]:
    """What to replace so that all norms are fused, with the residual adds before them."""
    for path, norm in find(model, "T5LayerNorm"):
        yield new_forward(path, norm, partial(norm_forward, norm))
    for stack in stacks(model):
        for path, layer, following in _followings(stack):
            if computes_as(following.norm, "T5LayerNorm"):
                yield new_forward(path, layer, partial(_forward_of(path, layer), layer, following=following))


def _followings(stack: Any) -> Iterator[tuple[str, Any, Following]]:
    """Each layer of a stack, with the norm after it."""
    blocks = list(stack.block)
    for index, block in enumerate(blocks):
        layers = list(block.layer)
        for number, layer in enumerate(layers):
            path = f"block.{index}.layer.{number}"
            if number + 1 < len(layers):
                yield path, layer, Following(layers[number + 1].layer_norm)
            elif index + 1 < len(blocks):
                yield path, layer, Following(blocks[index + 1].layer[0].layer_norm, (block, blocks[index + 1]))
            else:
                yield path, layer, Following(stack.final_layer_norm, (block,))


def _forward_of(path: str, layer: Any) -> Any:
    if isinstance(layer, t5_class("T5LayerSelfAttention")):
        return self_attention_forward
    if isinstance(layer, t5_class("T5LayerCrossAttention")):
        return cross_attention_forward
    expect(path, layer, "T5LayerFF")
    return feed_forward


def norm_forward(norm: Any, hidden_states: Tensor) -> Tensor:
    """Forward of T5LayerNorm."""
    carried = carried_by(hidden_states)
    if carried is not None and carried.norm is norm and _holds(carried, hidden_states):
        return carried.result
    return rms_norm(hidden_states, norm.weight, norm.variance_epsilon)


def carried_by(hidden_states: Tensor) -> Normed | None:
    """The norm that was computed with a sum, if it was; in a graph of torch.compile tensors carry nothing."""
    return None if torch.compiler.is_compiling() else _carried.get(hidden_states)


def self_attention_forward(
    layer: Any, hidden_states: Tensor, attention_mask: Tensor | None = None, *, following: Following, **options: Any
) -> tuple[Any, ...]:
    """Forward of T5LayerSelfAttention."""
    attended, *others = layer.SelfAttention(layer.layer_norm(hidden_states), mask=attention_mask, **options)
    return (add(layer, hidden_states, attended, following), *others)


def cross_attention_forward(
    layer: Any,
    hidden_states: Tensor,
    key_value_states: Tensor,
    attention_mask: Tensor | None = None,
    *,
    following: Following,
    **options: Any,
) -> tuple[Any, ...]:
    """Forward of T5LayerCrossAttention."""
    attended, *others = layer.EncDecAttention(
        layer.layer_norm(hidden_states), mask=attention_mask, key_value_states=key_value_states, **options
    )
    return (add(layer, hidden_states, attended, following), *others)


def feed_forward(layer: Any, hidden_states: Tensor, *, following: Following) -> Tensor:
    """Forward of T5LayerFF."""
    return add(layer, hidden_states, layer.DenseReluDense(layer.layer_norm(hidden_states)), following)


def add(layer: Any, residual: Tensor, update: Tensor, following: Following) -> Tensor:
    """``residual + dropout(update)``, which carries the norm that follows."""
    if not _fusible(residual, following):
        return residual + layer.dropout(update)
    norm, rate = following.norm, rate_of(layer.dropout)
    if rate is None:
        update, rate = layer.dropout(update), 0.0
    total, normed = add_rms_norm(residual, update, norm.weight, norm.variance_epsilon, dropout=rate)
    _carried[total] = Normed(norm, normed, _version(total))
    return total


def _fusible(residual: Tensor, following: Following) -> bool:
    """Whether the norm will see this very sum, and may have been computed for it already.

    T5 clamps fp16 sums before the norm. A checkpointed block would keep the norm of the next one alive, or lose it. In
    a graph of torch.compile tensors carry nothing; there the compiler fuses the sum with what is beside it.
    """
    if torch.compiler.is_compiling():
        return False
    if residual.dtype == torch.float16 or following.norm.weight.device != residual.device:
        return False
    return not any(getattr(block, "gradient_checkpointing", False) and block.training for block in following.blocks)


def _holds(carried: Normed, hidden_states: Tensor) -> bool:
    """Whether the carried norm is still that of the tensor.

    A reentrant checkpoint makes the sum differentiable after the fact, but not what the sum carries.
    """
    if carried.version != _version(hidden_states):
        return False
    wants_gradient = hidden_states.requires_grad or carried.norm.weight.requires_grad
    return carried.result.requires_grad or not (torch.is_grad_enabled() and wants_gradient)


def _version(tensor: Tensor) -> int | None:
    untracked = torch.compiler.is_compiling() or tensor.is_inference()
    return None if untracked else tensor._version


# --------------------------------------------------------------------------------------- gated feed-forward


def plan_gates(model: nn.Module) -> Iterator[Replacement]:
    """What to replace so that gated feed-forwards with T5's approximate GELU are fused; T5 v1.0 has none."""
    for path, dense in find(model, "T5DenseGatedActDense"):
        activation = type(dense.act).__name__
        if activation != ACTIVATION:
            raise PatchError(f"{path} is gated with {activation}, only gelu_new can be fused; leave gated_gelu out")
        yield new_forward(path, dense, partial(gate_forward, dense))


def gate_forward(dense: Any, hidden_states: Tensor) -> Tensor:
    """Forward of T5DenseGatedActDense; its own one where the activation is no longer the one that is fused."""
    if type(dense.act).__name__ != ACTIVATION or is_altered(dense.act):
        return type(dense).forward(dense, hidden_states)
    rate = rate_of(dense.dropout)
    gated = gated_gelu(dense.wi_0(hidden_states), dense.wi_1(hidden_states), dropout=rate or 0.0)
    if rate is None:
        gated = dense.dropout(gated)
    weight = dense.wo.weight
    # transformers keeps wo in fp32 where the rest is half; autocast chooses by itself.
    if isinstance(weight, Tensor) and weight.dtype not in (gated.dtype, torch.int8) and not _autocasts(gated):
        gated = gated.to(weight.dtype)
    return dense.wo(gated)


def _autocasts(tensor: Tensor) -> bool:
    return torch.is_autocast_enabled(tensor.device.type)
