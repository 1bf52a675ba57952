"""Power limits of boards by name, for device files that do not state one: it decides the clock of a small board."""

from __future__ import annotations

import re

#: Pattern of a board's name and its limit in W, from NVIDIA's datasheets; the first match counts.
_LIMITS: tuple[tuple[str, float], ...] = (
    (r"l40s", 350), (r"l40", 300), (r"l20", 275), (r"l4", 72), (r"a2", 60), (r"a10g?", 150), (r"a16", 250), (r"a30",
    165), (r"a40", 300), (r"t4", 70), (r"p4", 75), (r"p40", 250), (r"m4", 75), (r"rtx a2000", 70), (r"rtx a4000", 140),
    (r"rtx 4000 (sff )?ada", 70), (r"rtx 2000 ada", 70),
)  # fmt: skip


def known_power_limit(*names: str) -> float | None:
    """The limit in W of the board that one of ``names`` means, such as ``NVIDIA L4``; ``None`` when none is known."""
    for name in names:
        words = re.sub(r"[^a-z0-9]+", " ", name.lower())
        for pattern, watts in _LIMITS:
            if re.search(rf"\b{pattern}\b", words):
                return watts
    return None
