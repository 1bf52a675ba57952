"""The op streams of the measured models, recorded as dry runs from their Hugging Face configurations."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

from edgeroof.profiler import costs
from edgeroof.profiler.costs import Cost
from edgeroof.profiler.ops import OpRecord
from edgeroof.workloads.classic_attention import CLASSIC
from edgeroof.workloads.dry import dry_model

#: The measurements are of 2023, and so is their attention.
ATTENTION = CLASSIC

_GPT2 = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 50257}

CONFIGS: dict[str, dict[str, Any]] = {
    "bert_large": {
        "model_type": "bert", "architectures": ["BertForMaskedLM"], "hidden_size": 1024, "num_hidden_layers": 24,
        "num_attention_heads": 16, "intermediate_size": 4096, "vocab_size": 30522, "max_position_embeddings": 512,
    },
    "gpt2_large": {**_GPT2, "n_embd": 1280, "n_layer": 36, "n_head": 20, "n_positions": 1024},
    "gpt3_xl": {**_GPT2, "n_embd": 3072, "n_layer": 24, "n_head": 24, "n_positions": 2048},
    "gpt3_27": {**_GPT2, "n_embd": 2560, "n_layer": 32, "n_head": 32, "n_positions": 2048},
    "opt_13": {
        "model_type": "opt", "architectures": ["OPTForCausalLM"], "hidden_size": 2048, "word_embed_proj_dim": 2048,
        "ffn_dim": 8192, "num_hidden_layers": 24, "num_attention_heads": 32, "max_position_embeddings": 2048,
        "vocab_size": 50272, "activation_function": "relu",
    },
    "switchxl4": {
        "model_type": "switch_transformers", "architectures": ["SwitchTransformersForConditionalGeneration"],
        "d_model": 1024, "d_ff": 16384, "d_kv": 128, "num_heads": 32, "num_layers": 24, "num_decoder_layers": 24,
        "num_experts": 4, "num_sparse_encoder_layers": 12, "num_sparse_decoder_layers": 12, "expert_capacity": 64,
        "vocab_size": 32128,
    },
}  # fmt: skip


@functools.cache
def op_stream(model: str, mode: str, sequence: int, batch: int) -> tuple[tuple[OpRecord, Cost | None], ...]:
    """Ops of one pass with their costs; the loss is left out, which the measurements did not time."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / f"{model}.json"
        config.write_text(json.dumps(CONFIGS[model]), encoding="utf-8")
        dry = dry_model(str(config), mode, batch=batch, sequence=sequence, attention=ATTENTION)
    return tuple((record, costs.price(record)) for record in dry.records if record.phase != "loss")
