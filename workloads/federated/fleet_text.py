"""A fleet as the user writes it: groups of clients with devices or run folders, numbers and links."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from ...errors import UsageError
from .compute_time import given_step
from .links import Link, parse_link
from .radios import radio_of

#: Ten clients, most of them boards in their power modes.
DEFAULT_FLEET = "orin:15W*3@lte,orin:30W*2@wifi,orin:30W*1@5g,orin:50W*2@wifi,orin:MAXN*1@5g,t4*1@1g"

#: Clients of one entry; more are a slip of the finger.
MOST_CLIENTS = 10_000

_FORM = "DEVICE[:MODE][=STEP_MS][*COUNT]@LINK, or RUN_FOLDER[*COUNT]@LINK"
_ENTRY = re.compile(
    r"(?P<device>[^:=*@,]+)(?::(?P<mode>[^=*@,]+))?(?:=(?P<ms>[\d.]+))?(?:\*(?P<count>\d{1,9}))?@(?P<link>[^,]+)"
)


@dataclass(frozen=True)
class Group:
    """Clients of one kind.

    Attributes:
        device: name of a device file, or a run folder.
        mode: power mode of the device; ``None`` as it is described.
        step_ms: given time of a step; ``None`` where it is projected, or the run's.
        count: how many.
        link: of each.
        radio_w: power of its radio, in W.
    """

    device: str
    mode: str | None
    step_ms: float | None
    count: int
    link: Link
    radio_w: float

    @property
    def is_run(self) -> bool:
        """Whether the device is a run folder: names of devices hold no slash."""
        return "/" in self.device


def parse_fleet(text: str) -> list[Group]:
    """Groups of clients: ``DEVICE[:MODE][=STEP_MS][*COUNT]@LINK`` with commas between, as in ``orin:15W*3@lte``.

    A run folder, which has a slash in it, may stand for device, mode and step time, as in ``runs/small*2@wifi``. The
    link has a known power of its radio: that of a preset, or given with it, as in ``50/10/30@2W``.

    Raises:
        UsageError: an entry is malformed.
    """
    groups = [_group(entry) for entry in filter(None, (part.strip() for part in text.split(",")))]
    if not groups:
        raise UsageError("the fleet has no clients; name some, as in orin:15W*3@lte")
    return groups


def _group(entry: str) -> Group:
    match = _ENTRY.fullmatch(entry)
    if match is None:
        raise UsageError(f"the fleet's entry {entry!r} is not {_FORM}")
    count = int(match["count"] or 1)
    if not 1 <= count <= MOST_CLIENTS:
        raise UsageError(f"the fleet's entry {entry!r} asks for {count} clients; ask for 1 to {MOST_CLIENTS:,}")
    link = parse_link(match["link"])
    radio = radio_of(link)
    if radio is None:
        raise UsageError(
            f"the power of the radio of link {link.name} is unknown, and energy rests on it; give it behind the link, "
            f"as in {link.name}@2W"
        )
    step_ms = _step_ms(match["ms"], entry)
    group = Group(match["device"], match["mode"], step_ms, count, link, radio.watts)
    if group.is_run and (group.mode or step_ms is not None):
        raise UsageError(f"the fleet's entry {entry!r} names a run, which has a mode and a step time: leave them out")
    return group


def _step_ms(text: str | None, entry: str) -> float | None:
    if text is None:
        return None
    try:
        return given_step(float(text)).ms
    except (ValueError, UsageError) as error:
        raise UsageError(f"the fleet's entry {entry!r} has no step time in ms that makes sense: {error}") from error


def run_marks(text: str) -> dict[str, str]:
    """SHA-256 of what each run folder of a fleet says, so that a run that was made again is not taken for the old one.

    Args:
        text: see :func:`parse_fleet`.

    Raises:
        UsageError: a run folder cannot be read.
    """
    marks = {}
    for folder in sorted({group.device for group in parse_fleet(text) if group.is_run}):
        try:
            marks[folder] = hashlib.sha256((Path(folder) / "run.json").read_bytes()).hexdigest()
        except OSError as error:
            raise UsageError(f"the fleet's {folder} is no run folder: {error.strerror or error}") from error
    return marks
