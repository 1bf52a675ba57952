"""Strategies of selection: by chance, or by a score of the clients that took part and some curiosity about others."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from .results import MOST_LOSS
from .selection import ClientView, Strategy, View

#: Sets the draws of clients apart from other uses of the same seed.
_STREAM = 0x5E1EC7

#: Oort's published defaults: share of unexplored clients at first, its decay per round and its least value, ...
EXPLORATION, EXPLORATION_DECAY, LEAST_EXPLORATION = 0.9, 0.98, 0.2
#: ... the weight of a long absence, the quantile that scores are capped at, the share of the last admitted score from
#: which on a client is a candidate, and the exponent of the penalty of slow clients.
STALENESS, CAP, CUT_OFF, SLOWNESS = 0.1, 95, 0.95, 2.0
#: Most that one client's figure may count beside the median's, ours.
CAP_OVER_MEDIAN = 10.0

#: Weight of usefulness against what stays in the battery, assumed for EAFL.
EAFL_WEIGHT = 0.25

#: Scores by client.
Scores = dict[int, float]


@dataclass(frozen=True)
class Random:
    """Every client that is there is as likely as any other."""

    title: str = "random"
    source: str = "H. B. McMahan et al., Communication-efficient learning (FedAvg), AISTATS 2017"
    differs: str = "nothing"

    def choose(self, view: View, count: int) -> list[int]:
        """Draw without replacement."""
        clients = [client.client for client in view.askable]
        if not clients:
            return []
        return sorted(int(c) for c in _rng(view).choice(clients, min(count, len(clients)), replace=False))


@dataclass(frozen=True)
class Oort:
    """Useful and fast clients, with exploration."""

    title: str = "Oort-like utility"
    source: str = "F. Lai et al., Oort: efficient federated learning via guided participant selection, OSDI 2021"
    differs: str = (
        "the mean loss of a client stands for the root mean square over its samples; utilities are capped at ten times "
        "the median as well; the preferred duration is the median of the fleet, without a pacer; no client is ever "
        "banned"
    )

    def choose(self, view: View, count: int) -> list[int]:
        """Explore and exploit by utility."""
        useful, preferred = usefulness(view), _preferred_s(view)
        scores = {c.client: useful[c.client] * speed_factor(c, preferred) for c in view.askable}
        return explore_and_exploit(view, count, scores, lambda client: speed_factor(client, preferred))


@dataclass(frozen=True)
class Eafl:
    """Oort's utility against the battery that a client would have left."""

    title: str = "EAFL-like, energy-aware"
    source: str = "A. Arouj, A. M. Abdelmoniem, Towards energy-aware federated learning (EAFL), arXiv 2208.04505"
    differs: str = (
        "built on the Oort-like utility here, scaled to its largest value; the battery term is the expected charge "
        "after the round as a share of a full battery, 1 on mains; the weight of the two is assumed"
    )
    weight: float = EAFL_WEIGHT

    def choose(self, view: View, count: int) -> list[int]:
        """Explore and exploit by the weighted sum of utility and charge."""
        useful, preferred = usefulness(view), _preferred_s(view)
        utility = _scaled({c.client: useful[c.client] * speed_factor(c, preferred) for c in view.askable})
        scores = {c.client: self.weight * utility[c.client] + (1 - self.weight) * charge_after(c) for c in view.askable}
        return explore_and_exploit(view, count, scores, charge_after)


@dataclass(frozen=True)
class FedJoule:
    """The most useful clients that this round's share of an energy budget pays for."""

    title: str = "FedJoule-like, energy budget"
    source: str = "R. Banerjee et al., Federated learning within global energy budget (FedJoule), Euro-Par 2025"
    differs: str = (
        "the loss-based usefulness stands for approximate Shapley values; a greedy choice within the round's share of "
        "the budget stands for the bi-level integer programme; a round is filled with the cheapest clients when its "
        "share is too small; the deadline stands for the paper's times"
    )

    def choose(self, view: View, count: int) -> list[int]:
        """Take the most useful client that leaves enough for the cheapest of the others, and so on."""
        useful = usefulness(view)
        left = sorted(_likely_to_answer(view, count), key=lambda c: (-useful[c.client], c.client))
        allowance = _allowance(view)
        chosen: list[ClientView] = []
        while left and len(chosen) < count:
            missing = count - len(chosen) - 1
            pick = next((c for c in left if _energy(c) + _cheapest(left, c, missing) <= allowance), None)
            pick = pick or min(left, key=_energy)
            left.remove(pick)
            chosen.append(pick)
            allowance -= _energy(pick)
        return sorted(c.client for c in chosen)


