"""Power of what sends and receives, for the energy of communication: one figure per kind of link, with its source.

No link here was metered. A figure holds for a transfer that keeps the link busy, and leaves out the board behind it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .links import Link, check_radio_w

_SMARTPHONE_LTE = (
    "J. Huang et al., MobiSys 2012: an LTE smartphone while it sends 6.3 Mbit/s, 1.29 W + 0.438 W per Mbit/s; "
    "receiving takes less"
)


@dataclass(frozen=True)
class Radio:
    """Power of an interface while it is busy.

    Attributes:
        watts: in W.
        source: where the figure comes from; assumptions say so.
    """

    watts: float
    source: str


RADIOS: dict[str, Radio] = {
    "10g": Radio(10.0, "assumed: a 10 Gbit/s network card"),
    "1g": Radio(1.0, "assumed: a gigabit Ethernet port"),
    "wifi": Radio(1.5, "assumed: a Wi-Fi module of a board"),
    "5g": Radio(4.0, "assumed: no more than LTE's smartphone sending"),
    "4g": Radio(4.0, "assumed: as LTE's smartphone sending"),
    "lte": Radio(4.05, _SMARTPHONE_LTE),
}


def radio_of(link: Link, watts: float | None = None) -> Radio | None:
    """The radio of a link: as given with it, for all links, or of a preset; ``None`` for another without a figure.

    Args:
        link: with its own power or without.
        watts: for all links that have none of their own.

    Raises:
        UsageError: the given power makes no sense.
    """
    if watts is not None:
        check_radio_w(watts)
    if link.radio_w is not None:
        return Radio(link.radio_w, "given with the link")
    return RADIOS.get(link.name) if watts is None else Radio(watts, "given by the user")


def describe_radios(links: Sequence[Link], watts: float | None = None) -> dict[str, dict[str, Any]]:
    """The radio of each link that has one, by the link's name, JSON-ready.

    Raises:
        UsageError: the given power makes no sense.
    """
    found = {link.name: radio_of(link, watts) for link in links}
    return {name: dataclasses.asdict(radio) for name, radio in found.items() if radio}
