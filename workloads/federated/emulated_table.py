"""The messages of a granularity study over emulated links, each once for its size, beside what the model says."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from .emulation import MOST_MBPS, MOST_SECONDS, emulate, way_of
from .granularity_table import Progress, Traffic
from .links import Direction, Link


def emulate_all(traffic: Sequence[Traffic], links: Sequence[Link], on_progress: Progress) -> dict[str, Any]:
    """Send one message of each size over each link.

    Args:
        traffic: whose messages are sent; sizes that a link cuts to the same length are sent once.
        links: to emulate.
        on_progress: told what is being sent.

    Returns:
        ``transfers``, JSON-ready, and ``left_out``, the links that are too fast to be emulated.
    """
    ways = {link.name: way_of(link) for link in links}
    wanted = [
        (link, direction, size)
        for link in links
        if ways[link.name]
        for direction, size in sorted(set(_messages(traffic, link)), key=lambda message: message[1])
    ]
    transfers = []
    for done, (link, direction, size) in enumerate(wanted):
        on_progress(f"{size / 1e6:,.1f} MB {direction} over {link.name}", done, len(wanted))
        transfer = emulate(size, link, direction, ways[link.name])
        transfers.append({**dataclasses.asdict(transfer), "error": transfer.error})
    return {
        "transfers": transfers,
        "left_out": [link.name for link in links if not ways[link.name]],
        "most_seconds": MOST_SECONDS,
        "most_mbps": MOST_MBPS,
    }


def _messages(traffic: Sequence[Traffic], link: Link) -> Iterator[tuple[Direction, int]]:
    """Directions and sizes, those too long cut as :func:`~.emulation.emulate` would."""
    for entry in traffic:
        for direction, size in (("up", entry.coding.size), ("down", entry.down_bytes)):
            yield direction, min(size, int(link.rate(direction) * MOST_SECONDS))  # type: ignore[arg-type,misc]
