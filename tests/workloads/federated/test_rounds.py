"""Rounds: losses fall, broken clients are left out, and a federation that was killed goes on where it was."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from edgeroof.errors import FederatedError
from edgeroof.workloads.federated import checkpoint
from edgeroof.workloads.federated.aggregation import ServerOptimizer
from edgeroof.workloads.federated.results import ClientFailure
from edgeroof.workloads.federated.rounds import Federation

from .tiny import TINY, federation


def test_rounds_learn_and_are_recorded() -> None:
    steps = []
    history = Federation.start(*federation(client={"local_epochs": 2})).run(
        lambda what, done, total: steps.append((done, total))
    )
    assert [record["round"] for record in history] == [0, 1, 2, 3]
    assert history[3]["eval_loss"] < 0.8 * history[0]["eval_loss"]
    assert all(len(record["used"]) == 2 and record["aggregated"] for record in history[1:])
    assert steps[-1] == (6, 6)


def test_a_federation_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = Federation.start(*federation(codec="topk:0.1+int8"), tmp_path / "whole")
    whole.run()
    first = Federation.start(*federation(codec="topk:0.1+int8", rounds=1), tmp_path / "halves")
    first.run()
    second = Federation.start(*federation(codec="topk:0.1+int8"), tmp_path / "halves")
    assert second.state.round_number == 1
    second.run()
    assert all(torch.equal(whole.weights[name], second.weights[name]) for name in whole.weights)
    assert len(second.state.history) == 4
    assert sorted(path.name for path in (tmp_path / "halves").iterdir()) == ["round-0002", "round-0003"]


def test_a_folder_of_another_federation_is_refused(tmp_path: Path) -> None:
    Federation.start(*federation(), tmp_path)
    with pytest.raises(FederatedError, match="alpha"):
        Federation.start(*federation(alpha=3.0), tmp_path)


def test_a_damaged_checkpoint_is_told(tmp_path: Path) -> None:
    Federation.start(*federation(), tmp_path)
    (tmp_path / "round-0000" / "weights.safetensors").write_bytes(b"12345678")
    with pytest.raises(FederatedError, match="damaged"):
        Federation.start(*federation(), tmp_path)


class Saboteur:
    """An engine whose clients misbehave in ways of their own."""

    def __init__(self, engine: object, spoil: object) -> None:
        self._engine, self._spoil = engine, spoil

    def train(self, *arguments: object) -> list:
        return [self._spoil(index, answer) for index, answer in enumerate(self._engine.train(*arguments))]

    def __getattr__(self, name: str) -> object:
        return getattr(self._engine, name)


def test_half_of_the_clients_may_vanish() -> None:
    trainer, engine = federation(rounds=1)
    spoiled = Saboteur(engine, lambda index, answer: answer if index else ClientFailure(answer.client, "vanished"))
    record = Federation.start(trainer, spoiled).run()[1]
    assert record["aggregated"]
    assert [left["reason"] for left in record["left_out"]] == ["vanished"]
    assert len(record["used"]) == 1


def test_too_few_answers_change_nothing_and_end_in_an_error() -> None:
    trainer, engine = federation(rounds=9)
    spoiled = Saboteur(engine, lambda index, answer: dataclasses.replace(answer, payload=b"junk"))
    federated = Federation.start(trainer, spoiled)
    before = federated.weights
    with pytest.raises(FederatedError, match=r"3 rounds in a row.*damaged"):
        federated.run()
    assert federated.weights is before
    assert federated.state.round_number == 3


def test_a_patient_federation_goes_on() -> None:
    trainer, engine = federation(rounds=5)
    spoiled = Saboteur(engine, lambda index, answer: ClientFailure(answer.client, "vanished"))
    history = Federation.start(trainer, spoiled, patience=None).run()
    assert [record.get("aggregated") for record in history] == [None, *[False] * 5]


def test_a_step_of_the_server_that_leads_nowhere_is_refused() -> None:
    trainer, engine = federation(rounds=9, server=ServerOptimizer("fedavg", learning_rate=1e6))
    federated = Federation.start(trainer, engine)
    before = federated.weights
    with pytest.raises(FederatedError, match=r"3 rounds in a row.*the server's step was refused"):
        federated.run()
    assert federated.weights is before
    record = federated.state.history[-1]
    assert (record["aggregated"], len(record["used"])) == (False, 2)
    assert "lower its learning rate" in record["refused"]


def test_records_say_what_ran_them() -> None:
    history = Federation.start(*federation(rounds=1)).run()
    assert (history[1]["engine"], history[1]["nodes"]) == ("local", 1)


def test_clients_learn_which_of_their_updates_was_used() -> None:
    """One whose round came to nothing sends what it would have sent without that round."""
    asked = []

    class Listening(Saboteur):
        def train(self, number: int, clients: list, weights: object, on_answer: object, used: dict) -> list:
            asked.append((number, clients, dict(used)))
            answers = self._engine.train(number, clients, weights, on_answer, used)
            return answers if number != 2 else [ClientFailure(answer.client, "late") for answer in answers]

    trainer, engine = federation(codec="topk:0.1", clients=2, sampled=2, rounds=3)
    Federation.start(trainer, Listening(engine, None)).run()
    assert asked == [(1, [0, 1], {}), (2, [0, 1], {0: 1, 1: 1}), (3, [0, 1], {0: 1, 1: 1})]


KILLED = """
import os, sys
from pathlib import Path
from edgeroof.workloads.federated.config import FederatedConfig
from edgeroof.workloads.federated.engine import LocalEngine
from edgeroof.workloads.federated.rounds import Federation
from edgeroof.workloads.federated.training import ClientTrainer
import json
trainer = ClientTrainer(FederatedConfig.from_json(json.loads(sys.argv[2])))
Federation.start(trainer, LocalEngine(trainer), Path(sys.argv[1])).run()
"""


@pytest.mark.slow
def test_kill_dash_nine_loses_no_finished_round(tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, rounds=500)
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path), json.dumps(config.to_json())])
    try:
        deadline = time.monotonic() + 300
        while not (tmp_path / "round-0003").exists() and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    found = checkpoint.latest(tmp_path, config)
    assert found is not None
    assert found.round_number >= 3
    assert [record["round"] for record in found.history] == list(range(found.round_number + 1))
    resumed = Federation.start(*federation(rounds=found.round_number + 1), tmp_path)
    assert resumed.run()[-1]["round"] == found.round_number + 1