@dataclass(frozen=True)
class TokensPerJoule:
    """Usefulness × (tokens per joule)^alpha, for clients that will answer in time."""

    alpha: float = 0.5
    title: str = "tokens per joule (ours)"
    source: str = "this project, with the efficiency in tokens/s/W of H. Woisetschläger et al., arXiv 2310.03150"
    differs: str = (
        "Oort's exploration; its penalty of slow clients gives way to tokens per joule over the fleet's median, to the "
        "power of alpha, and clients expected to miss the deadline or to run out of charge are not asked, not even to "
        "explore them, while there are enough others"
    )

    name = "tokens-per-joule"

    def choose(self, view: View, count: int) -> list[int]:
        """Explore and exploit by the product, among clients that will answer where they are enough."""
        return _by_efficiency(view, count, _tokens_per_joule, self.alpha)


@dataclass(frozen=True)
class Mfu:
    """Usefulness × MFU^alpha, for clients that will answer in time."""

    alpha: float = 0.5
    title: str = "model FLOP utilisation (ours)"
    source: str = "this project: the strategy of tokens per joule for fleets of which nobody knows the power"
    differs: str = (
        "as tokens per joule, with the MFU of a client's step over the fleet's median in its place; a client whose MFU "
        "is unknown counts as the median"
    )

    name = "mfu"

    def choose(self, view: View, count: int) -> list[int]:
        """Explore and exploit by the product, among clients that will answer where they are enough."""
        return _by_efficiency(view, count, lambda client: client.mfu or None, self.alpha)


STRATEGIES: dict[str, Strategy] = {
    "random": Random(),
    "oort": Oort(),
    "eafl": Eafl(),
    "fedjoule": FedJoule(),
    TokensPerJoule.name: TokensPerJoule(),
    Mfu.name: Mfu(),
}
#: Strategies with an exponent behind their name.
WITH_ALPHA: dict[str, Callable[[float], Strategy]] = {TokensPerJoule.name: TokensPerJoule, Mfu.name: Mfu}


def usefulness(view: View) -> Scores:
    """Oort's statistical utility: examples × loss, capped at a quantile, more for a long absence.

    The cap is no more than a multiple of the median either: among few clients one large figure moves the quantile, and
    all others would count for nothing beside it. Clients that never took part are as useful as the most useful of the
    others, so that no strategy forgets them.
    """
    raw = {
        c.client: c.examples * min(c.loss, MOST_LOSS)
        for c in view.clients
        if c.examples is not None and c.loss is not None
    }
    if not raw:
        return {c.client: 1.0 for c in view.clients}
    values = list(raw.values())
    cap = min(float(np.percentile(values, CAP)), CAP_OVER_MEDIAN * median(values)) or 1.0
    scores = {
        c.client: min(raw[c.client], cap) / cap + math.sqrt(STALENESS * math.log(view.round_number) / c.last_round)
        for c in view.clients
        if c.client in raw
    }
    best = max(scores.values())
    return {c.client: scores.get(c.client, best) for c in view.clients}


def speed_factor(client: ClientView, preferred_s: float) -> float:
    """Oort's penalty: (T / t)^2 of a client that takes longer than the preferred T; 1 where its time is unknown."""
    if client.round_s is None or client.round_s <= preferred_s:
        return 1.0
    return float((preferred_s / client.round_s) ** SLOWNESS)


def charge_after(client: ClientView) -> float:
    """Expected charge after a round as a share of a full battery; 1 on mains, at least 0."""
    if client.battery_j is None or not client.capacity_j:
        return 1.0
    return max(0.0, (client.battery_j - _energy(client)) / client.capacity_j)


