"""Studies at miniature size, through the command line: results, reports, going on, and mistakes in one line."""

import json
from pathlib import Path

import pytest

import edgeroof.cli
from edgeroof import fl_studies
from edgeroof.errors import RunError, UsageError
from edgeroof.reports.studies import study_document

COMMON = ["--seeds", "2", "--rounds", "2", "--dialogues", "40", "--json"]
COMPRESSION = ["fl", "study", "compression", "--codecs", "none,int8", "--links", "lte,50/10/30", "--clients", "4"]
SELECTION = [
    "fl", "study", "selection", "--strategies", "random,tokens-per-joule", "--sampled", "2", "--fleet-model", "tiny",
    "--fleet", "orin:15W=9000*2@lte,orin:50W=2000*2@wifi,t4=1400*1@1g",
]  # fmt: skip


@pytest.fixture(autouse=True)
def few_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fl_studies._QUICK, "eval_dialogues", 4)


def run(command: list, folder: Path, capsys: pytest.CaptureFixture) -> dict:
    assert edgeroof.cli.run_command([*command, *COMMON, "--out", str(folder)]) == 0
    return json.loads(capsys.readouterr().out)


def test_compression(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    result = run(COMPRESSION, tmp_path, capsys)
    plain, int8 = result["codecs"]
    assert 3.5 < plain["up_bytes"] / int8["up_bytes"] < 4.1
    assert int8["links"][0]["granularity"] > plain["links"][0]["granularity"] > 0
    assert plain["links"][0]["energy_to_target_j"][0] > 0
    assert plain["links"][0]["time_to_target_s_ratio"]["middle"] == 1
    assert plain["rounds_to_target"] != [None, None]
    assert "assumed" in result["compute_w_source"] or "measured" in result["compute_w_source"]
    assert fl_studies.load(tmp_path) == result
    document = study_document(result)
    assert document.kind == "mixed"
    assert [section.title for section in document.sections][:2] == ["Learning", "Granularity"]
    kept = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "federations").iterdir()}
    assert len(kept) == 4
    again = run(COMPRESSION, tmp_path, capsys)
    assert again["codecs"] == result["codecs"]
    assert {file.name: file.stat().st_mtime_ns for file in (tmp_path / "federations").iterdir()} == kept


def test_selection(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    result = run(SELECTION, tmp_path, capsys)
    random, ours = result["strategies"]
    assert random["ratios"]["energy_j"]["middle"] == 1
    assert result["ours"] == "tokens-per-joule"
    assert [client["step_kind"] for client in result["fleet"]] == ["given"] * 5
    assert result["seeded"].startswith("initial weights")
    assert all(seed is None or seed > 0 for seed in ours["energy_j"])
    assert all(asked >= 1 for asked in ours["asked"])
    document = study_document(result)
    assert document.kind == "simulated"
    assert any(line.startswith("In energy, tokens-per-joule") for line in document.headlines)
    assert edgeroof.cli.run_command(["fl", "study", "show", str(tmp_path)]) == 0
    assert "SIMULATED" in capsys.readouterr().out.upper()


@pytest.mark.parametrize(
    ("command", "extra", "reason"),
    [
        (COMPRESSION, ["--codecs", "none"], "two codecs"),
        (COMPRESSION, ["--codecs", "none,zip"], "zip"),
        (COMPRESSION, ["--links", "wire"], "link"),
        (SELECTION, ["--strategies", "random,best"], "best"),
        (SELECTION, ["--fleet", "orin"], "orin"),
        (SELECTION, ["--fleet", "orin=.*2@lte"], "no step time"),
        (SELECTION, ["--fleet", "orin@50/10/30"], "radio of link 50/10/30"),
        (SELECTION, ["--fleet", "runs/nowhere*2@lte"], "no run folder"),
        (SELECTION, ["--seed", "-1"], "seed"),
        (SELECTION, ["--target-loss", "nan"], "target loss"),
        (COMPRESSION, ["--codecs", "none,lora:0"], "rank of at least 1"),
        (COMPRESSION, ["--codecs", "none,FP32"], "the same codec"),
        (SELECTION, ["--absent", "1"], "absent"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture, command: list, extra: list, reason: str
) -> None:
    assert edgeroof.cli.run_command([*command, *COMMON, "--out", str(tmp_path), *extra]) == UsageError.exit_code
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert reason in error


def test_damaged_studies_are_told(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text('{"kind": "federated", "schema_version": 1}')
    with pytest.raises(RunError, match="version"):
        fl_studies.load(tmp_path)
    (tmp_path / "study.json").write_text("[")
    with pytest.raises(RunError, match="damaged"):
        fl_studies.load(tmp_path)
