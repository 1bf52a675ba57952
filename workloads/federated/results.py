"""What a client sends home after a round, or why nothing came."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ClientResult:
    """One client's local training.

    Attributes:
        client: its number, from 0.
        payload: the change of its weights, compressed, as bytes of a :class:`~.update.Message`.
        examples: dialogues it trained on, all epochs together.
        tokens: source and target tokens without padding.
        loss: mean loss per target token over its steps.
        compute_s: local training, measured on the client.
        codec_s: compressing the update, measured on the client.
    """

    client: int
    payload: bytes
    examples: int
    tokens: int
    loss: float
    compute_s: float
    codec_s: float


@dataclass(frozen=True)
class ClientFailure:
    """A client that was asked and is left out of the round.

    Attributes:
        client: its number, from 0.
        reason: for people.
    """

    client: int
    reason: str


Answer = ClientResult | ClientFailure
