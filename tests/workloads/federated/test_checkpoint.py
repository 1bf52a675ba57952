"""Checkpoints: whatever is damaged is told in one sentence, and a whole round before it is gone on with."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from edgeroof.errors import FederatedError
from edgeroof.reports.federated import federated_document
from edgeroof.workloads.federated import checkpoint
from edgeroof.workloads.federated.aggregation import ServerOptimizer
from edgeroof.workloads.federated.flower import jobs
from edgeroof.workloads.federated.rounds import Federation
from edgeroof.workloads.federated.update import Message, from_bytes, to_bytes

from .tiny import federation

SETTINGS = {
    "codec": "topk:0.1", "clients": 2, "sampled": 2, "rounds": 2, "server": ServerOptimizer("fedavgm", 0.5),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A federation after two rounds, with memory and an optimizer's state."""
    Federation.start(*federation(**SETTINGS), tmp_path).run()
    return tmp_path


def state(change: Callable[[dict], Any]) -> Callable[[Path], None]:
    def damage(place: Path) -> None:
        read = json.loads((place / "state.json").read_text())
        changed = change(read)
        (place / "state.json").write_text(json.dumps(read if changed is None else changed))

    return damage


def arrays(name: str, change: Callable[[dict], Any]) -> Callable[[Path], None]:
    def damage(place: Path) -> None:
        file = place / f"{name}.safetensors"
        held = dict(from_bytes(file.read_bytes()).arrays)
        change(held)
        file.write_bytes(to_bytes(Message(held)))

    return damage


def text(content: str) -> Callable[[Path], None]:
    return lambda place: (place / "state.json").write_text(content) and None


def first(held: dict) -> str:
    return next(iter(held))


DAMAGE = {
    "no state": lambda place: (place / "state.json").unlink(),
    "no weights": lambda place: (place / "weights.safetensors").unlink(),
    "a list": text("[]"),
    "half": text('{"version": 1, "round"'),
    "deep": text("[" * 100_000),
    "no number": text('{"version": NaN}'),
    "no round": state(lambda s: s.pop("round") and None),
    "round as text": state(lambda s: s.update(round="2")),
    "another round": state(lambda s: s.update(round=7)),
    "no config": state(lambda s: s.pop("config") and None),
    "config of another type": state(lambda s: s.update(config=[1])),
    "sizes of another type": state(lambda s: s["history"][1].update(down_bytes="many")),
    "times of another type": state(lambda s: s["history"][1].update(train_s="long")),
    "nodes of another type": state(lambda s: s["history"][1].update(nodes="2")),
    "no nodes": state(lambda s: s["history"][1].update(nodes=0)),
    "config without sense": state(lambda s: s["config"].update(clients=-1)),
    "empty history": state(lambda s: s.update(history=[])),
    "history of another type": state(lambda s: s.update(history="rounds")),
    "history of numbers": state(lambda s: s.update(history=[1, 2, 3])),
    "history with a gap": state(lambda s: s["history"].pop(1) and None),
    "no loss": state(lambda s: s["history"][1].pop("eval_loss") and None),
    "loss as text": state(lambda s: s["history"][1].update(eval_loss="1.0")),
    "loss beyond numbers": state(lambda s: s["history"][1].update(eval_loss=10**400)),
    "used of another type": state(lambda s: s["history"][1].update(used={})),
    "entry of another type": state(lambda s: s["history"][1].update(used=[3])),
    "client as text": state(lambda s: s["history"][1]["used"][0].update(client="0")),
    "left out of another type": state(lambda s: s["history"][1].update(left_out=[[]])),
    "mark of another type": state(lambda s: s.update(data=5)),
    "weights that are no numbers": arrays("weights", lambda held: held[first(held)].fill_(float("nan"))),
    "weights of another shape": arrays("weights", lambda held: held.update({first(held): torch.zeros(3)})),
    "weights of another type": arrays("weights", lambda held: held.update({first(held): held[first(held)].double()})),
    "weights that miss one": arrays("weights", lambda held: held.pop(first(held))),
    "optimizer of other weights": arrays("optimizer", lambda held: held.update({"x.average": torch.zeros(1)})),
    "optimizer of another shape": arrays("optimizer", lambda held: held.update({first(held): torch.zeros(1)})),
    "optimizer without numbers": arrays("optimizer", lambda held: held[first(held)].fill_(float("inf"))),
    "memory of nobody": arrays("memory", lambda held: held.update({"x/residual": torch.zeros(1)})),
    "memory of another client": arrays("memory", lambda held: held.update({"9/residual": torch.zeros(1)})),
    "memory of an odd name": arrays("memory", lambda held: held.update({"0/odd": torch.zeros(1)})),
    "memory of another size": arrays("memory", lambda held: held.update({"0/residual": torch.zeros(1)})),
    "memory without numbers": arrays("memory", lambda held: held[first(held)].fill_(float("nan"))),
}


