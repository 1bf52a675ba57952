"""Links between clients and server, and how long a transfer over one takes.

The model is one TCP connection that carries one message: a handshake, slow start from ten segments (RFC 6928) that
doubles every round trip until the pipe is full, then the rate of the link, or what random loss leaves of it (M. Mathis
et al., "The macroscopic behavior of the TCP congestion avoidance algorithm", 1997). Headers take their share.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Literal

from ...errors import UsageError

Direction = Literal["up", "down"]

#: Payload of a full segment on Ethernet, and its bytes on the wire: Ethernet 14, IP 20, TCP 32 with timestamps.
SEGMENT_BYTES = 1448
SEGMENT_WIRE_BYTES = 1514
#: Segments that a connection may send before the first acknowledgement (RFC 6928).
INITIAL_SEGMENTS = 10
#: Constant of the Mathis formula for a receiver that acknowledges every segment: sqrt(3/2).
MATHIS = math.sqrt(1.5)
#: What a link can be; beyond, times would be no finite numbers.
LEAST_MBPS, MOST_MBPS, MOST_RTT_MS = 1e-6, 1e9, 1e6
#: What an interface can draw, in W.
MOST_RADIO_W = 1e6


@dataclass(frozen=True)
class Link:
    """What connects a client with the server.

    Attributes:
        name: what the user types.
        title: for people.
        down_mbps: server to client, in 10⁶ bit/s on the wire.
        up_mbps: client to server.
        rtt_ms: round trip of a small packet on the idle link.
        loss: share of packets that are lost at random and not repaired below TCP.
        source: where the figures come from.
        radio_w: power of the client's interface while it is busy, in W, where it was given with the link.

    Raises:
        UsageError: on construction, when a figure makes no sense.
    """

    name: str
    title: str
    down_mbps: float
    up_mbps: float
    rtt_ms: float
    loss: float = 0.0
    source: str = "given"
    radio_w: float | None = None

    def __post_init__(self) -> None:
        for what, value in (("down_mbps", self.down_mbps), ("up_mbps", self.up_mbps)):
            if not LEAST_MBPS <= value <= MOST_MBPS:
                raise UsageError(
                    f"link {self.name}: {what} is {value}; it must be above 0, from {LEAST_MBPS:g} to {MOST_MBPS:g}"
                )
        if not 0 <= self.rtt_ms <= MOST_RTT_MS:
            raise UsageError(f"link {self.name}: rtt_ms is {self.rtt_ms}; it must be from 0 to {MOST_RTT_MS:g}")
        if not 0 <= self.loss < 1:
            raise UsageError(f"link {self.name}: loss is {self.loss}; it must be at least 0 and below 1")
        if self.radio_w is not None:
            check_radio_w(self.radio_w)

    def rate(self, direction: Direction) -> float:
        """Bytes of payload per second that the link carries in one direction, once TCP is up to speed."""
        mbps = self.up_mbps if direction == "up" else self.down_mbps
        wire = mbps * 1e6 / 8 * SEGMENT_BYTES / SEGMENT_WIRE_BYTES
        slowness = self.rtt_ms * 1e-3 * math.sqrt(self.loss)
        return min(wire, MATHIS * SEGMENT_BYTES / slowness) if slowness else wire


PRESETS: dict[str, Link] = {
    link.name: link
    for link in (
        Link("10g", "10 Gbit/s in a data centre", 10_000, 10_000, 0.2, source="nominal rate; round trip assumed"),
        Link("1g", "1 Gbit/s Ethernet", 1_000, 1_000, 0.5, source="nominal rate; round trip assumed"),
        Link("wifi", "Wi-Fi", 40, 33, 5, source="an assumption, for a home network far from its access point"),
        Link("5g", "5G", 166, 21, 30, source="rates: Ookla, US median, Q3 2021; round trip assumed"),
        Link("4g", "4G of 2022", 56, 20, 45, source="public measurements of 2022; round trip assumed"),
        Link("lte", "LTE of 2019", 21.3, 6.3, 55, source="Opensignal, US 2019; round trip: middle of 44 to 66 ms"),
    )
}

_CUSTOM = re.compile(r"(?P<down>[\d.]+)/(?P<up>[\d.]+)(?:/(?P<rtt>[\d.]+)(?:/(?P<loss>[\d.]+))?)?")
_RADIO = re.compile(r"(?P<link>[^@]+)@(?P<watts>[\d.]+)[Ww]")


def parse_link(text: str) -> Link:
    """A preset by name, or a link of one's own: ``DOWN/UP[/RTT[/LOSS]]`` in Mbit/s, ms and a share, as in ``50/10/30``.

    Behind either may stand the power of the client's interface while it is busy, as in ``50/10/30@2W``.

    Raises:
        UsageError: it is neither.
    """
    powered = _RADIO.fullmatch(text)
    if powered:
        return dataclasses.replace(parse_link(powered["link"]), name=text, radio_w=_number(powered["watts"], text))
    if text.lower() in PRESETS:
        return PRESETS[text.lower()]
    match = _CUSTOM.fullmatch(text)
    if match is None:
        raise _unknown(text)
    numbers = {name: _number(value, text) for name, value in match.groupdict(default="0").items()}
    return Link(text, f"{text} Mbit/s", numbers["down"], numbers["up"], numbers["rtt"], numbers["loss"])


def _number(digits: str, text: str) -> float:
    try:
        return float(digits)
    except ValueError:
        raise _unknown(text) from None


def _unknown(text: str) -> UsageError:
    return UsageError(
        f"unknown link {text!r}; use {', '.join(PRESETS)}, or DOWN/UP/RTT in Mbit/s and ms, such as 50/10/30, either "
        "with the power of its radio behind it or not, as in 50/10/30@2W"
    )


def check_radio_w(watts: float) -> None:
    """Check the power of an interface while it is busy.

    Raises:
        UsageError: it makes no sense.
    """
    if not 0 <= watts <= MOST_RADIO_W:
        raise UsageError(f"a radio power of {watts} W makes no sense; give from 0 to {MOST_RADIO_W:g}")


def transfer_s(size: float, link: Link, direction: Direction) -> float:
    """Seconds from opening a connection until the last byte of a message has arrived.

    Args:
        size: bytes of payload.
        link: what it travels over.
        direction: ``up`` from client to server, or ``down``.
    """
    trip = link.rtt_ms * 1e-3
    rate = link.rate(direction)
    handshake, last_trip = trip, trip / 2
    return handshake + _sending_s(size, rate, trip) + last_trip


def _sending_s(size: float, rate: float, trip: float) -> float:
    """From the first byte leaving the sender to the last: slow start round by round, then the full rate."""
    window, left, elapsed = float(INITIAL_SEGMENTS * SEGMENT_BYTES), size, 0.0
    while window < rate * trip and left > window:
        left -= window
        elapsed += trip
        window *= 2
    return elapsed + left / rate
