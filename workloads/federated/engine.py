"""Engines: how a round's clients are reached. The one here trains them in this process, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ...errors import EdgeroofError
from .codecs import Compressor
from .results import Answer, ClientFailure
from .training import ClientTrainer, new_compressor
from .update import Message, Update

#: Called after each client of a round with its number.
OnAnswer = Callable[[int], None]


class Engine(Protocol):
    """What the rounds need of an engine."""

    def train(
        self, round_number: int, clients: Sequence[int], weights: Update, on_answer: OnAnswer = lambda client: None
    ) -> list[Answer]:
        """Train clients and return one answer for each; a client that fails is an answer, never an exception."""

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

    def __init__(self, trainer: ClientTrainer) -> None:
        self._trainer = trainer
        self._compressors: dict[int, Compressor] = {}

    def train(
        self, round_number: int, clients: Sequence[int], weights: Update, on_answer: OnAnswer = lambda client: None
    ) -> list[Answer]:
        """Train clients one after the other."""
        answers: list[Answer] = []
        for client in clients:
            compressor = self._compressors.setdefault(client, new_compressor(self._trainer.config))
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
    """The memory of compressors by client, as named arrays."""
    arrays: Update = {}
    for client, compressor in compressors.items():
        entries = {"residual": compressor.residual, **{f"memory.{k}": v for k, v in compressor.memory.items()}}
        arrays |= {f"{client}/{name}": tensor for name, tensor in entries.items() if tensor is not None}
    return Message(arrays)


def unpack_memory(memory: Message, new: Callable[[], Compressor]) -> dict[int, Compressor]:
    """Compressors by client with the memory that :func:`pack_memory` packed."""
    compressors: dict[int, Compressor] = {}
    for key, tensor in memory.arrays.items():
        client, _, name = key.partition("/")
        compressor = compressors.setdefault(int(client), new())
        if name == "residual":
            compressor.residual = tensor
        else:
            compressor.memory[name.removeprefix("memory.")] = tensor
    return compressors
