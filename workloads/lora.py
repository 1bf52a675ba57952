"""LoRA adapters through peft."""

from __future__ import annotations

import warnings
from typing import Any

from ..errors import WorkloadError


def add_lora(model: Any, rank: int, seed: int = 0) -> None:
    """Freeze a model and put trainable adapters of this rank beside its query and value projections.

    The adapters are injected in place, so module names stay those of the model. They are scaled by alpha / rank = 2,
    without dropout. For model types other than T5, peft knows which projections to adapt.

    Args:
        model: a ``PreTrainedModel``.
        rank: rank of the adapters.
        seed: seed of their weights.

    Raises:
        WorkloadError: peft is not installed, or knows nothing to adapt in this model.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise WorkloadError("LoRA needs peft, which is not installed; run: pip install 'edgeroof[lora]'") from error
    import torch

    targets = ["q", "v"] if model.config.model_type in ("t5", "mt5", "umt5") else None
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets)
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the weight layout of GPT-2, which peft corrects itself
        torch.manual_seed(seed)
        try:
            inject_adapter_in_model(config, model)
        except ValueError as error:
            reason = str(error).splitlines()[0]
            raise WorkloadError(f"peft cannot add LoRA to a {model.config.model_type} model: {reason}") from error
