"""What is run: models, data and the federated client's step.

Names are imported on first use, so that listing optimizers or checking a configuration does not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import ClientStep, StepResult, build_client_step
    from .client_config import ClientConfig
    from .huggingface import known_models, load_model
    from .optimizers import optimizer_names, register_optimizer
    from .samsum import load_dataset

_PUBLIC = {
    "ClientConfig": "client_config",
    "ClientStep": "client",
    "StepResult": "client",
    "build_client_step": "client",
    "known_models": "huggingface",
    "load_dataset": "samsum",
    "load_model": "huggingface",
    "optimizer_names": "optimizers",
    "register_optimizer": "optimizers",
}

__all__ = [
    "ClientConfig",
    "ClientStep",
    "StepResult",
    "build_client_step",
    "known_models",
    "load_dataset",
    "load_model",
    "optimizer_names",
    "register_optimizer",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_PUBLIC[name]}", __name__), name)
