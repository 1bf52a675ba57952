"""Two optimizers really profiled and compared on the command line: what the report and the JSON say of the step."""

import json
import re
from pathlib import Path

import pytest

from edgeroof import cli

STEP = ["--model", "tiny", "--batch-size", "1", "--source-length", "32", "--target-length", "16", "--device", "cpu"]
OPTIMIZERS = ("adamw-foreach", "adamw-fused")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for optimizer in OPTIMIZERS:
        steps = ["--optimizer", optimizer, "--steps", "6", "--profiled-steps", "1"]
        assert cli.run_command(["profile", *STEP, *steps, "--out", str(folder / optimizer)]) == 0
    return folder


@pytest.fixture(autouse=True)
def in_the_folder(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs)


def test_json_explains_the_whole_difference(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert cli.run_command(["compare", *OPTIMIZERS, "--out", "as-json", "--json"]) == 0
    (difference,) = json.loads(capsys.readouterr().out)["differences"]
    step, phases = difference["step"], {entry["phase"]: entry for entry in difference["phases"]}
    assert set(phases) >= {"forward", "loss", "backward", "optimizer"}
    for level in ("phases", "ops", "modules", "kernels"):
        assert sum(row["delta_ms"] for row in difference[level]) == pytest.approx(step["delta_ms"], abs=1e-6)
        assert sum(row["share"] for row in difference[level]) == pytest.approx(1.0, abs=1e-4)
    for entry in (step, phases["optimizer"]):
        assert entry["verdict"] in ("FASTER", "SAME", "SLOWER", "UNCLEAR")
        assert entry["interval"]["low"] < entry["change"] < entry["interval"]["high"]
        assert entry["interval"]["value"] == pytest.approx(entry["change"])
    assert {row["op"] for row in difference["ops"] if row["change"] == "new"} >= {"aten::_fused_adamw_"}
    assert 0 < difference["matched_share"] < 1


def test_the_report_says_the_same(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    capsys.readouterr()
    assert cli.run_command(["compare", *OPTIMIZERS, "--out", "printed"]) == 0
    text = capsys.readouterr().out
    table = text.partition("Phases; shares are of the difference of the step")[2].partition("\n\n")[0]
    rows = {line.split()[0]: line for line in table.splitlines() if re.search(r" (ns|µs|ms|s) ", line)}
    shares = {name: float(re.search(r"([-\d.]+) %", row)[1]) for name, row in rows.items()}
    assert shares.pop("step") == 100
    rounding = sum(0.5 if abs(share) >= 100 else 0.1 for share in shares.values())
    assert sum(shares.values()) == pytest.approx(100, abs=rounding)
    assert re.search(r"(\+|-)?[\d.]+ % to (over )?(\+|-)?[\d.]+ % +(FASTER|SAME|SLOWER|UNCLEAR)", rows["optimizer"])
    assert "MEASURED" in text
