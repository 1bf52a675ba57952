"""A simulated fleet: clients with devices of device files and power modes, links and batteries.

Nothing here is measured on the clients' devices: step times are projected or given, powers are the modes' budgets,
which bound them from above, links and radios are models. What a client costs is that of a client step of a language
model with a share of SAMSum, however small the model is that learns beside it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ...errors import UsageError
from .compute_time import step_count
from .granularity import RoundTimes, round_times
from .links import Link, parse_link
from .radios import radio_of

#: Ten clients, most of them boards in their power modes.
DEFAULT_FLEET = "orin:15W*3@lte,orin:30W*2@wifi,orin:30W*1@5g,orin:50W*2@wifi,orin:MAXN*1@5g,t4*1@1g"

#: Training dialogues of SAMSum, which the fleet shares as the clients of the learning share theirs.
SAMSUM_DIALOGUES = 14732
#: Tokens of such a dialogue and its summary, without padding: 5,253 in a batch of 32 of its generated like.
DIALOGUE_TOKENS = 164.0
BATCH_SIZE = 32

_ENTRY = re.compile(
    r"(?P<device>[^:=*@,]+)(?::(?P<mode>[^=*@,]+))?(?:=(?P<ms>[\d.]+))?(?:\*(?P<count>\d+))?@(?P<link>[^,]+)"
)

#: Called with what is being done, the steps done and the steps in all.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Profile:
    """What one kind of client costs.

    Attributes:
        device: name of a device file, with its power mode behind a colon.
        link: name of its link.
        step_ms: one training step.
        step_kind: ``projected`` or ``given``.
        power_w: while computing.
        power_source: where that comes from.
        radio_w: while sending or receiving.
        on_battery: whether its energy ends.
    """

    device: str
    link: str
    step_ms: float
    step_kind: str
    power_w: float
    power_source: str
    radio_w: float
    on_battery: bool


@dataclass(frozen=True)
class Work:
    """What the fleet trains, as opposed to what learns in its place.

    Attributes:
        model: whose steps take the time.
        down_bytes: of the weights.
        up_bytes: of an update.
        dialogues: of all clients together.
    """

    model: str
    down_bytes: int
    up_bytes: int
    dialogues: int = SAMSUM_DIALOGUES


@dataclass(frozen=True)
class FleetClient:
    """One client, as it is expected to behave.

    Attributes:
        number: from 0.
        profile: what it costs.
        times: of its round.
        tokens: of its round.
        capacity_j: energy of its full battery that is set aside for training; ``None`` on mains.
        charge_j: what is in it at the start.
    """

    number: int
    profile: Profile
    times: RoundTimes
    tokens: float
    capacity_j: float | None
    charge_j: float | None

    @property
    def energy_j(self) -> float:
        """Expected energy of a round: computing and sending; waiting is left out."""
        return self.times.compute_s * self.profile.power_w + self.times.communication_s * self.profile.radio_w

    def describe(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "client": self.number,
            **asdict(self.profile),
            "compute_s": self.times.compute_s,
            "communication_s": self.times.communication_s,
            "round_s": self.times.total_s,
            "energy_j": self.energy_j,
            "tokens": self.tokens,
            "capacity_j": self.capacity_j,
            "charge_j": self.charge_j,
        }


def parse_fleet(text: str) -> list[tuple[str, str | None, float | None, int, Link]]:
    """Groups of clients: ``DEVICE[:MODE][=STEP_MS][*COUNT]@LINK`` with commas between, as in ``orin:15W*3@lte``.

    Returns:
        Device, power mode, given step time in ms, number of clients and link of each group.

    Raises:
        UsageError: an entry is malformed.
    """
    groups = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        match = _ENTRY.fullmatch(entry)
        ms = float(match["ms"]) if match and match["ms"] and match["ms"].count(".") < 2 else None
        if match is None or (match["ms"] and not ms) or int(match["count"] or 1) < 1:
            raise UsageError(f"the fleet's entry {entry!r} is not DEVICE[:MODE][=STEP_MS][*COUNT]@LINK")
        groups.append((match["device"], match["mode"], ms, int(match["count"] or 1), parse_link(match["link"])))
    if not groups:
        raise UsageError("the fleet has no clients; name some, as in orin:15W*3@lte")
    return groups


def build_profiles(text: str, model: str, on_progress: Progress = lambda what, done, total: None) -> list[Profile]:
    """One profile per client of a fleet; step times that are not given are projected, once per device.

    Args:
        text: see :func:`parse_fleet`.
        model: whose steps take the time.
        on_progress: told which device is projected.

    Raises:
        EdgeroofError: a device or mode is unknown, states no power, or cannot be projected.
    """
    groups = parse_fleet(text)
    unknown = sorted({device for device, _, ms, _, _ in groups if ms is None})
    projected = {}
    for done, device in enumerate(unknown):
        on_progress(f"projecting {device}", done, len(unknown))
        projected[device] = _project(device, model)
    profiles = []
    for device, mode, ms, count, link in groups:
        profiles += [_profile(device, mode, ms, link, projected.get(device, {}))] * count
    return profiles


def _project(device: str, model: str) -> dict[str | None, float]:
    """Milliseconds of a step by power mode; those of the device as it is described under ``None``."""
    from ... import project

    run = project.client_step(device, largest_batch=False, model=model, batch_size=BATCH_SIZE)
    found = run.summary["projection"]
    by_mode = {entry["mode"]: entry["step_time_ms"]["value"] for entry in found["power_modes"]}
    return {None: found["step_time_ms"]["value"], **by_mode}


def _profile(
    device: str, mode: str | None, given_ms: float | None, link: Link, projected: Mapping[str | None, float]
) -> Profile:
    from ...profiler.device import load_device

    found = load_device(device, power_mode=mode)
    chosen = found.power_mode
    power_w = found.power_modes[chosen].power_w if chosen and chosen in found.power_modes else None
    source = f"budget of mode {chosen}" if power_w else "limit of the device"
    power_w = power_w or found.power_w
    if power_w is None:
        raise UsageError(
            f"the device file of {device} states no power, so its energy is unknown: choose another device"
        )
    radio = radio_of(link.name)
    ms = given_ms if given_ms is not None else projected[chosen if mode else None]
    name = f"{device}:{mode}" if mode else device
    kind = "projected" if given_ms is None else "given"
    watts = radio.watts if radio else 0.0
    return Profile(name, link.name, ms, kind, power_w, f"{source}, an upper bound", watts, found.unified_memory)


def build_fleet(
    profiles: Sequence[Profile], sizes: Sequence[int], work: Work, battery_wh: float, seed: int
) -> list[FleetClient]:
    """Clients with their data, batteries and expected rounds.

    Args:
        profiles: by client.
        sizes: examples of each client that learns; it stands for the same share of the fleet's dialogues.
        work: what the fleet trains.
        battery_wh: energy that a full battery has for training; batteries start between 30 % and full.
        seed: of the charges.

    Raises:
        UsageError: the numbers of clients differ, or a battery makes no sense.
    """
    if len(profiles) != len(sizes):
        raise UsageError(f"the fleet has {len(profiles)} clients and the federation {len(sizes)}; they must be as many")
    if not (math.isfinite(battery_wh) and battery_wh > 0):
        raise UsageError(f"a battery of {battery_wh} Wh makes no sense; give more than 0")
    charges = np.random.default_rng((seed, 0xBA77)).uniform(0.3, 1.0, len(profiles))
    capacity = battery_wh * 3600
    fleet = []
    for number, (profile, size, charge) in enumerate(zip(profiles, sizes, charges)):
        dialogues = max(1, round(work.dialogues * size / sum(sizes)))
        compute_s = step_count(dialogues, BATCH_SIZE, 1) * profile.step_ms * 1e-3
        times = round_times(compute_s, work.down_bytes, work.up_bytes, parse_link(profile.link))
        battery = (capacity, float(charge) * capacity) if profile.on_battery else (None, None)
        fleet.append(FleetClient(number, profile, times, dialogues * DIALOGUE_TOKENS, *battery))
    return fleet


def build_work(model: str, codec: str, lora_rank: int | None = None) -> Work:
    """Sizes of what travels for a model: weights in fp32 down, an update of a codec up.

    Raises:
        EdgeroofError: the model or the codec is unknown.
    """
    from .codecs import parse_codec
    from .payloads import trained_shapes, weights_bytes

    shapes = trained_shapes(model, lora_rank)
    return Work(model, weights_bytes(shapes), parse_codec(codec).payload_bytes(list(shapes.values())))
