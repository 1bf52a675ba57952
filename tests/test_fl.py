"""Federations through the public functions and the command line: results, reports, going on, errors in one line."""

import json
from pathlib import Path

import pytest
import torch

import edgeroof.cli
from edgeroof import fl
from edgeroof.errors import FederatedError, RunError, UsageError
from edgeroof.reports import document_html
from edgeroof.reports.federated import federated_document
from edgeroof.workloads.federated import checkpoint
from edgeroof.workloads.federated.checkpoint import Checkpoint
from edgeroof.workloads.federated.update import Message

SMALL = {
    "client": {"batch_size": 4, "source_length": 32, "target_length": 12},
    "clients": 3, "sampled": 2, "rounds": 2, "dialogues": 24, "eval_dialogues": 4,
}  # fmt: skip
COMMAND = [
    "fl", "run", "--model", "tiny", "--clients", "3", "--sampled", "2", "--rounds", "1", "--batch-size", "4",
    "--source-length", "32", "--target-length", "12", "--dialogues", "24", "--eval-dialogues", "4", "--device", "cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    folder = tmp_path_factory.mktemp("fl") / "run"
    return fl.run(fl.preset("tiny", **SMALL), out=folder, links=["lte", "50/10/30"]), folder


def test_results_are_kept(result: tuple) -> None:
    made, folder = result
    assert fl.load(folder) == json.loads(json.dumps(made))
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoints", "federated.json", "report.html"]
    assert [entry["link"] for entry in made["granularity"]] == ["lte", "50/10/30"]
    for entry in made["granularity"]:
        assert entry["granularity"] == pytest.approx(entry["compute_s"] / (entry["down_s"] + entry["up_s"]))


def test_a_longer_run_goes_on(result: tuple) -> None:
    made, folder = result
    longer = fl.run(fl.preset("tiny", **{**SMALL, "rounds": 3}), out=folder)
    assert longer["history"][:3] == made["history"]
    assert len(longer["history"]) == 4


def test_the_report_answers_first(result: tuple) -> None:
    document = federated_document(result[0])
    assert document.headlines[0].startswith("Held-out loss went from")
    assert "lte" in document_html.render(document)


def test_what_was_left_out_is_in_the_report(result: tuple) -> None:
    made = json.loads(json.dumps(result[0]))
    made["history"][1]["left_out"] = [{"client": 2, "reason": "<b>vanished</b>"}]
    made["history"][2] |= {"aggregated": False, "used": []}
    document = federated_document(made)
    assert any("1 answers" in warning for warning in document.warnings)
    assert any("rounds 2 changed nothing" in warning for warning in document.warnings)
    assert "<b>vanished" not in document_html.render(document)


def federation_of(folder: Path, weights: dict) -> str:
    quality = {"eval_loss": 1.0, "rouge_l": 0.1}
    costs = {"down_bytes": 8, "train_s": 1.0, "wall_s": 1.0}
    record = {"round": 1, **quality, **costs, "aggregated": True, "used": [], "left_out": []}
    state = Checkpoint(1, weights, {}, Message({}), [{"round": 0, **quality}, record])
    checkpoint.write(folder / fl.CHECKPOINTS, fl.preset("tiny"), state)
    return str(folder)


def test_how_far_weights_are_apart(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    one = federation_of(tmp_path / "one", {"a": torch.tensor([3.0, 4.0]), "empty": torch.zeros(0), "b": torch.zeros(1)})
    near = {"a": torch.tensor([3.0, 4.0]), "empty": torch.zeros(0), "b": torch.tensor([-5e-6])}
    near_folder, far_folder = (
        federation_of(tmp_path / "near", near),
        federation_of(tmp_path / "far", {**near, "b": torch.tensor([0.5])}),
    )
    assert fl.difference(one, one)["equal"]
    found = fl.difference(one, near_folder)
    assert (found["tensor"], found["equal"], found["rounds"], found["values"]) == ("b", False, [1, 1], 3)
    assert found["largest"] == pytest.approx(5e-6)
    assert found["relative"] == pytest.approx(1e-6)
    for folder, code in ((one, 0), (near_folder, 0), (far_folder, 3)):
        assert edgeroof.cli.run_command(["fl", "difference", one, folder]) == code
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "3 weights after round 1: every bit is equal."
    assert told[2].endswith("the largest difference is 0.5, in b, the relative one 0.1.")
    assert fl.difference(one, one)["notes"] == []
    with pytest.raises(FederatedError, match="no checkpoint"):
        fl.difference(one, tmp_path / "nothing")
    with pytest.raises(FederatedError, match="different models"):
        fl.difference(one, federation_of(tmp_path / "other", {"a": torch.zeros(3)}))


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert edgeroof.cli.run_command([*COMMAND, "--out", str(tmp_path / "run"), "--codec", "topk:0.1+int8"]) == 0
    assert "LINKS" in capsys.readouterr().out
    assert edgeroof.cli.run_command(["fl", "show", str(tmp_path / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["config"]["codec"] == "topk:0.1+int8"


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (["--codec", "zip"], "codec"),
        (["--links", "wire"], "link"),
        (["--engine", "x"], "engine"),
        (["--alpha", "0"], "alpha"),
        (["--seed", "-1"], "seed"),
        (["--links", ","], "name at least one link"),
        (["--selection", "best"], "unknown selection 'best'"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture, extra: list, reason: str) -> None:
    assert edgeroof.cli.run_command([*COMMAND, "--out", str(tmp_path / "run"), *extra]) == UsageError.exit_code
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert reason in error


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--links", ","], "name at least one link"),
        (["--codecs", ","], "name at least one codec"),
        (["--codecs", "none,fp32"], "names a codec twice"),
        (["--step-time-ms", "1e308"], "1e+308 ms makes no sense"),
        (["--compute-watts", "1e308"], "compute_w"),
        (["--radio-watts", "1e308"], "radio power"),
        (["--dialogues-per-client", str(10**12)], "dialogues"),
    ],
)
def test_mistakes_of_granularity_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture, options: list, reason: str
) -> None:
    command = ["fl", "granularity", "--model", "tiny", "--out", str(tmp_path / "run"), *options]
    assert edgeroof.cli.run_command(command) == UsageError.exit_code
    assert reason in capsys.readouterr().err


def test_the_command_line_chooses_by_a_strategy(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    command = [*COMMAND, "--out", str(tmp_path / "run"), "--selection", "tokens-per-joule:1", "--seed", "3", "--json"]
    assert edgeroof.cli.run_command(command) == 0
    config = json.loads(capsys.readouterr().out)["config"]
    assert (config["selection"], config["seed"], config["client"]["seed"]) == ("tokens-per-joule:1", 3, 3)


def test_a_fleet_is_profiled_as_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def profile_fleet(**options: object) -> dict:
        asked.update(options)
        return {}

    monkeypatch.setattr(fl, "profile_fleet", profile_fleet)
    options = ["--lora-rank", "8", "--precision", "bf16", "--optimizer", "adamw-fused"]
    command = ["fl", "profile", "--model", "tiny", "--out", str(tmp_path / "fleet"), "--json", *options]
    assert edgeroof.cli.run_command(command) == 0
    assert [asked[name] for name in ("lora_rank", "precision", "optimizer")] == [8, "bf16", "adamw-fused"]


def test_damaged_results_are_told(tmp_path: Path) -> None:
    (tmp_path / "federated.json").write_text('{"kind": "ab", "schema_version": 1}')
    with pytest.raises(RunError, match="version"):
        fl.load(tmp_path)
    (tmp_path / "federated.json").write_text("[")
    with pytest.raises(RunError, match="damaged"):
        fl.load(tmp_path)
    with pytest.raises(RunError, match="cannot read"):
        fl.load(tmp_path / "nothing")
