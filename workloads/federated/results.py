"""What a client sends home after a round, or why nothing came."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...errors import UpdateError

#: Characters of a reason that are kept: a client may have a say in it, and it goes into records and reports.
MOST_REASON = 300
#: Largest mean loss per token that is believed. Guessing among V tokens costs ln V, 12 for a vocabulary of 250,000; a
#: model that is surely wrong costs as much as its logits are apart, which are thousands only where it is broken.
MOST_LOSS = 1e4


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


def check_loss(loss: float) -> None:
    """Check the loss that a client tells; one that is not finite is unknown: a step can overflow, its update be sound.

    Raises:
        UpdateError: it is below 0 or beyond :data:`MOST_LOSS`.
    """
    if loss < 0 or MOST_LOSS < loss < math.inf:
        raise UpdateError(f"its loss is {loss:g}, where 0 to {MOST_LOSS:,.0f} can be")


@dataclass(frozen=True)
class ClientFailure:
    """A client that was asked and is left out of the round.

    Attributes:
        client: its number, from 0.
        reason: for people; one line, cut at :data:`MOST_REASON` characters.
    """

    client: int
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", one_line(self.reason))


def one_line(reason: str) -> str:
    """A reason that somebody else may have written, as one line of bounded length without control characters."""
    plain = "".join(char if char.isprintable() else " " for char in reason[: 4 * MOST_REASON])
    line = " ".join(plain.split())
    return line if len(line) <= MOST_REASON else line[: MOST_REASON - 1] + "…"


Answer = ClientResult | ClientFailure
