"""Which class of a model to build: the language model with its head, or what the configuration or the user names."""

from __future__ import annotations

from typing import Any

from ..errors import UsageError

#: Heads that exist to train an encoder's body; at inference the encoder classifies.
_PRETRAINING = ("ForPreTraining", "ForMaskedLM", "LMHeadModel")


def choose_head(config: Any, mode: str, head: str = "auto") -> Any:
    """The class to build for a configuration.

    ``auto`` takes the language model: sequence to sequence, or causal for decoders. An encoder alone (BERT) gets its
    pre-training heads for training and a classifier for inference, unless its configuration names another task, such as
    question answering.

    Args:
        config: a Hugging Face configuration.
        mode: ``"train"`` or ``"inference"``.
        head: ``"auto"``, or the name of a class of transformers, such as ``BertForMaskedLM`` or
            ``AutoModelForTokenClassification``.

    Raises:
        UsageError: transformers has no such class.
    """
    import transformers

    if head != "auto":
        return _named(head)
    if config.is_encoder_decoder:
        return transformers.AutoModelForSeq2SeqLM
    if not is_encoder(config):
        return transformers.AutoModelForCausalLM
    task = next(iter(getattr(config, "architectures", None) or ()), "")
    if "For" in task and not task.endswith(_PRETRAINING) and hasattr(transformers, task):
        return _named(task)
    if mode == "inference":
        return transformers.AutoModelForSequenceClassification
    known = type(config) in transformers.MODEL_FOR_PRETRAINING_MAPPING
    return transformers.AutoModelForPreTraining if known else transformers.AutoModel


def is_encoder(config: Any) -> bool:
    """Whether a configuration describes an encoder alone: it can fill in masked words but is not used to generate."""
    import transformers

    if config.is_encoder_decoder or getattr(config, "is_decoder", False):
        return False
    masked = type(config) in transformers.MODEL_FOR_MASKED_LM_MAPPING
    return masked or type(config) not in transformers.MODEL_FOR_CAUSAL_LM_MAPPING


def _named(name: str) -> Any:
    import transformers

    found = getattr(transformers, name, None)
    if found is None or not (hasattr(found, "from_config") or hasattr(found, "_from_config")):
        raise UsageError(
            f"transformers has no model class {name!r}; leave the head at auto, or name one such as BertForMaskedLM"
        )
    return found
