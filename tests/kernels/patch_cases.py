"""Small T5 models and what is compared of them."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import T5Config, T5ForConditionalGeneration
from transformers.models.t5 import modeling_t5

from edgeroof.workloads.step_models import in_float64

VOCABULARY = 96


def small_t5(attention: str = "eager", dropout: float = 0.0, cls: Any = T5ForConditionalGeneration, **changes: Any):
    """A two-layer T5 v1.1 in training mode."""
    sizes = {"vocab_size": VOCABULARY, "d_model": 32, "d_ff": 48, "d_kv": 8, "num_heads": 3, "num_layers": 2}
    settings = {"feed_forward_proj": "gated-gelu", "decoder_start_token_id": 0, "dropout_rate": dropout}
    config = T5Config(**(sizes | settings | changes))
    config._attn_implementation = attention
    torch.manual_seed(0)
    model = cls(config).train()
    with torch.no_grad():
        for parameter in model.parameters():  # norms that scale, and a position bias that matters
            parameter.copy_(0.1 * torch.randn_like(parameter) + (parameter.dim() == 1))
    return model


def supported_attentions() -> tuple[str, ...]:
    """Attentions of this release of transformers."""
    return ("eager", "sdpa") if hasattr(modeling_t5, "eager_attention_forward") else ("eager",)


def checkpointed(model: Any, reentrant: bool) -> Any:
    """The model with checkpointing of its blocks."""
    enable = getattr(model, "activation_checkpointing_enable", None)
    if enable:
        enable(activation_checkpointing_kwargs={"use_reentrant": reentrant})
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    return model


def sample_batch(seed: int = 1) -> dict[str, torch.Tensor]:
    """Three sources with padding, three targets with labels that carry no loss."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, VOCABULARY, (3, 19), generator=generator)
    labels = torch.randint(3, VOCABULARY, (3, 11), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 12:], mask[2, 5:], labels[2, 6:] = 0, 0, -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def mixed(bf16: bool) -> contextlib.AbstractContextManager[Any]:
    return torch.autocast("cpu", dtype=torch.bfloat16) if bf16 else contextlib.nullcontext()


def loss_and_gradients(model: Any, bf16: bool = False) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """One forward and backward pass over the sample."""
    model.zero_grad()
    with mixed(bf16):
        loss = model(**sample_batch(), use_cache=False).loss
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


def losses(model: Any, bf16: bool = False) -> torch.Tensor:
    """Losses of several batches: that of one may be right by chance, to more digits than its type has."""
    with torch.no_grad(), mixed(bf16):
        return torch.stack([model(**sample_batch(seed), use_cache=False).loss.double() for seed in range(8)])


def relative_error(found: torch.Tensor, exact: torch.Tensor) -> float:
    """Norm of the difference, as a share of the norm."""
    return float((found.double() - exact).norm() / exact.norm())


def assert_as_exact_as_eager(plain: Any, fused: Any, bf16: bool = False) -> None:
    """Losses and every gradient: against float64, at most twice the error of eager, plus 1e-5."""
    exact = in_float64(plain)
    truths, eager, ours = (
        loss_and_gradients(model, low)[1] | {"loss": losses(model, low)}
        for model, low in ((exact, False), (plain, bf16), (fused, bf16))
    )
    errors = {
        name: (relative_error(ours[name], truth), relative_error(eager[name], truth)) for name, truth in truths.items()
    }
    assert {name: pair for name, pair in errors.items() if pair[0] > 2 * pair[1] + 1e-5} == {}


class OpNames(TorchDispatchMode):
    """Notes the names of our operators as they are dispatched."""

    def __init__(self) -> None:
        super().__init__()
        self.ours: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "edgeroof":
            self.ours.append(func._schema.name.removeprefix("edgeroof::"))
        return func(*args, **(kwargs or {}))
