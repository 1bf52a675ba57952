"""What a federation does, as one checked and immutable value that travels to clients and into checkpoints as JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import UsageError
from ..client_config import ClientConfig
from .aggregation import ServerOptimizer
from .codecs import parse_codec
from .partition import SPLITS
from .selection import selection

#: Settings of a client's step that fit a model that learns within minutes on a CPU.
TINY = {"batch_size": 8, "source_length": 128, "target_length": 16, "learning_rate": 3e-3}
TINY_DIALOGUES = 800


@dataclass(frozen=True)
class FederatedConfig:
    """A federation.

    Attributes:
        client: how one client trains; its ``client``, ``clients``, ``dialogues`` and ``steps`` are not used.
        clients: how many clients there are.
        sampled: how many of them are asked in a round.
        rounds: how many rounds.
        dialogues: training dialogues of all clients together; ``None`` takes all there are, or generates 1,024.
        eval_dialogues: held-out dialogues for loss and ROUGE-L.
        split: how the data is divided, one of :data:`~.partition.SPLITS`.
        alpha: how much the clients differ; see :func:`~.partition.split`.
        server: the server's optimizer.
        codec: how updates are compressed; see :func:`~.codecs.parse_codec`.
        selection: how clients are chosen; see :func:`~.selection.selection`.
        min_answers: share of the clients asked whose updates must be usable for a round to count.
        seed: of the split, the choice of clients, and their training; that of the initial weights is the client's.

    Raises:
        UsageError: on construction, when a value makes no sense.
    """

    client: ClientConfig = field(default_factory=lambda: ClientConfig(padding="dynamic"))
    clients: int = 10
    sampled: int = 3
    rounds: int = 20
    dialogues: int | None = None
    eval_dialogues: int = 64
    split: str = "topics"
    alpha: float = 1.0
    server: ServerOptimizer = field(default_factory=ServerOptimizer)
    codec: str = "none"
    selection: str = "random"
    min_answers: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("clients", "sampled", "rounds", "eval_dialogues"):
            if not (isinstance(getattr(self, name), int) and getattr(self, name) >= 1):
                raise UsageError(f"{name} is {getattr(self, name)!r}; it must be a whole number of at least 1")
        if not (isinstance(self.seed, int) and 0 <= self.seed < 2**63):
            raise UsageError(f"seed is {self.seed!r}; it must be a whole number of 0 or more")
        if self.sampled > self.clients:
            raise UsageError(f"{self.sampled} clients cannot be sampled of {self.clients}")
        if self.split not in SPLITS:
            raise UsageError(f"unknown split {self.split!r}; use {', '.join(SPLITS)}")
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise UsageError(f"alpha is {self.alpha}; it must be above 0")
        if not 0 < self.min_answers <= 1:
            raise UsageError(f"min_answers is {self.min_answers}; it must be above 0 and at most 1")
        if self.dialogues is not None and self.dialogues < self.clients:
            raise UsageError(f"{self.dialogues} dialogues cannot be split over {self.clients} clients")
        parse_codec(self.codec)
        selection(self.selection)

    def with_seed(self, seed: int) -> FederatedConfig:
        """The same federation with another seed of everything: also of the initial weights."""
        return dataclasses.replace(self, client=dataclasses.replace(self.client, seed=seed), seed=seed)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready form; :meth:`from_json` reads it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> FederatedConfig:
        """Rebuild a configuration.

        Raises:
            UsageError: an entry is unknown or makes no sense.
        """
        try:
            nested = {"client": ClientConfig(**values["client"]), "server": ServerOptimizer(**values["server"])}
            return cls(**{**values, **nested})
        except (KeyError, TypeError) as error:
            raise UsageError(f"this is no configuration of a federation: {error}") from error
