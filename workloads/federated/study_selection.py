"""The selection study: which strategy of choosing clients reaches a loss in the least time, energy or rounds?

The learning is real: a small model trains on the data of the clients that answer. The fleet is simulated, see
:mod:`.clients` and :mod:`.simulation`. On one seed every strategy meets the same data, initial weights, fleet, charges
and luck, so strategies are compared in pairs; another seed changes all of these but the fleet's devices.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from ...errors import FederatedError, UsageError
from .clients import FleetClient, Work, build_fleet, build_work, check_battery
from .config import FederatedConfig
from .fleet_text import DEFAULT_FLEET, parse_fleet, run_marks
from .profiles import Profile, build_profiles
from .selection import selection
from .simulation import Mishaps, Simulation
from .strategies import TokensPerJoule
from .study import (
    SEEDED,
    Progress,
    Record,
    check_plan,
    keep,
    known_interval,
    last_quality,
    paired,
    rounds_to,
    target_loss,
)

BASELINE = "random"
STRATEGIES = ("random", "oort", "eafl", "fedjoule", "tokens-per-joule", "mfu")
#: The server waits this often the median of the clients' expected rounds.
PATIENCE = 3.0
#: Budget for strategies that keep to one: this share of what choosing by chance is expected to spend.
BUDGET_SHARE = 0.7
MOST_BUDGET_WH = 1e9

#: What strategies are judged by, all to the target.
COSTS = ("rounds", "time_s", "energy_j")


@dataclass(frozen=True)
class SelectionStudy:
    """What to compare.

    Attributes:
        config: of every federation; selection, clients and seed are the study's.
        strategies: names; the first is what the others are compared with.
        seeds: federations per strategy.
        fleet: see :func:`~.fleet_text.parse_fleet`.
        fleet_model: whose steps take the fleet's time.
        fleet_codec: compresses the fleet's updates; its own loss does not touch the learning.
        battery_wh: energy that a board's full battery has for training.
        mishaps: what goes wrong.
        target: held-out loss to reach; by default 90 % of what the first strategy gained on each seed.
        budget_wh: energy for strategies that keep to a budget; by default 70 % of what chance is expected to spend.

    Raises:
        UsageError: on construction, when something is unknown, missing or makes no sense.
    """

    config: FederatedConfig
    strategies: tuple[str, ...] = STRATEGIES
    seeds: int = 5
    fleet: str = DEFAULT_FLEET
    fleet_model: str = "small"
    fleet_codec: str = "int8"
    battery_wh: float = 20.0
    mishaps: Mishaps = field(default_factory=Mishaps)
    target: float | None = None
    budget_wh: float | None = None

    def __post_init__(self) -> None:
        check_plan(self.seeds, self.target)
        if len(self.strategies) < 2 or len({selection(name) for name in self.strategies}) < len(self.strategies):
            raise UsageError("a comparison needs two strategies or more, each named once")
        parse_fleet(self.fleet)
        check_battery(self.battery_wh)
        if self.budget_wh is not None and not 0 < self.budget_wh <= MOST_BUDGET_WH:
            raise UsageError(f"a budget of {self.budget_wh} Wh makes no sense; give more than 0, at most 1e9")
        self.config_of(self.strategies[0], self.seeds - 1, self.config.clients)

    def config_of(self, strategy: str, seed: int, clients: int) -> FederatedConfig:
        """The federation of one strategy and seed."""
        sampled = min(self.config.sampled, clients)
        config = dataclasses.replace(self.config, clients=clients, sampled=sampled, selection=strategy)
        return config.with_seed(self.config.seed + seed)


def run_selection(
    study: SelectionStudy, folder: Path | None = None, on_progress: Progress = lambda what, done, total: None
) -> Record:
    """Run the federations that are not kept yet, and compare them.

    Args:
        study: what to compare.
        folder: projections and finished federations are kept here, and found again.
        on_progress: told what is being done.

    Returns:
        The JSON-ready comparison.

    Raises:
        EdgeroofError: a device cannot be projected, or a federation cannot be set up.
    """
    profiles, work = _fleet_of(study, folder, on_progress)
    total = len(study.strategies) * study.seeds
    records: dict[str, list[Record]] = {strategy: [] for strategy in study.strategies}
    for place, (seed, name) in enumerate((s, n) for s in range(study.seeds) for n in study.strategies):
        on_progress(f"{name}, seed {seed}", place, total)
        setting = _setting(study, name, seed, profiles, work)
        record = keep(
            folder, f"{name}-{seed}", setting, lambda n=name, s=seed: _run(study, n, s, profiles, work)  # type: ignore[misc]
        )  # fmt: skip
        records[name].append(record)
    on_progress("done", total, total)
    return compare_strategies(study, profiles, work, records)


def _fleet_of(study: SelectionStudy, folder: Path | None, on_progress: Progress) -> tuple[list[Profile], Work]:
    """Profiles and sizes, which take a projection per device, from the folder where they are kept."""

    def make() -> Record:
        profiles = build_profiles(study.fleet, study.fleet_model, on_progress)
        work = build_work(study.fleet_model, study.fleet_codec)
        return {"profiles": [dataclasses.asdict(p) for p in profiles], "work": dataclasses.asdict(work)}

    setting = {
        "fleet": study.fleet,
        "model": study.fleet_model,
        "codec": study.fleet_codec,
        "runs": run_marks(study.fleet),
    }
    kept = keep(folder, "fleet", setting, make)
    return [Profile(**profile) for profile in kept["profiles"]], Work(**kept["work"])


def _setting(study: SelectionStudy, name: str, seed: int, profiles: Sequence[Profile], work: Work) -> Record:
    return {
        "config": study.config_of(name, seed, len(profiles)).to_json(),
        "profiles": [dataclasses.asdict(profile) for profile in profiles],
        "work": dataclasses.asdict(work),
        "mishaps": dataclasses.asdict(study.mishaps),
        "battery_wh": study.battery_wh,
        "budget_wh": study.budget_wh,
    }


def _run(study: SelectionStudy, name: str, seed: int, profiles: Sequence[Profile], work: Work) -> Record:
    """One federation; one whose clients are used up ends early, with what it has learned until then."""
    from .engine import LocalEngine
    from .rounds import Federation
    from .training import ClientTrainer

    config = study.config_of(name, seed, len(profiles))
    trainer = ClientTrainer(config)
    fleet = build_fleet(profiles, trainer.data.sizes(), work, study.battery_wh, config.seed)
    deadline_s, budget_j = deadline(fleet), budget(study, fleet)
    simulation = Simulation(
        LocalEngine(trainer),
        fleet,
        mishaps=study.mishaps,
        deadline_s=deadline_s,
        rounds=config.rounds,
        budget_j=budget_j,
        seed=config.seed,
    )
    # Rounds that bad luck spoils are a cost of the strategy, no reason to give up.
    federation, ended = Federation.start(trainer, simulation, look=simulation.look, patience=None), ""
    try:
        federation.run()
    except FederatedError as error:
        ended = str(error)
    return {
        "history": federation.state.history,
        "simulated": [entry.to_json() for entry in simulation.ledger],
        "fleet": [client.describe() for client in fleet],
        "deadline_s": deadline_s,
        "budget_j": budget_j,
        "ended": ended,
        "data": trainer.data.what,
    }


def deadline(fleet: Sequence[FleetClient]) -> float:
    """How long the server waits: a multiple of the median of what clients are expected to take, in s."""
    return PATIENCE * median(client.times.total_s for client in fleet)


def budget(study: SelectionStudy, fleet: Sequence[FleetClient]) -> float:
    """Energy that budgeted strategies plan with, in J."""
    if study.budget_wh is not None:
        return study.budget_wh * 3600
    mean = sum(client.energy_j for client in fleet) / len(fleet)
    return BUDGET_SHARE * mean * study.config.rounds * min(study.config.sampled, len(fleet))


def compare_strategies(
    study: SelectionStudy, profiles: Sequence[Profile], work: Work, records: Mapping[str, Sequence[Record]]
) -> Record:
    """The comparison of finished federations.

    Args:
        study: what was compared.
        profiles: of the fleet.
        work: of the fleet.
        records: per strategy, one for each seed, as :func:`run_selection` keeps them.
    """
    baseline = records[study.strategies[0]]
    targets = [target_loss(record["history"], study.target) for record in baseline]
    strategies = [_strategy(name, records[name], targets) for name in study.strategies]
    for entry in strategies:
        entry["ratios"] = {cost: paired(entry[cost], strategies[0][cost]).to_json() for cost in COSTS}
    ours = next((entry for entry in strategies if entry["name"].partition(":")[0] == TokensPerJoule.name), None)
    if ours:
        for entry in strategies:
            entry["ours_ratios"] = {cost: paired(ours[cost], entry[cost]).to_json() for cost in COSTS}
    return {
        "config": study.config.to_json(),
        "data": baseline[0]["data"],
        "seeds": [study.config.seed + seed for seed in range(study.seeds)],
        "seeded": SEEDED,
        "target_given": study.target,
        "targets": targets,
        "fleet_text": study.fleet,
        "fleet": baseline[0]["fleet"],
        "work": dataclasses.asdict(work),
        "fleet_codec": study.fleet_codec,
        "mishaps": dataclasses.asdict(study.mishaps),
        "battery_wh": study.battery_wh,
        "deadline_s": [record["deadline_s"] for record in baseline],
        "budget_j": [record["budget_j"] for record in baseline],
        "ours": ours["name"] if ours else None,
        "strategies": strategies,
    }


def _strategy(name: str, records: Sequence[Record], targets: Sequence[float]) -> Record:
    strategy = selection(name)
    rounds = [rounds_to(record["history"], target) for record, target in zip(records, targets)]
    quality = [last_quality(record["history"]) for record in records]
    found: Record = {
        "name": name,
        "title": strategy.title,
        "source": strategy.source,
        "differs": strategy.differs,
        "rounds": rounds,
        "time_s": [_at(record, number, "clock_s") for record, number in zip(records, rounds)],
        "energy_j": [_at(record, number, "energy_j") for record, number in zip(records, rounds)],
        "loss": [loss if math.isfinite(loss) else None for loss, _ in quality],
        "rouge_l": [rouge for _, rouge in quality],
        "asked": [sum(len(entry["attempts"]) for entry in record["simulated"]) for record in records],
        "unanswered": [_unanswered(record) for record in records],
        "empty": [len(record["simulated"][-1]["empty"]) if record["simulated"] else 0 for record in records],
        "clients": [_distinct(record) for record in records],
        "ended": [record["ended"] for record in records],
        "curve": _curve(records),
    }
    names = (*COSTS, "loss", "rouge_l")
    return found | {"intervals": {key: known_interval(found[key]).to_json() for key in names}}


def _at(record: Record, number: int | None, what: str) -> float | None:
    """Clock or energy at the end of a round; 0 before the first."""
    if number is None:
        return None
    return float(record["simulated"][number - 1][what]) if number else 0.0


def _unanswered(record: Record) -> int:
    return sum(bool(attempt["reason"]) for entry in record["simulated"] for attempt in entry["attempts"])


def _distinct(record: Record) -> int:
    return len({entry["client"] for r in record["history"] for entry in r.get("used", ())})


def _curve(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Held-out loss round by round, with clock and energy: medians over the seeds that got so far."""
    points = []
    for number in range(min(len(record["history"]) for record in records)):
        losses = [record["history"][number]["eval_loss"] for record in records]
        if any(loss is None for loss in losses):
            break
        clocks = [_at(record, number, "clock_s") or 0.0 for record in records]
        joules = [_at(record, number, "energy_j") or 0.0 for record in records]
        points.append(
            {
                "round": number,
                "clock_s": median(clocks),
                "energy_j": median(joules),
                "loss": median(losses),
                "low": min(losses),
                "high": max(losses),
            }
        )
    return points
