"""FLAN-T5 from the shapes in ``configs/``: exact parameter counts, random weights.

FLAN-T5 (T5 v1.1) does not tie ``lm_head`` to the embeddings, while its encoder and decoder do share theirs. Releases of
transformers disagree about the flag that says so: 4.x follows ``tie_word_embeddings=False`` as expected, 5.x ties all
three whatever the configuration says. So the tying is done here, after construction, and the counts are tested.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from ..errors import UsageError

if TYPE_CHECKING:
    from torch import nn

#: Shipped sizes. ``tiny`` is ours, for tests and quick tries; the others have the published shapes.
SIZES = ("tiny", "small", "base", "large", "xl")

#: Parameters of the published models, embeddings counted once.
PUBLISHED_PARAMETERS = {"small": 76_961_152, "base": 247_577_856, "large": 783_150_080, "xl": 2_849_757_184}

#: Ids from here on are T5's sentinels and padding of the vocabulary; text never contains them.
FIRST_SENTINEL = 32_000


def shipped_config(size: str) -> dict[str, Any]:
    """Read the configuration of one of :data:`SIZES` as the dictionary in its ``config.json``.

    Raises:
        UsageError: no such size.
    """
    if size not in SIZES:
        raise UsageError(f"unknown FLAN-T5 size {size!r}; sizes are {', '.join(SIZES)}")
    text = (files(__package__) / "configs" / f"flan-t5-{size}.json").read_text(encoding="utf-8")
    return json.loads(text)


def untie_lm_head(model: Any) -> None:
    """Give ``lm_head`` its own weight, and leave the embeddings of encoder and decoder shared.

    Does nothing when the head is already separate. The new weight is uninitialised.
    """
    import torch
    from torch import nn

    shared, head = model.get_submodule("shared"), model.get_submodule("lm_head")
    if head.weight is shared.weight:
        head.weight = nn.Parameter(torch.empty_like(shared.weight))
    model.get_submodule("encoder").set_input_embeddings(shared)
    model.get_submodule("decoder").set_input_embeddings(shared)
    # transformers 5 would tie the head again when it saves or resizes: it goes by these two tables.
    for table in ("_tied_weights_keys", "all_tied_weights_keys"):
        keys = getattr(model, table, None)
        if isinstance(keys, dict) and "lm_head.weight" in keys:
            setattr(model, table, {key: source for key, source in keys.items() if key != "lm_head.weight"})


def build_flan_t5(config: Any, *, attention: str = "sdpa", seed: int = 0, device: str = "cpu") -> nn.Module:
    """Build a T5 v1.1 model with seeded random weights, drawn once and directly on ``device``.

    Args:
        config: a ``T5Config`` made from a configuration with ``tie_word_embeddings`` false.
        attention: ``"eager"`` or ``"sdpa"``.
        seed: seed of the weights.
        device: where the model lives, such as ``"cuda:0"``. On ``"meta"`` it has shapes only and costs no memory.
    """
    import torch
    from transformers import AutoModelForSeq2SeqLM

    with torch.device("meta"):
        model = AutoModelForSeq2SeqLM.from_config(config, attn_implementation=attention)
    untie_lm_head(model)
    if device != "meta":
        _allocate(model, device)
        init_weights(model, seed)
    return model


def init_weights(model: nn.Module, seed: int) -> None:
    """Draw all weights of a T5 from normal distributions, in fp32 and in a fixed order.

    The standard deviations are those of T5's own initialisation, but for ``lm_head``: it gets ``d_model ** -0.5``
    instead of 1, so that logits start near unit variance and the loss near ``ln(vocabulary)``, finite in fp16.
    """
    import torch

    parameters = list(model.named_parameters())
    generator = torch.Generator(device=parameters[0][1].device).manual_seed(seed)
    config = model.config
    with torch.no_grad():
        for name, parameter in parameters:
            if parameter.dim() == 1:
                parameter.fill_(1.0)  # T5 has no biases: every vector is the scale of an RMS norm
            else:
                parameter.normal_(0.0, _standard_deviation(name, config), generator=generator)


def _allocate(model: nn.Module, device: str) -> None:
    """Move from the meta device to a real one, keeping what is shared (``Module.to_empty`` would not)."""
    import torch
    from torch import nn

    allocated: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) not in allocated:
                allocated[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device=device))
            setattr(module, name, allocated[id(parameter)])


def _standard_deviation(name: str, config: Any) -> float:
    layer = name.removesuffix(".weight").rsplit(".", 1)[-1]
    if layer == "shared":
        return 1.0
    if layer == "q":  # T5 folds the 1/sqrt(d_kv) of attention into the initialisation of the queries
        return (config.d_model * config.d_kv) ** -0.5
    if layer == "o":
        return (config.num_heads * config.d_kv) ** -0.5
    if layer == "wo":
        return config.d_ff**-0.5
    return config.d_model**-0.5
