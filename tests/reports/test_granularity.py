"""The report on granularity, and the command that makes it."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

import edgeroof.cli
from edgeroof import fl
from edgeroof.errors import UsageError
from edgeroof.reports import document_html, document_terminal
from edgeroof.reports.granularity import granularity_document
from edgeroof.workloads.federated.granularity_cases import Wanted

COMMAND = ["fl", "granularity", "--model", "tiny", "--device", "a100", "--step-time-ms", "50", "--codecs", "none,int8"]


@pytest.fixture(scope="module")
def result() -> dict:
    wanted = Wanted(models=("tiny",), devices=("orin",), lora_rank=4, step_time_ms=50.0)
    return fl.compare_links(wanted, links=["10g", "lte", "9/9/9"], codecs=["none", "int8"])


def test_the_answer_comes_first(result: dict) -> None:
    document = granularity_document(result)
    plain, adapters, *_ = document.headlines
    assert plain.startswith("tiny on orin, over lte: G is")
    assert "with all weights as fp32; int8 lifts it" in plain
    assert adapters.startswith("LoRA rank 4 as fp32 lifts it")
    assert any("adapters are taken" in warning for warning in document.warnings)
    assert "report.html" in document_html.render(document)


def test_links_that_are_never_worth_it_are_named(result: dict) -> None:
    poor = json.loads(json.dumps(result))
    for row in poor["rows"]:
        row["granularity"] = 0.5 if row["link"] == "lte" else 2.0
    assert "Over lte no codec" in granularity_document(poor).headlines[-1]


def test_emulated_transfers_are_shown(result: dict) -> None:
    transfer = {
        "link": "lte", "direction": "up", "size": 4e6, "asked": 9e6, "measured_s": 5.4, "model_s": 5.5, "way": "tun",
        "error": 0.0185,
    }  # fmt: skip
    emulation = {"transfers": [transfer], "left_out": ["10g"], "most_seconds": 60.0, "most_mbps": 2000.0}
    console = Console(width=100, file=io.StringIO(), record=True)
    document_terminal.render(granularity_document({**result, "emulation": emulation}), console)
    text = console.export_text()
    assert "+1.9 %" in text or "+1.8 %" in text
    assert "Not emulated: 10g" in text


def test_the_command_keeps_its_result(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / "out"
    assert edgeroof.cli.run_command([*COMMAND, "--out", str(folder)]) == 0
    assert "GRANULARITY" in capsys.readouterr().out
    kept = json.loads((folder / "granularity.json").read_text())
    assert len(kept["rows"]) == 2 * len(fl.DEFAULT_LINKS)
    assert (folder / "report.html").exists()


@pytest.mark.parametrize(
    ("extra", "reason"),
    [(["--codecs", "zip"], "codec"), (["--links", "wire"], "link"), (["--radio-watts", "-1"], "radio")],
)
def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture, extra: list, reason: str) -> None:
    assert edgeroof.cli.run_command([*COMMAND, *extra, "--out", str(tmp_path / "out")]) == UsageError.exit_code
    assert reason in capsys.readouterr().err.strip().splitlines()[-1]
