"""A simulated fleet: clients with devices of device files and power modes, links and batteries.

What a client costs is that of a client step of a language model with a share of SAMSum, however small the model is that
learns beside it; see :mod:`.profiles`. Batteries are assumed, transfers come from the links' model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ...errors import UsageError
from .compute_time import step_count
from .granularity import RoundTimes, round_times
from .links import parse_link
from .profiles import Profile

#: Training dialogues of SAMSum, which the fleet shares as the clients of the learning share theirs.
SAMSUM_DIALOGUES = 14732
#: Tokens of such a dialogue and its summary, without padding: 5,253 in a batch of 32 of its generated like.
DIALOGUE_TOKENS = 164.0
#: A battery that fills a container ship, in Wh.
MOST_BATTERY_WH = 1e9


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
    check_battery(battery_wh)
    charges = np.random.default_rng((seed, 0xBA77)).uniform(0.3, 1.0, len(profiles))
    capacity = battery_wh * 3600
    fleet = []
    for number, (profile, size, charge) in enumerate(zip(profiles, sizes, charges)):
        dialogues = max(1, round(work.dialogues * size / sum(sizes)))
        compute_s = step_count(dialogues, profile.batch_size, 1) * profile.step_ms * 1e-3
        times = round_times(compute_s, work.down_bytes, work.up_bytes, parse_link(profile.link))
        battery = (capacity, float(charge) * capacity) if profile.on_battery else (None, None)
        fleet.append(FleetClient(number, profile, times, dialogues * DIALOGUE_TOKENS, *battery))
    return fleet


def check_battery(battery_wh: float) -> None:
    """Check the energy of a full battery.

    Raises:
        UsageError: it makes no sense.
    """
    if not 0 < battery_wh <= MOST_BATTERY_WH:
        raise UsageError(f"a battery of {battery_wh} Wh makes no sense; give more than 0, at most {MOST_BATTERY_WH:g}")


def build_work(model: str, codec: str, lora_rank: int | None = None) -> Work:
    """Sizes of what travels for a model: weights in fp32 down, an update of a codec up.

    Raises:
        EdgeroofError: the model or the codec is unknown.
    """
    from .codecs import parse_codec
    from .payloads import trained_shapes, weights_bytes

    shapes = trained_shapes(model, lora_rank)
    return Work(model, weights_bytes(shapes), parse_codec(codec).payload_bytes(list(shapes.values())))
