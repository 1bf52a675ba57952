"""Engines: how a round's clients are reached. The one here trains them in this process, one after the other."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from ...errors import EdgeroofError, UpdateError
from .codecs import Compressor
from .results import Answer, ClientFailure
from .training import ClientTrainer, new_compressor
from .update import Message, Update

#: Called after each client of a round with its number.
OnAnswer = Callable[[int], None]
#: By client, the last round whose aggregate holds its update; clients that are missing have none.
LastUsed = Mapping[int, int]
NEVER_USED: LastUsed = {}


class Engine(Protocol):
    """What the rounds need of an engine.

    Attributes:
        name: for records.
        nodes: that train at the same time; client *c* trains on node ``c % nodes``.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def nodes(self) -> int: ...  # noqa: D102

    def train(
        self,
        round_number: int,
        clients: Sequence[int],
        weights: Update,
        on_answer: OnAnswer = lambda client: None,
        used: LastUsed = NEVER_USED,
    ) -> list[Answer]:
        """Train clients and return one answer for each; a client that fails is an answer, never an exception.

        Args:
            round_number: from 1.
            clients: to train.
            weights: of the server.
            on_answer: called after each client.
            used: tells clients which of their updates arrived, see :meth:`~.codecs.Compressor.settle`.
        """

    def memory(self) -> Message:
        """What clients remember between rounds, for a checkpoint."""

    def remember(self, memory: Message) -> None:
        """Put back what :meth:`memory` returned."""

    def close(self) -> None:
        """Let go of processes and connections."""


class LocalEngine:
    """Trains clients in this process.

    Args:
        trainer: trains one client.
    """

    name, nodes = "local", 1

    def __init__(self, trainer: ClientTrainer) -> None:
        self._trainer = trainer
        self._compressors: dict[int, Compressor] = {}

    def train(
        self,
        round_number: int,
        clients: Sequence[int],
        weights: Update,
        on_answer: OnAnswer = lambda client: None,
        used: LastUsed = NEVER_USED,
    ) -> list[Answer]:
        """Train clients one after the other."""
        answers: list[Answer] = []
        for client in clients:
            compressor = self._compressors.setdefault(client, new_compressor(self._trainer.config))
            compressor.settle(used.get(client, 0))
            try:
                answers.append(self._trainer.train(client, round_number, weights, compressor))
            except EdgeroofError as error:
                answers.append(ClientFailure(client, str(error)))
            on_answer(client)
        return answers

    def memory(self) -> Message:
        """What the clients' compressors left out so far."""
        return pack_memory(self._compressors)

    def remember(self, memory: Message) -> None:
        """Put back what :meth:`memory` returned."""
        self._compressors = unpack_memory(memory, lambda: new_compressor(self._trainer.config))

    def close(self) -> None:
        """Nothing is open."""


def pack_memory(compressors: dict[int, Compressor]) -> Message:
    """The memory of compressors by client, as arrays named ``CLIENT/NAME``."""
    return Message(
        {
            f"{client}/{name}": tensor
            for client, compressor in compressors.items()
            for name, tensor in compressor.remembered().items()
        }
    )


def unpack_memory(memory: Message, new: Callable[[], Compressor]) -> dict[int, Compressor]:
    """Compressors by client with the memory that :func:`pack_memory` packed.

    Raises:
        UpdateError: it packed no such thing.
    """
    by_client: dict[int, Update] = {}
    for key, tensor in memory.arrays.items():
        client, _, name = key.partition("/")
        if not re.fullmatch(r"\d{1,9}", client):
            raise UpdateError(f"{key!r} is no memory of a client")
        by_client.setdefault(int(client), {})[name] = tensor
    compressors = {client: new() for client in by_client}
    for number, compressor in compressors.items():
        compressor.remember(by_client[number])
    return compressors
