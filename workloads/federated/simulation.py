"""A federation under a simulated fleet: real training, and a clock, batteries and mishaps that are made up.

What happens to a client in a round is drawn from the seed, the round and the client alone. So every strategy meets the
same fleet with the same luck: whoever asks client 3 in round 7 finds it as slow, and as likely to vanish.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ...errors import UsageError
from .clients import FleetClient
from .engine import NEVER_USED, Engine, LastUsed, OnAnswer
from .results import Answer, ClientFailure
from .selection import ClientView, View, observe
from .update import Message, Update

_STREAM = 0xF1EE7
#: Before asking again when nobody is there.
WAIT_S = 600.0
MOST_WAITS = 1000  # of one round
#: Less than this is an empty battery: what rounding leaves.
EMPTY_J = 1e-6
#: A jitter of this size makes rounds of e^5 times their length ordinary.
MOST_JITTER = 5.0


@dataclass(frozen=True)
class Mishaps:
    """What goes wrong in a fleet; all of it is assumed.

    Attributes:
        absent: share of rounds in which a client cannot be asked.
        vanish: share of the clients asked that vanish while they train.
        jitter: standard deviation of the logarithm of a round's time.

    Raises:
        UsageError: on construction, when a share makes no sense.
    """

    absent: float = 0.1
    vanish: float = 0.1
    jitter: float = 0.1

    def __post_init__(self) -> None:
        for name in ("absent", "vanish"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be at least 0 and below 1")
        if not 0 <= self.jitter <= MOST_JITTER:
            raise UsageError(f"jitter is {self.jitter}; it must be from 0 to {MOST_JITTER:g}")


@dataclass(frozen=True)
class Attempt:
    """What became of one client that was asked.

    Attributes:
        client: its number.
        seconds: until it answered or was given up.
        energy_j: that it spent.
        reason: why it did not answer; empty when it did.
    """

    client: int
    seconds: float
    energy_j: float
    reason: str


@dataclass(frozen=True)
class SimulatedRound:
    """The simulated side of a round.

    Attributes:
        clock_s: at its end, since the federation began.
        energy_j: of all clients so far, wasted or not.
        attempts: one per client that was asked.
        empty: clients whose battery is empty.
    """

    clock_s: float
    energy_j: float
    attempts: tuple[Attempt, ...]
    empty: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)


class Simulation:
    """The fleet's clock and batteries, and the engine that trains who answers.

    Args:
        engine: trains clients for real.
        fleet: by client number.
        mishaps: what goes wrong.
        deadline_s: the server waits this long; who takes longer is left out.
        budget_j: energy for strategies that keep to one; nothing stops at it.
        rounds: of the federation.
        seed: of luck and strategies.

    Attributes:
        ledger: one entry per round.
    """

    def __init__(
        self,
        engine: Engine,
        fleet: Sequence[FleetClient],
        *,
        mishaps: Mishaps,
        deadline_s: float,
        rounds: int,
        budget_j: float | None = None,
        seed: int = 0,
    ) -> None:
        self._engine, self._fleet, self._mishaps = engine, fleet, mishaps
        self._deadline_s, self._budget_j, self._rounds, self._seed = deadline_s, budget_j, rounds, seed
        self._charge = {client.number: client.charge_j for client in fleet}
        self._clock_s, self._energy_j = 0.0, 0.0
        self._waits: dict[int, int] = {}
        self.ledger: list[SimulatedRound] = []

    def look(self, history: Sequence[Mapping[str, Any]]) -> View:
        """What the server knows before a round; waits, on the clock, while nobody with charge is there.

        Clients' expected times, energies and charges are known to it, to every strategy alike.
        """
        seen = observe(history, len(self._fleet), self._rounds, self._seed)
        number = seen.round_number
        charged = [client.number for client in self._fleet if self._has_charge(client.number)]
        waits = self._waits.setdefault(number, 0)
        while charged and not any(self._is_there(c, number) for c in charged) and waits < MOST_WAITS:
            waits = self._waits[number] = waits + 1
            self._clock_s += WAIT_S
        views = tuple(self._view(client, known, number) for client, known in zip(self._fleet, seen.clients))
        left = None if self._budget_j is None else self._budget_j - self._energy_j
        return View(number, self._rounds, views, self._seed, self._deadline_s, left)

    def train(
        self,
        round_number: int,
        clients: Sequence[int],
        weights: Update,
        on_answer: OnAnswer = lambda client: None,
        used: LastUsed = NEVER_USED,
    ) -> list[Answer]:
        """Train who answers in time; the others cost time and energy and are named with their reasons."""
        attempts = [self._attempt(self._fleet[client], round_number) for client in clients]
        for attempt in attempts:
            charge = self._charge[attempt.client]
            if charge is not None:
                left = charge - attempt.energy_j
                self._charge[attempt.client] = left if left > EMPTY_J else 0.0
        self._energy_j += sum(attempt.energy_j for attempt in attempts)
        waited = any(attempt.reason for attempt in attempts) and math.isfinite(self._deadline_s)
        self._clock_s += self._deadline_s if waited else max(attempt.seconds for attempt in attempts)
        empty = tuple(c.number for c in self._fleet if not self._has_charge(c.number))
        self.ledger.append(SimulatedRound(self._clock_s, self._energy_j, tuple(attempts), empty))
        answering = [attempt.client for attempt in attempts if not attempt.reason]
        lost: list[Answer] = [ClientFailure(attempt.client, attempt.reason) for attempt in attempts if attempt.reason]
        return [*self._engine.train(round_number, answering, weights, on_answer, used), *lost]

    @property
    def name(self) -> str:
        """Of the engine within."""
        return self._engine.name

    @property
    def nodes(self) -> int:
        """Of the engine within."""
        return self._engine.nodes

    def memory(self) -> Message:
        """Of the engine within; the simulation itself has no checkpoints."""
        return self._engine.memory()

    def remember(self, memory: Message) -> None:
        """Put back what :meth:`memory` returned."""
        self._engine.remember(memory)

    def close(self) -> None:
        """Close the engine within."""
        self._engine.close()

    def _attempt(self, client: FleetClient, round_number: int) -> Attempt:
        rng = self._rng(round_number, client.number)
        slower = float(np.exp(rng.normal(0.0, self._mishaps.jitter)))
        vanishes, share = rng.random() < self._mishaps.vanish, float(rng.random())
        seconds, energy = client.times.total_s * slower, client.energy_j * slower
        charge = self._charge[client.number]
        ends = [(share if vanishes else math.inf, "vanished while it trained")]
        ends.append((self._deadline_s / seconds if seconds else math.inf, "missed the deadline"))
        ends.append((charge / energy if charge is not None and energy else math.inf, "its battery ran empty"))
        done, reason = min(ends)
        if done >= 1:
            return Attempt(client.number, seconds, energy, "")
        return Attempt(client.number, seconds * done, energy * done, reason)

    def _view(self, client: FleetClient, known: ClientView, round_number: int) -> ClientView:
        return ClientView(
            client.number,
            available=self._is_there(client.number, round_number),
            examples=known.examples,
            loss=known.loss,
            last_round=known.last_round,
            round_s=client.times.total_s,
            tokens=client.tokens,
            energy_j=client.energy_j,
            mfu=client.profile.mfu,
            battery_j=self._charge[client.number],
            capacity_j=client.capacity_j,
        )

    def _has_charge(self, client: int) -> bool:
        charge = self._charge[client]
        return charge is None or charge > 0

    def _is_there(self, client: int, round_number: int) -> bool:
        """Whether a client can be asked; waits are counted within the round, so that no earlier one plays a part."""
        rng = self._rng(round_number, client, self._waits.get(round_number, 0) + 1)
        return bool(rng.random() >= self._mishaps.absent)

    def _rng(self, *parts: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence((self._seed, *parts, _STREAM)))
