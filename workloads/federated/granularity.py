"""Granularity: how much of a federated round is computing.

G = T_comp / T_comm (arXiv 2310.03150): the time a client computes in a round over the time its weights and its update
travel. Doubling the clients of a round, each then computing half, speeds it up by (G + 1) / (G / 2 + 1). Coding and
decoding are neither; T_codec stands apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .links import Link, transfer_s


@dataclass(frozen=True)
class RoundTimes:
    """One client's round.

    Attributes:
        compute_s: local training.
        codec_s: coding and decoding on the client.
        down_s: weights from the server.
        up_s: the update to the server.
        down_bytes: size of the weights as sent.
        up_bytes: size of the update as sent.
    """

    compute_s: float
    codec_s: float
    down_s: float
    up_s: float
    down_bytes: float
    up_bytes: float

    @property
    def communication_s(self) -> float:
        """T_comm: both directions."""
        return self.down_s + self.up_s

    @property
    def granularity(self) -> float:
        """G; infinite when nothing travels."""
        return self.compute_s / self.communication_s if self.communication_s else math.inf

    @property
    def total_s(self) -> float:
        """The whole round of this client."""
        return self.compute_s + self.codec_s + self.communication_s


def round_times(
    compute_s: float, down_bytes: float, up_bytes: float, link: Link, *, codec_s: float = 0.0
) -> RoundTimes:
    """A client's round over a link, with transfer times from the link's model.

    Args:
        compute_s: local training in seconds.
        down_bytes: size of what the server sends.
        up_bytes: size of what the client sends.
        link: between the two.
        codec_s: coding and decoding in seconds.
    """
    down_s, up_s = transfer_s(down_bytes, link, "down"), transfer_s(up_bytes, link, "up")
    return RoundTimes(compute_s, codec_s, down_s, up_s, down_bytes, up_bytes)


def doubling_speedup(granularity: float) -> float:
    """How much faster a round gets when twice the clients share its computing: (G + 1) / (G / 2 + 1)."""
    if math.isinf(granularity):
        return 2.0
    return (granularity + 1) / (granularity / 2 + 1)


def clients_speedup(granularity: float, factor: float) -> float:
    """The same for any factor of clients: (G + 1) / (G / factor + 1); it ends at G + 1."""
    if math.isinf(granularity):
        return factor
    return (granularity + 1) / (granularity / factor + 1)


def communication_energy_share(times: RoundTimes, compute_w: float, radio_w: float) -> float:
    """Share of a client's energy in a round that goes into sending and receiving.

    Args:
        times: the round.
        compute_w: power while computing or coding, in watts.
        radio_w: power while the link is busy, in watts; both are the caller's figures, measured or assumed.
    """
    computing = (times.compute_s + times.codec_s) * compute_w
    sending = times.communication_s * radio_w
    return sending / (computing + sending) if computing + sending else 0.0