def explore_and_exploit(
    view: View, count: int, scores: Mapping[int, float], prospect: Callable[[ClientView], float]
) -> list[int]:
    """Oort's scheme: some places go to unexplored clients, the others to those with the best scores.

    Args:
        view: what is known.
        count: places.
        scores: by client, 0 or more; clients are drawn in proportion among those near the last that is admitted.
        prospect: weight of an unexplored client in the draw, 0 or more.
    """
    rng = _rng(view)
    new = [client for client in view.askable if not client.explored]
    known = [client for client in view.askable if client.explored]
    count = min(count, len(new) + len(known))
    share = max(LEAST_EXPLORATION, EXPLORATION * EXPLORATION_DECAY ** (view.round_number - 1))
    places = min(len(new), max(round(share * count), count - len(known)))
    explored = _draw(rng, new, [prospect(client) for client in new], places)
    ranked = sorted(known, key=lambda client: (-scores[client.client], client.client))
    wanted = count - places
    if not wanted:
        return sorted(explored)
    least = CUT_OFF * scores[ranked[wanted - 1].client]
    near = [client for client in ranked if scores[client.client] >= least]
    return sorted(explored + _draw(rng, near, [scores[client.client] for client in near], wanted))


def _draw(rng: np.random.Generator, clients: Sequence[ClientView], weights: Sequence[float], count: int) -> list[int]:
    """Draw distinct clients in proportion to weights; those of weight 0 only where the others are too few."""
    numbers, mass = np.array([client.client for client in clients]), np.array(weights, float)
    drawn: list[int] = []
    for group in (mass > 0, mass <= 0):
        size = min(count - len(drawn), int(group.sum()))
        if size:
            shares = mass[group] / mass[group].sum() if mass[group].any() else None
            drawn += [int(client) for client in rng.choice(numbers[group], size, replace=False, p=shares)]
    return drawn


def _rng(view: View) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence((view.seed, view.round_number, _STREAM)))


def _preferred_s(view: View) -> float:
    return median([c.round_s for c in view.clients if c.round_s is not None] or [math.inf])


def _scaled(scores: Scores) -> Scores:
    largest = max(scores.values(), default=0.0) or 1.0
    return {client: score / largest for client, score in scores.items()}


def _by_efficiency(view: View, count: int, efficiency: Callable[[ClientView], float | None], alpha: float) -> list[int]:
    """Explore and exploit by usefulness × (efficiency over the median)^alpha, among clients that will answer.

    Where an efficiency is unknown the client counts as the median, so that the term drops out where nobody knows any.
    """
    useful, likely = usefulness(view), _likely_to_answer(view, count)
    usual = median([value for c in view.askable if (value := efficiency(c)) is not None] or [1.0])

    def factor(client: ClientView) -> float:
        return float(((efficiency(client) or usual) / usual) ** alpha)

    scores = {c.client: useful[c.client] * factor(c) for c in likely}
    return explore_and_exploit(dataclasses.replace(view, clients=tuple(likely)), count, scores, factor)


def _tokens_per_joule(client: ClientView) -> float | None:
    return client.tokens / client.energy_j if client.tokens and client.energy_j else None


def _energy(client: ClientView) -> float:
    return client.energy_j or 0.0


def _likely_to_answer(view: View, count: int) -> list[ClientView]:
    """Clients expected to be in time and to have enough charge; all that can be asked when those are too few."""
    likely = [
        client
        for client in view.askable
        if (client.round_s is None or client.round_s <= view.deadline_s)
        and (client.battery_j is None or _energy(client) <= client.battery_j)
    ]
    return likely if len(likely) >= count else view.askable


def _allowance(view: View) -> float:
    if view.budget_j is None:
        return math.inf
    return max(0.0, view.budget_j) / max(1, view.rounds - view.round_number + 1)


def _cheapest(clients: Sequence[ClientView], without: ClientView, count: int) -> float:
    return sum(sorted(_energy(client) for client in clients if client is not without)[:count])
