"""The simulated fleet: a clock that only goes forward, energy that is spent once, the same luck for every strategy."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeroof.errors import UsageError
from edgeroof.workloads.federated.clients import FleetClient, Work, build_fleet
from edgeroof.workloads.federated.fleet_text import parse_fleet, run_marks
from edgeroof.workloads.federated.profiles import Profile, build_profiles
from edgeroof.workloads.federated.results import ClientFailure, ClientResult
from edgeroof.workloads.federated.simulation import Mishaps, Simulation
from edgeroof.workloads.federated.update import Message

WORK = Work("small", 4_000_000, 1_000_000, 3200)


class Ready:
    """An engine whose clients answer at once; what they learn is of no matter here."""

    def train(
        self, round_number: int, clients: list, weights: object, on_answer: object = None, used: object = None
    ) -> list:
        return [ClientResult(client, b"", 1, 1, 1.0, 1.0, 0.0) for client in clients]

    def memory(self) -> Message:
        return Message({})


def profile(**changes: object) -> Profile:
    return dataclasses.replace(Profile("board", "wifi", 100.0, "given", 30.0, "given", 1.5, True), **changes)


def fleet(*profiles: Profile, battery_wh: float = 0.1, seed: int = 0) -> list[FleetClient]:
    return build_fleet(profiles, [10] * len(profiles), WORK, battery_wh, seed)


def simulation(clients: list[FleetClient], **changes: object) -> Simulation:
    settings = {"mishaps": Mishaps(0, 0, 0), "deadline_s": 1e9, "rounds": 20, **changes}
    return Simulation(Ready(), clients, **settings)


@settings(max_examples=40, deadline=None)
@given(
    absent=st.floats(0, 0.9), vanish=st.floats(0, 0.9), jitter=st.floats(0, 1), battery=st.floats(0.001, 10),
    deadline=st.floats(0.1, 100), seed=st.integers(0, 99),
)  # fmt: skip
def test_clock_energy_and_batteries(absent, vanish, jitter, battery, deadline, seed) -> None:
    clients = fleet(*[profile(step_ms=50.0 * (1 + i), on_battery=i != 3) for i in range(4)], battery_wh=battery)
    run = simulation(clients, mishaps=Mishaps(absent, vanish, jitter), deadline_s=deadline, seed=seed)
    history = [{"round": 0}]
    charges = [client.charge_j for client in clients]
    clock = energy = 0.0
    for number in range(1, 8):
        view = run.look(history)
        asked = [client.client for client in view.askable][:2]
        if not asked:
            break
        answers = run.train(number, asked, {})
        entry = run.ledger[-1]
        assert entry.clock_s > clock
        assert entry.energy_j >= energy
        assert all(attempt.energy_j >= 0 and 0 <= attempt.seconds <= deadline * 1.000001 for attempt in entry.attempts)
        assert sorted(answer.client for answer in answers) == asked
        failed = {answer.client for answer in answers if isinstance(answer, ClientFailure)}
        assert failed == {attempt.client for attempt in entry.attempts if attempt.reason}
        after = [client.battery_j for client in run.look(history).clients]
        assert after[3] is None
        assert all(0 <= new <= old for new, old in zip(after[:3], charges[:3]))
        spent = sum(attempt.energy_j for attempt in entry.attempts if attempt.client != 3)
        assert sum(charges[:3]) - sum(after[:3]) == pytest.approx(spent, abs=1e-5)
        clock, energy, charges = entry.clock_s, entry.energy_j, after
        history.append({"round": number})


def test_without_mishaps_everybody_answers_as_expected() -> None:
    clients = fleet(profile(), profile(step_ms=200.0), battery_wh=50)
    run = simulation(clients)
    assert all(isinstance(answer, ClientResult) for answer in run.train(1, [0, 1], {}))
    assert run.ledger[0].clock_s == pytest.approx(clients[1].times.total_s)
    assert run.ledger[0].energy_j == pytest.approx(clients[0].energy_j + clients[1].energy_j)


def test_empty_batteries_late_clients_and_vanished_ones_are_named() -> None:
    clients = fleet(profile(), profile(step_ms=1e5), battery_wh=0.001)
    run = simulation(clients, deadline_s=50.0)
    reasons = {answer.client: answer.reason for answer in run.train(1, [0, 1], {})}
    assert reasons[0] == "its battery ran empty"
    assert run.ledger[0].clock_s == 50.0
    assert 0 in run.ledger[0].empty
    assert not run.look([{"round": 1}]).clients[0].can_be_asked
    mains = fleet(profile(on_battery=False, step_ms=1e5))
    assert simulation(mains, deadline_s=50.0).train(1, [0], {})[0].reason == "missed the deadline"


def test_luck_does_not_depend_on_who_else_is_asked() -> None:
    clients = fleet(*[profile()] * 4, battery_wh=50)
    runs = [simulation(clients, mishaps=Mishaps(0, 0.5, 0.5), seed=3) for _ in range(2)]
    runs[0].train(1, [0, 1, 2, 3], {})
    runs[1].train(1, [2], {})
    assert runs[0].ledger[0].attempts[2] == runs[1].ledger[0].attempts[0]


def test_luck_does_not_depend_on_earlier_rounds() -> None:
    """One strategy waited in round 1 and the other did not: in round 2 the same clients are there for both."""
    clients = fleet(*[profile(on_battery=False)] * 3)
    mishaps = Mishaps(absent=0.8)

    def there(run: Simulation, number: int) -> list[int]:
        return [client.client for client in run.look([{"round": number - 1}]).askable]

    waited = 0
    for seed in range(40):
        fresh, used = (simulation(clients, mishaps=mishaps, seed=seed) for _ in range(2))
        used.train(1, there(used, 1), {})
        waited += used.ledger[0].clock_s >= 600
        assert there(used, 2) == there(fresh, 2)
    assert waited


def test_looking_twice_waits_once() -> None:
    run = simulation(fleet(profile(), battery_wh=50), mishaps=Mishaps(absent=0.99), seed=1)
    first = run.look([{"round": 0}]).askable
    waited = run._clock_s
    assert run.look([{"round": 0}]).askable == first
    assert run._clock_s == waited > 0


def test_the_server_waits_while_nobody_is_there() -> None:
    run = simulation(fleet(profile(), battery_wh=50), mishaps=Mishaps(absent=0.99), seed=1)
    assert run.look([{"round": 0}]).askable
    run.train(1, [0], {})
    assert run.ledger[0].clock_s > 600


@pytest.mark.parametrize(
    "text",
    [
        "",
        "orin",
        "orin@",
        "orin*0@lte",
        "orin=0@lte",
        "orin=1.2.3@lte",
        "orin=.*2@lte",
        "orin=..@lte",
        "orin@wire",
        "orin*10001@lte",
        "runs/x:15W@lte",
        "runs/x=9@lte",
    ],
)
def test_fleets_that_make_no_sense(text: str) -> None:
    with pytest.raises(UsageError):
        parse_fleet(text)


def test_links_of_ones_own_need_the_power_of_their_radio() -> None:
    with pytest.raises(UsageError, match=r"radio of link 50/10/30 is unknown.*50/10/30@2W"):
        parse_fleet("t4=9@50/10/30")
    (client,) = build_profiles("t4=9@50/10/30@2W", "small")
    assert (client.radio_w, client.link) == (2.0, "50/10/30@2W")
    (built,) = fleet(client)
    assert built.energy_j > built.times.compute_s * client.power_w


def a_run(folder: Path, *, power: dict, kind: str = "measured", **workload: object) -> str:
    """A run folder with what a fleet takes of it."""
    summary = {
        "metrics": {
            "step_time_ms": {"median": 80.0, "p25": 70.0, "p75": 90.0}, "power": power, "mfu": {"value": 0.25},
        },
        "workload": {"model_source": "small", "batch_size": 8, "gradient_accumulation": 2, **workload},
        "device": {"name": "orin", "unified_memory": True, "power_w": 60.0},
    }  # fmt: skip
    if kind == "projected":
        summary["projection"] = {"step_time_ms": {"value": 85.0, "low": 60.0, "high": 99.0}}
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(summary))
    return str(folder)


@pytest.fixture
def reads_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(folder: str) -> SimpleNamespace:
        return SimpleNamespace(summary=json.loads((Path(folder) / "run.json").read_text()))

    monkeypatch.setattr("edgeroof.profiler.run.load", load)


@pytest.mark.usefixtures("reads_runs")
def test_runs_are_clients_too(tmp_path: Path) -> None:
    metered = a_run(tmp_path / "metered", power={"available": True, "mean_w": 21.0})
    guessed = a_run(tmp_path / "guessed", power={"available": False}, kind="projected")
    one, two, three = build_profiles(f"{metered}*2@lte,{guessed}@wifi", "small")
    assert one == two
    assert (one.step_ms, one.step_kind, one.batch_size, one.mfu) == (80.0, "measured", 16, 0.25)
    assert (one.power_w, one.power_source, one.on_battery) == (21.0, "mean of the run's steps, measured", True)
    assert (three.step_ms, three.step_kind, three.power_w) == (85.0, "projected", 60.0)
    assert "upper bound" in three.power_source
    dialogues = WORK.dialogues // 2
    assert fleet(one, two)[0].times.compute_s == pytest.approx(dialogues / 16 * 80.0 * 1e-3)


@pytest.mark.usefixtures("reads_runs")
@pytest.mark.parametrize("workload", [{"model_source": "base"}, {"lora_rank": 8}])
def test_runs_of_other_steps_are_refused(tmp_path: Path, workload: dict) -> None:
    other = a_run(tmp_path / "other", power={}, **workload)
    with pytest.raises(UsageError, match="trains all weights of small"):
        build_profiles(f"{other}@lte", "small")


def test_runs_that_changed_are_told_apart(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "run", power={})
    before = run_marks(f"{folder}@lte,t4@1g")
    assert set(before) == {folder}
    (tmp_path / "run" / "run.json").write_text("{}")
    assert run_marks(f"{folder}@lte") != before
    with pytest.raises(UsageError, match="no run folder"):
        run_marks("runs/nowhere@lte")


def test_given_steps_need_no_projection_and_powers_are_the_modes() -> None:
    slow, *rest = build_profiles("orin:15W=9300*1@lte,t4=1400*2@1g", "small")
    assert (slow.step_ms, slow.step_kind, slow.power_w, slow.on_battery) == (9300.0, "given", 15.0, True)
    assert [(p.power_w, p.on_battery) for p in rest] == [(70.0, False)] * 2


def test_data_and_batteries_follow_the_clients() -> None:
    clients = build_fleet([profile(), profile(on_battery=False)], [10, 30], WORK, 1.0, 5)
    assert clients[1].tokens == pytest.approx(3 * clients[0].tokens)
    assert 0.3 * 3600 <= clients[0].charge_j <= clients[0].capacity_j == 3600
    assert clients[1].charge_j is None
    with pytest.raises(UsageError, match="as many"):
        build_fleet([profile()], [1, 2], WORK, 1.0, 0)
