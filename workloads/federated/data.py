"""The data of a federation: what is held out, and what each client has. Every machine computes the same split."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import WorkloadError
from ..samsum import DEFAULT_DIALOGUES, Dataset, load_dataset
from ..vocabulary import usable_ids
from .config import FederatedConfig
from .partition import split
from .topics import LabelledDataset, generate_topical, group_by_length


class FederatedData:
    """Training data by client, and the held-out dialogues.

    Args:
        config: the federation.
        model_config: of the model, for its vocabulary.
        tokenizer_location: folder or hub id that may hold the model's tokenizer.

    Attributes:
        held_out: dialogues that no client has.
        what: how the data is divided, for people.

    Raises:
        WorkloadError: the data cannot be used, or is too little.
    """

    def __init__(self, config: FederatedConfig, model_config: Any, tokenizer_location: str | None = None) -> None:
        everything = _load(config, model_config, tokenizer_location)
        if len(everything) < config.eval_dialogues + config.clients:
            raise WorkloadError(
                f"{len(everything)} dialogues are too few: {config.eval_dialogues} are held out and each of "
                f"{config.clients} clients needs one"
            )
        order = np.random.default_rng(config.seed).permutation(len(everything))
        held_out, training = order[: config.eval_dialogues], order[config.eval_dialogues :]
        parts = split(everything.labels[training], config.clients, config.split, config.alpha, config.seed)
        self._everything = everything
        self._parts = [training[part] for part in parts]
        self.held_out = everything.pick(held_out, f"{len(held_out)} held-out dialogues")
        self.what = f"{everything.dataset.description}; {_how(config, everything)}"

    def of_client(self, client: int) -> Dataset:
        """The examples of one client, numbered from 0."""
        part = self._parts[client]
        return self._everything.pick(part, f"{len(part)} dialogues of client {client}")

    def sizes(self) -> list[int]:
        """How many examples each client has."""
        return [len(part) for part in self._parts]


def _load(config: FederatedConfig, model_config: Any, tokenizer_location: str | None) -> LabelledDataset:
    if config.client.data is None:
        count = (config.dialogues or DEFAULT_DIALOGUES) + config.eval_dialogues
        return generate_topical(usable_ids(model_config), count, config.seed)
    wanted = None if config.dialogues is None else config.dialogues + config.eval_dialogues
    return group_by_length(
        load_dataset(model_config, path=config.client.data, dialogues=wanted, tokenizer_location=tokenizer_location)
    )


def _how(config: FederatedConfig, data: LabelledDataset) -> str:
    if config.split == "even":
        return f"dealt out evenly to {config.clients} clients"
    what = data.what if config.split == "topics" else "size"
    return f"divided over {config.clients} clients by {what}, Dirichlet α = {config.alpha:g}"
