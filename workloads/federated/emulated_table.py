"""The messages of a granularity study over emulated links, each once for its size, beside what the model says."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .emulation import MOST_MBPS, MOST_SECONDS, emulate, way_of
from .granularity_table import Progress, Traffic
from .links import Direction, Link


def emulate_all(traffic: Sequence[Traffic], links: Sequence[Link], on_progress: Progress) -> dict[str, Any]:
    """Send one message of each size over each link.

    Args:
        traffic: whose messages are sent; those that a link cuts to the same length are sent once.
        links: to emulate.
        on_progress: told what is being sent.

    Returns:
        ``transfers``, JSON-ready; ``cut``, every message that was too long for a link, with the bytes ``asked`` and
        ``sent``; ``left_out``, the links that are too fast to be emulated.
    """
    ways = {link.name: way_of(link) for link in links}
    messages = {link: _messages(traffic, link) for link in links if ways[link.name]}
    wanted = [
        (link, direction, size)
        for link, of_link in messages.items()
        for direction, size in sorted({(m.direction, m.sent) for m in of_link}, key=lambda message: message[1])
    ]
    transfers = []
    for done, (link, direction, size) in enumerate(wanted):
        on_progress(f"{size / 1e6:,.1f} MB {direction} over {link.name}", done, len(wanted))
        transfer = emulate(size, link, direction, ways[link.name])
        transfers.append({**dataclasses.asdict(transfer), "error": transfer.error})
    return {
        "transfers": transfers,
        "cut": [
            {"link": link.name, **dataclasses.asdict(message)}
            for link, of_link in messages.items()
            for message in of_link
            if message.sent < message.asked
        ],
        "left_out": [link.name for link in links if not ways[link.name]],
        "most_seconds": MOST_SECONDS,
        "most_mbps": MOST_MBPS,
    }


@dataclass(frozen=True)
class _Message:
    """A message of a round, and what of it is sent: less where it is too long for :func:`~.emulation.emulate`."""

    direction: Direction
    asked: int
    sent: int


def _messages(traffic: Sequence[Traffic], link: Link) -> list[_Message]:
    """Each once, by size."""
    sizes: set[tuple[Direction, int]] = set()
    for entry in traffic:
        sizes |= {("up", entry.coding.size), ("down", entry.down_bytes)}
    return [
        _Message(direction, size, min(size, int(link.rate(direction) * MOST_SECONDS)))
        for direction, size in sorted(sizes)
    ]
