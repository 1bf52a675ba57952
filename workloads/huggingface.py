"""Models by name: shipped FLAN-T5 shapes, any Hugging Face configuration, or real weights.

A model name is one of

- a shipped size, ``small`` or ``flan-t5-small``: random weights,
- a path to a ``config.json``, or a folder with one and no weights: random weights in that shape,
- a folder with weights: those weights,
- a hub id such as ``google/flan-t5-small``: weights from the hub or its local cache.

Code that comes with a model is never run (``trust_remote_code`` stays off).
"""

from __future__ import annotations

import contextlib
import difflib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import EdgeroofError, OutOfMemoryError, UsageError, WorkloadError
from .classic_attention import implementation
from .flan_t5 import SIZES, build_flan_t5, shipped_config

#: Model types whose embeddings transformers 5 ties whatever their configuration says.
_T5_TYPES = ("t5", "mt5", "umt5")
_WEIGHT_FILES = ("*.safetensors", "pytorch_model*.bin")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_DROPOUT_FIELDS = (
    "dropout_rate", "dropout", "attention_dropout", "activation_dropout", "hidden_dropout", "classifier_dropout",
    "attn_pdrop", "embd_pdrop", "resid_pdrop", "attention_probs_dropout_prob", "hidden_dropout_prob",
)  # fmt: skip


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from.

    Attributes:
        title: short name for reports.
        kind: ``"shipped"``, ``"config"``, ``"folder"`` or ``"hub"``.
        location: shipped size, path, or hub id.
        weights: real weights are loaded; otherwise they are random.
    """

    title: str
    kind: str
    location: str
    weights: bool


@dataclass(frozen=True)
class LoadedModel:
    """A model ready for training, in fp32.

    Attributes:
        model: the ``PreTrainedModel``.
        source: where it came from.
        description: one line on its weights, for reports.
        causal: a decoder-only language model; otherwise sequence to sequence.
    """

    model: Any
    source: ModelSource
    description: str
    causal: bool

    @property
    def tokenizer_location(self) -> str | None:
        """Folder or hub id that may hold a tokenizer, None when there can be none."""
        if self.source.kind == "hub":
            return self.source.location
        if self.source.kind == "folder":
            return self.source.location
        return str(Path(self.source.location).parent) if self.source.kind == "config" else None


def known_models() -> tuple[str, ...]:
    """Names of the shipped shapes."""
    return tuple(f"flan-t5-{size}" for size in SIZES)


def resolve_model(name: str) -> ModelSource:
    """Say what a model name means, without loading anything.

    Raises:
        UsageError: the name is neither shipped, nor a file or folder, nor shaped like a hub id.
        WorkloadError: the folder has no ``config.json``.
    """
    size = name.removeprefix("flan-t5-")
    if size in SIZES:
        return ModelSource(f"flan-t5-{size}", "shipped", size, weights=False)
    path = Path(name).expanduser()
    if path.is_file():
        title = path.parent.resolve().name if path.name == "config.json" else path.stem
        return ModelSource(title, "config", str(path), weights=False)
    if path.is_dir():
        return _resolve_folder(path)
    if _HUB_ID.fullmatch(name) and path.suffix != ".json":
        return ModelSource(name.split("/")[1], "hub", name, weights=True)
    raise UsageError(_unknown_model(name))


def load_model(
    name: str,
    *,
    attention: str = "sdpa",
    seed: int = 0,
    device: str = "cpu",
    dropout: float | None = None,
    random_weights: bool = False,
    head: Callable[[Any], Any] | None = None,
    experts: str | None = None,
) -> LoadedModel:
    """Build or load a model in fp32, ready to be trained on ``device``.

    Args:
        name: see the module's description.
        attention: ``"eager"``, ``"sdpa"``, or :data:`~.classic_attention.CLASSIC`.
        seed: seed of random weights.
        device: such as ``"cpu"`` or ``"cuda:0"``; ``"meta"`` gives shapes without memory (random weights only).
        dropout: replaces every dropout rate of the configuration; None keeps them.
        random_weights: use the shape only, also where there are real weights.
        head: given the configuration, the class to build; by default that of a language model with its loss.
        experts: how a mixture of experts runs them, such as ``"eager"`` for one after the other; None leaves it to
            transformers. Releases without the choice run them one after the other.

    Raises:
        UsageError: unknown name.
        WorkloadError: a bad configuration, missing or broken weights, no network, or an attention
            that this model does not have in this release of transformers.
    """
    source = resolve_model(name)
    if random_weights:
        source = replace(source, weights=False)
    config, untied = _read_config(source)
    for field in _DROPOUT_FIELDS if dropout is not None else ():
        if hasattr(config, field):
            setattr(config, field, dropout)
    config.use_cache = False  # a training step has no use for keys and values of earlier steps
    if experts and hasattr(config, "_experts_implementation"):
        config._experts_implementation = experts
    causal = not config.is_encoder_decoder
    with _explained(source, attention), _quiet():
        model_class = head(config) if head else _auto_class(causal)
        if source.weights:
            model = _load_weights(source, config, model_class, attention).to(device)
            description = f"weights from {source.location}"
        else:
            model = _build_random(config, model_class, untied, attention, seed, device)
            description = f"random weights, seed {seed}"
    return LoadedModel(model, source, description, causal)


def check_positions(loaded: LoadedModel, length: int) -> None:
    """See that a sequence of ``length`` tokens has positions in the model.

    Raises:
        UsageError: it has not.
    """
    positions = getattr(loaded.model.config, "max_position_embeddings", None)
    if isinstance(positions, int) and 0 < positions < length:  # relative positions have no limit (T5), or -1 (XLNet)
        raise UsageError(
            f"{loaded.source.title} has {positions} positions and a sequence would take {length}; shorten it"
        )


def check_takes_tokens(loaded: LoadedModel) -> None:
    """See that the model reads token ids.

    Raises:
        UsageError: it reads images or sound.
    """
    wanted = getattr(loaded.model, "main_input_name", "input_ids")
    if wanted != "input_ids":
        raise UsageError(
            f"{type(loaded.model).__name__} reads {wanted}, not tokens; only models of language are built here"
        )


def _resolve_folder(path: Path) -> ModelSource:
    if not (path / "config.json").is_file():
        raise WorkloadError(f"{path} has no config.json, so it is not a Hugging Face model folder")
    weights = any(next(path.glob(pattern), None) for pattern in _WEIGHT_FILES)
    return ModelSource(path.resolve().name, "folder", str(path), weights)


def _unknown_model(name: str) -> str:
    if name.endswith(".json") or name.startswith((".", "/", "~")):
        return f"no such file or folder: {name}"
    names = [*SIZES, *known_models()]
    close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.6)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return (
        f"unknown model {name!r}{hint} Known: {', '.join(known_models())} (or just {', '.join(SIZES)}); "
        "or give the path of a config.json, a model folder, or a hub id such as google/flan-t5-small"
    )


def _read_config(source: ModelSource) -> tuple[Any, bool]:
    """Read a configuration, and whether its output head is said to be separate from its embeddings."""
    from transformers import AutoConfig

    if source.kind == "hub":
        with _explained(source, ""), _quiet():
            return AutoConfig.from_pretrained(source.location), False
    raw = shipped_config(source.location) if source.kind == "shipped" else _read_json(source)
    model_type = raw.pop("model_type", None)
    if not isinstance(model_type, str):
        raise WorkloadError(f"{source.location} has no model_type, so it is not a Hugging Face model configuration")
    untied = raw.get("tie_word_embeddings") is False or raw.get("scale_decoder_outputs") is False
    try:
        with _quiet():
            return AutoConfig.for_model(model_type, **raw), untied
    except Exception as error:  # every model type validates in its own way
        remote = " (it asks for code of its own, which is never run)" if "auto_map" in raw else ""
        raise WorkloadError(f"transformers cannot use {source.location}{remote}: {_first_line(error)}") from error


def _read_json(source: ModelSource) -> dict[str, Any]:
    path = Path(source.location)
    path = path / "config.json" if path.is_dir() else path
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise WorkloadError(f"cannot read the model configuration {path}: {_first_line(error)}") from error
    if not isinstance(raw, dict):
        raise WorkloadError(f"{path} holds a {type(raw).__name__}, not a model configuration")
    return raw


def _build_random(config: Any, model_class: Any, untied: bool, attention: str, seed: int, device: str) -> Any:
    if untied and config.model_type in _T5_TYPES and _is_seq2seq_lm(model_class):
        return build_flan_t5(config, attention=implementation(attention), seed=seed, device=device)
    import torch

    target = torch.device(device)
    with torch.random.fork_rng(devices=[target] if target.type == "cuda" else []), target:
        torch.manual_seed(seed)
        build = model_class.from_config if hasattr(model_class, "from_config") else model_class._from_config
        return build(config, attn_implementation=implementation(attention))


def _is_seq2seq_lm(model_class: Any) -> bool:
    return "Seq2SeqLM" in model_class.__name__ or model_class.__name__.endswith("ForConditionalGeneration")


def _load_weights(source: ModelSource, config: Any, model_class: Any, attention: str) -> Any:
    import torch
    import transformers

    dtype = "dtype" if int(transformers.__version__.split(".")[0]) >= 5 else "torch_dtype"
    model, info = model_class.from_pretrained(
        source.location,
        config=config,
        attn_implementation=implementation(attention),
        output_loading_info=True,
        **{dtype: torch.float32},
    )
    missing = sorted(info["missing_keys"])
    if missing:
        raise WorkloadError(
            f"the weights in {source.location} lack {len(missing)} tensors of the model, such as {missing[0]}"
        )
    return model


def _auto_class(causal: bool) -> Any:
    import transformers

    return transformers.AutoModelForCausalLM if causal else transformers.AutoModelForSeq2SeqLM


@contextlib.contextmanager
def _explained(source: ModelSource, attention: str) -> Iterator[None]:
    """Turn whatever transformers raises into one line that says what to do."""
    try:
        yield
    except EdgeroofError:
        raise
    except Exception as error:  # OSError, ValueError, ImportError, SafetensorError, RuntimeError, HTTP errors...
        reason = _first_line(error)
        if "out of memory" in reason.lower() or isinstance(error, MemoryError):
            raise OutOfMemoryError(f"{source.title} does not fit in memory: {reason}") from error
        if "attention implementation" in reason or "scaled_dot_product_attention" in reason:
            raise WorkloadError(
                f"{source.title} has no {attention} attention in this release of transformers; "
                "use eager attention, or a newer transformers"
            ) from error
        if source.kind == "hub":
            raise WorkloadError(_hub_message(source, reason)) from error
        raise WorkloadError(f"cannot load {source.location}: {reason}") from error


def _hub_message(source: ModelSource, reason: str) -> str:
    size = source.title.removeprefix("flan-t5-")
    shapes = f", or use {size!r} for the same shapes with random weights" if size in SIZES else ""
    return (
        f"cannot get {source.location} from the Hugging Face hub: {reason} Check the name and the network, "
        f"or download the model elsewhere and give its folder{shapes}"
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' warnings and progress bars: what matters is checked here, and libraries do not print."""
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    verbosity, hub_verbosity = logging.get_verbosity(), hub_logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    hub_logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        hub_logging.set_verbosity(hub_verbosity)
        if bars:
            logging.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