def test_damage_is_told_and_the_round_before_is_gone_on_with(folder: Path) -> None:
    whole = {file: file.read_bytes() for file in (folder / "round-0002").iterdir()}
    trainer, _ = federation(**SETTINGS)
    like = trainer.weights()
    for name, damage in DAMAGE.items():
        damage(folder / "round-0002")
        found = checkpoint.latest(folder, trainer.config, like)
        assert found is not None, name
        assert found.round_number == 1, name
        assert "round-0002 is damaged" in found.fallback, name
        for file, data in whole.items():
            file.write_bytes(data)
    found = checkpoint.latest(folder, trainer.config, like)
    assert found is not None
    assert (found.round_number, found.fallback) == (2, "")


def test_going_on_from_the_round_before_is_in_the_records(folder: Path) -> None:
    before = Federation.start(*federation(**SETTINGS), folder).weights
    (folder / "round-0002" / "weights.safetensors").write_bytes(b"short")
    again = Federation.start(*federation(**SETTINGS), folder)
    history = again.run()
    assert "round-0002 is damaged" in history[2]["resumed"]
    assert history[2]["resumed"].endswith("went on from round 1")
    assert all(torch.equal(before[name], again.weights[name]) for name in before)
    result = {
        "history": history, "config": again.trainer.config.to_json(), "data": "", "granularity": [], "links": [],
        "engine": "local", "client_examples": [1, 1],
    }  # fmt: skip
    assert any("went on from round 1" in warning for warning in federated_document(result).warnings)


def test_where_every_round_is_damaged_nothing_goes_on(folder: Path) -> None:
    for place in folder.iterdir():
        (place / "state.json").write_text("{}")
    with pytest.raises(FederatedError, match="version None"):
        checkpoint.latest(folder)
    for place in folder.iterdir():
        (place / "state.json").write_text("")
    with pytest.raises(FederatedError, match=r"round-0002 is damaged.*no round before it can be used"):
        checkpoint.latest(folder)


def test_fewer_rounds_than_there_are_is_told(folder: Path) -> None:
    with pytest.raises(FederatedError, match="holds 2 rounds already, more than the 1 asked for"):
        Federation.start(*federation(**{**SETTINGS, "rounds": 1}), folder)


def test_what_killed_processes_were_writing_is_swept(folder: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    stale, alive, other = (folder / f".round-0003-{end}" for end in (gone.pid, os.getppid(), "x"))
    for place in (stale, alive, other):
        place.mkdir()
    Federation.start(*federation(**{**SETTINGS, "rounds": 3}), folder).run()
    assert not stale.exists()
    assert alive.exists()
    assert other.exists()


def dialogues(path: Path, word: str = "hi") -> str:
    held = [{"id": str(i), "dialogue": f"A: {word} {i}\nB: no", "summary": "They meet."} for i in range(60)]
    path.write_text(json.dumps(held))
    return str(path)


def test_data_is_known_by_its_contents(tmp_path: Path) -> None:
    def start(data: str, rounds: int = 1) -> Federation:
        return Federation.start(*federation(rounds=rounds, client={"data": data}), tmp_path / "kept")

    start(dialogues(tmp_path / "a.json")).run()
    moved = tmp_path / "moved.json"
    (tmp_path / "a.json").rename(moved)
    assert start(str(moved), 2).state.round_number == 1
    dialogues(moved, "hello")
    with pytest.raises(FederatedError, match="holds a federation with other data"):
        start(str(moved), 2)


def test_a_round_from_before_is_no_result_of_a_job(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SuperLink's machine keeps the rounds, and this one still has an old copy of the folder."""
    from edgeroof.workloads.federated.flower.deployment import FlowerOptions

    monkeypatch.setattr(jobs, "run_job", lambda *arguments: None)
    trainer, _ = federation(**{**SETTINGS, "rounds": 5})
    with pytest.raises(FederatedError, match="its results are not here"):
        jobs.run_rounds(trainer.config, folder, FlowerOptions(superlink="127.0.0.1:1"), lambda *told: None)
