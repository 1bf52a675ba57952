"""T5's loss on the fused operators: from logits, or from hidden states without the logits ever being whole."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..cross_entropy import cross_entropy
from ..linear_cross_entropy import linear_cross_entropy
from .structure import PatchError, Replacement, find, new_forward, t5_class

if TYPE_CHECKING:
    from torch import nn


def plan(model: nn.Module) -> Iterator[Replacement]:
    """What to replace so that ``model(labels=...)`` has a fused loss; a T5 without a language model's head has none."""
    for path, module in find(model, "T5ForConditionalGeneration"):
        forward = partial(forward_with_loss, module)
        # generate() and trainers ask which arguments the model takes
        forward.__signature__ = inspect.signature(type(module).forward.__get__(module))  # type: ignore[attr-defined]
        yield new_forward(path, module, forward)


def forward_with_loss(model: Any, *arguments: Any, **options: Any) -> Any:
    """Forward of T5ForConditionalGeneration; only the loss from ``labels`` is ours."""
    original = type(model).forward
    options = _by_name(original, model, arguments, options)
    labels = options.get("labels")
    if labels is None:
        return original(model, **options)
    options["labels"] = None
    if options.get("decoder_input_ids") is None and options.get("decoder_inputs_embeds") is None:
        options["decoder_input_ids"] = model._shift_right(labels)
    as_tuple = not _returns_dict(model, options)
    output = original(model, **(options | {"return_dict": True}))
    loss = cross_entropy(output.logits, labels.to(output.logits.device))
    output = type(output)(**{**output, "loss": loss})
    return output.to_tuple() if as_tuple else output


def _by_name(original: Any, model: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
    """All arguments of a call by their names: releases of transformers order them differently.

    Raises:
        TypeError: the model would not take them either.
    """
    if not arguments:
        return options
    named = inspect.signature(original).bind(model, *arguments).arguments
    twice = [name for name in named if name in options]
    if twice:
        raise TypeError(f"forward() got multiple values for argument '{twice[0]}'")
    return {name: value for name, value in named.items() if value is not model} | options


def decoder_states(model: Any, *, input_ids: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor) -> Tensor:
    """What the head of a T5 language model is applied to, without applying it.

    Returns:
        [B, target length, d_model].

    Raises:
        PatchError: the model is not a T5 with a head.
    """
    if not isinstance(model, t5_class("T5ForConditionalGeneration")):
        raise PatchError(f"{type(model).__name__} is no T5 with a head, so its loss cannot be taken in chunks")
    encoded = model.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
    decoded = model.decoder(
        input_ids=decoder_input_ids, encoder_hidden_states=encoded, encoder_attention_mask=attention_mask,
        use_cache=False,
    ).last_hidden_state  # fmt: skip
    scaled = getattr(model.config, "scale_decoder_outputs", model.config.tie_word_embeddings)
    return decoded * model.model_dim**-0.5 if scaled else decoded


def loss_of_states(model: Any, states: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of the head's logits, which are never stored as a whole.

    Args:
        model: a T5 language model.
        states: from :func:`decoder_states`.
        labels: [B, target length], -100 where there is no loss.
    """
    return linear_cross_entropy(states, model.lm_head.weight, labels, bias=model.lm_head.bias)


def _returns_dict(model: Any, options: dict[str, Any]) -> bool:
    given = options.get("return_dict")
    if given is None:
        given = getattr(model.config, "return_dict", True)
    return bool(given)
