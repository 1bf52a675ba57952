"""Strategies: distinct clients, as many as asked for, none that is away or empty, the same for the same seed."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeroof.errors import UsageError
from edgeroof.workloads.federated.selection import ClientView, View, observe, selection
from edgeroof.workloads.federated.strategies import STRATEGIES, charge_after, usefulness

NAMES = [*STRATEGIES, "tokens-per-joule:0", "tokens-per-joule:3", "mfu:2"]

positive = st.floats(1e-3, 1e6)
unknown = st.none() | positive


@st.composite
def views(draw: st.DrawFn) -> View:
    number = draw(st.integers(1, 50))
    clients = []
    for client in range(draw(st.integers(1, 12))):
        explored = number > 1 and draw(st.booleans())
        clients.append(
            ClientView(
                client,
                available=draw(st.booleans()),
                examples=draw(st.integers(1, 1000)) if explored else None,
                loss=draw(st.floats(0, 20) | st.just(1e308)) if explored else None,
                last_round=draw(st.integers(1, number - 1)) if explored else 0,
                round_s=draw(unknown),
                tokens=draw(unknown),
                energy_j=draw(unknown),
                battery_j=draw(st.none() | st.just(0.0) | positive),
                capacity_j=draw(unknown),
                mfu=draw(st.none() | st.floats(1e-6, 1)),
            )
        )
    budget = draw(st.none() | st.floats(-10, 1e6))
    return View(number, 50, tuple(clients), draw(st.integers(0, 9)), draw(positive), budget)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30, deadline=None)
@given(view=views(), count=st.integers(1, 12))
def test_choices_are_distinct_there_and_charged(name: str, view: View, count: int) -> None:
    chosen = selection(name).choose(view, count)
    askable = {client.client for client in view.clients if client.available and client.battery_j != 0}
    assert len(chosen) == len(set(chosen)) == min(count, len(askable))
    assert set(chosen) <= askable
    assert chosen == sorted(chosen)
    assert all(type(client) is int for client in chosen)
    assert selection(name).choose(view, count) == chosen


@settings(max_examples=30, deadline=None)
@given(view=views())
def test_usefulness_never_forgets_the_unexplored(view: View) -> None:
    scores = usefulness(view)
    best = max(scores.values())
    assert all(scores[c.client] == best for c in view.clients if not c.explored)
    assert all(score >= 0 for score in scores.values())


def fleet(count: int = 6, **changes: list) -> View:
    """Explored clients of equal use; each change is a list of one value per client."""
    equal = ClientView(0, examples=10, loss=2.0, last_round=1, round_s=10.0, tokens=100.0, energy_j=50.0)
    clients = []
    for number in range(count):
        own = {name: values[number] for name, values in changes.items()}
        clients.append(dataclasses.replace(equal, client=number, **own))
    return View(2, 10, tuple(clients))


def share(name: str, view: View, client: int) -> float:
    seeds = range(200)
    return sum(client in selection(name).choose(dataclasses.replace(view, seed=s), 1) for s in seeds) / len(seeds)


def test_oort_prefers_useful_and_fast_clients() -> None:
    assert share("oort", fleet(loss=[9.0, 1.0, 1.0, 1.0, 1.0, 1.0]), 0) == 1
    assert share("oort", fleet(round_s=[99.0, 1.0, 1.0, 1.0, 1.0, 1.0]), 0) == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("loss", [1e4, 1e308, float("inf")])
def test_one_figure_neither_stops_nor_fills_a_round(name: str, loss: float) -> None:
    view = fleet(loss=[loss, *[2.0] * 5])
    assert len(selection(name).choose(view, 3)) == 3
    absence = usefulness(fleet(loss=[0.0] * 6))[0]
    scores = usefulness(view)
    assert scores[0] - absence <= 10.001 * (scores[1] - absence)


def test_mfu_prefers_devices_that_are_well_used() -> None:
    view = fleet(mfu=[0.6, *[0.2] * 5])
    assert share("mfu", view, 0) == 1
    assert share("mfu:0", view, 0) < 0.5
    unknown = fleet(mfu=[None] * 6)
    assert selection("mfu").choose(unknown, 3) == selection("mfu:0").choose(unknown, 3)
    mixed = fleet(mfu=[None, 0.6, *[0.2] * 4])
    assert share("mfu", mixed, 1) == 1
    late = dataclasses.replace(fleet(mfu=[0.9, *[0.1] * 5], round_s=[99.0, *[1.0] * 5]), deadline_s=20.0)
    assert share("mfu", late, 0) == 0


def test_eafl_spares_the_nearly_empty() -> None:
    view = fleet(battery_j=[60.0, *[1000.0] * 5], capacity_j=[1000.0] * 6, loss=[2.1, *[2.0] * 5])
    assert share("eafl", view, 0) == 0
    assert charge_after(view.clients[0]) == pytest.approx(0.01)


def test_fedjoule_keeps_to_its_share_of_the_budget() -> None:
    view = fleet(energy_j=[100.0, 10.0, 10.0, 10.0, 10.0, 10.0], loss=[9.0, *[1.0] * 5])
    rich, poor = (dataclasses.replace(view, budget_j=budget) for budget in (9 * 120.0, 9 * 30.0))
    assert 0 in selection("fedjoule").choose(rich, 3)
    assert 0 not in selection("fedjoule").choose(poor, 3)


def test_ours_prefers_tokens_per_joule_unless_alpha_is_zero() -> None:
    view = fleet(energy_j=[5.0, *[500.0] * 5])
    assert share("tokens-per-joule", view, 0) == 1
    assert share("tokens-per-joule:0", view, 0) < 0.5


def test_ours_leaves_out_who_would_miss_the_deadline() -> None:
    view = dataclasses.replace(fleet(round_s=[99.0, *[1.0] * 5], loss=[9.0, *[1.0] * 5]), deadline_s=20.0)
    assert share("tokens-per-joule", view, 0) == 0


def test_ours_does_not_explore_who_would_miss_the_deadline() -> None:
    """Else the last client that nobody knows takes a place in every round, and never answers."""
    view = fleet(round_s=[99.0, *[1.0] * 5], examples=[None, *[10] * 5], loss=[None, *[2.0] * 5])
    view = dataclasses.replace(view, deadline_s=20.0)
    assert not any(
        0 in selection("tokens-per-joule").choose(dataclasses.replace(view, seed=seed), 3) for seed in range(50)
    )
    alone = dataclasses.replace(view, clients=view.clients[:2])
    assert selection("tokens-per-joule").choose(alone, 2) == [0, 1]


def test_records_become_a_view() -> None:
    used = {"client": 1, "examples": 7, "tokens": 70, "loss": 3.0, "compute_s": 1.0, "codec_s": 0.5}
    view = observe([{"round": 0}, {"round": 1, "used": [used]}], 3, 9, 4)
    assert (view.round_number, view.rounds, view.seed) == (2, 9, 4)
    assert [client.explored for client in view.clients] == [False, True, False]
    assert (view.clients[1].round_s, view.clients[1].last_round) == (1.5, 1)


@pytest.mark.parametrize("name", ["best", "oort:2", "tokens-per-joule:x", "tokens-per-joule:-1", "mfu:11", "eafl:1"])
def test_unknown_strategies(name: str) -> None:
    with pytest.raises(UsageError):
        selection(name)


@pytest.mark.parametrize("name", NAMES)
def test_every_strategy_names_its_source(name: str) -> None:
    strategy = selection(name)
    assert strategy.title
    assert strategy.source
    assert strategy.differs
