"""A two-layer T5 and one marked training step: enough to cross every path, small enough to run in a second."""

from collections.abc import Callable
from typing import Any

import torch
from transformers import T5Config, T5ForConditionalGeneration

from edgeroof.profiler.phases import phase


def tiny_t5(attention: str = "sdpa") -> T5ForConditionalGeneration:
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=256, d_model=64, d_ff=128, num_layers=2, num_decoder_layers=2, num_heads=2, d_kv=32,
        feed_forward_proj="gated-gelu", decoder_start_token_id=0,
    )  # fmt: skip
    config._attn_implementation = attention
    return T5ForConditionalGeneration(config)


def training_step(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Callable[[], Any]:
    ids = torch.randint(2, 256, (2, 32))
    labels = torch.randint(2, 256, (2, 16))

    def step() -> None:
        with phase("zero_grad"):
            optimizer.zero_grad()
        with phase("forward"):
            loss = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss
        with phase("backward"):
            loss.backward()
        with phase("optimizer"):
            optimizer.step()

    return step
