"""Dry and real records in a form that can be compared, and tiny models of every kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgeroof.profiler.ops import OpRecord, TensorMeta

#: The smallest configurations that still have every part, by model type.
TINY: dict[str, dict[str, Any]] = {
    "bert": {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64},
    "gpt2": {"n_layer": 2, "n_embd": 32, "n_head": 2},
    "opt": {"hidden_size": 32, "num_hidden_layers": 2, "ffn_dim": 64, "num_attention_heads": 2,
            "word_embed_proj_dim": 32},
    "llama": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
              "num_key_value_heads": 2},
    "bart": {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
             "encoder_attention_heads": 2, "decoder_attention_heads": 2},
    "mixtral": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4,
                "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2},
    "switch_transformers": {"d_model": 32, "d_ff": 64, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 2,
                            "d_kv": 16, "num_experts": 4, "num_sparse_encoder_layers": 1,
                            "num_sparse_decoder_layers": 1, "expert_capacity": 64},
}  # fmt: skip


def write_config(folder: Path, model_type: str, **changes: Any) -> str:
    """A bare ``config.json`` of a tiny model; its path."""
    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    path = folder / f"{model_type}.json"
    path.write_text(json.dumps({"model_type": model_type, "vocab_size": 128} | ids | TINY[model_type] | changes))
    return str(path)


def comparable(records: list[OpRecord]) -> list[tuple[Any, ...]]:
    """Everything of the records but where in memory the tensors lie."""
    return [
        (r.name, r.phase, r.module, r.autograd, r.mutated, _plain(_arguments(r)), tuple(map(_plain, r.outputs)))
        for r in records
    ]


def _arguments(record: OpRecord) -> tuple[Any, ...]:
    """The arguments of an op; the last one of our optimizers' only numbers the call."""
    return record.args[:-1] if record.name.startswith("edgeroof::") else record.args


def _plain(value: Any) -> Any:
    if isinstance(value, TensorMeta):
        return value.shape, value.dtype, value.stride, value.offset
    return tuple(map(_plain, value)) if isinstance(value, tuple) else value
