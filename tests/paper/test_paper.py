"""The experiments in small, from runs to documents: marked everywhere, gone on with, nothing of the machine in them."""

import dataclasses
import getpass
import json
import platform
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import edgeroof.cli
from edgeroof.errors import RunError, UsageError
from edgeroof.paper.plan import PLANS, QUICK, TOPICS, keep_plan
from edgeroof.paper.run import run
from edgeroof.paper.scaling_section import both_devices
from edgeroof.paper.study_pages import with_board
from edgeroof.paper.write import write_documents
from edgeroof.reports.document import Bars, Heatmap, Lines, Paragraph, Section

from .sample_data import data, links, point

SMALL = dataclasses.replace(QUICK, precisions=("fp32",), batch_sizes=(2,), federated_batch=2)
ORIGINS = ("measured here", "projected", "simulated", "computed from counts", "from public sources", "by row")
CAPTION = re.compile(r"\*\*.+\*\* · \*(?P<origin>[^*]+)\*")


def pages(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / "paper.md", *sorted((folder / "paper").glob("*.md")))}


def check_documents(folder: Path) -> None:
    """Every table and figure says where its numbers come from, links lead somewhere, nothing tells of this machine."""
    texts = pages(folder)
    assert set(texts) == {"paper.md", "optimizer.md", "compression.md", "selection.md"}
    named = set()
    for name, text in texts.items():
        shown = re.sub(r"<details>.*?</details>", "", text, flags=re.S)
        blocks = shown.split("\n\n")
        for place, block in enumerate(blocks):
            if block.startswith(("|", "![")):
                caption = CAPTION.fullmatch(blocks[place - 1])
                assert caption, (name, blocks[place - 1], block[:80])
                assert caption["origin"].startswith(ORIGINS), caption["origin"]
        base = folder if name == "paper.md" else folder / "paper"
        for link in re.findall(r"\]\(([^)]+)\)", text):
            assert (base / link).is_file(), link
            named |= {Path(link).name}
        assert str(Path.home()) not in text
        assert str(folder) not in text
        assert str(Path(__file__).resolve().parents[2]) not in text
        assert platform.node() not in text or len(platform.node()) < 5
        assert len(getpass.getuser()) < 5 or getpass.getuser() not in text
        assert re.search(r"on \d{4}-\d\d-\d\d, with edgeroof \d", text)
    figures = list((folder / "paper").glob("*.svg"))
    assert {path.name for path in figures} <= named
    for path in figures:
        root = ET.parse(path).getroot()
        assert root[0].text
        assert root[1].text.startswith(ORIGINS)
        assert " Only a board can tell: " in root[1].text, path.name
        drawn = " ".join(element.text for element in root.iter("{http://www.w3.org/2000/svg}text"))
        assert " Only a board can tell: " in drawn, path.name


def test_scaling_in_small(tmp_path: Path) -> None:
    told: list = []
    result, document = run(SMALL, tmp_path / "runs", only=["scaling"], on_progress=lambda *args: told.append(args))
    assert [row["device"] for row in result["scaling"]] == ["orin", "a100"]
    orin, a100 = result["scaling"]
    assert orin["step_ms"]["low"] < orin["step_ms"]["value"] < orin["step_ms"]["high"]
    assert 0 < orin["tokens_per_s_per_w"]["low"] < orin["tokens_per_s_per_w"]["high"]
    assert a100["tokens_per_s_per_w"]["high"] is None  # its draw at rest is not known
    assert a100["model_flops"] == orin["model_flops"]
    assert document.kind == "mixed"
    check_documents(tmp_path / "runs")
    text = pages(tmp_path / "runs")["paper.md"]
    assert "edgeroof paper --only links" in text  # what is missing says how to get it
    assert json.loads((tmp_path / "runs" / "paper.json").read_text())["scaling"] == result["scaling"]
    assert told[-1][:3] == ("done", 1, 1)

    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs" / "scaling").rglob("run.json")}
    again, _ = run(SMALL, tmp_path / "runs", only=["scaling"], documents=tmp_path / "docs")
    assert again["scaling"] == result["scaling"]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs" / "scaling").rglob("run.json")} == kept
    check_documents(tmp_path / "docs")


def test_documents_follow_the_data(tmp_path: Path) -> None:
    rows = [
        point(device, model, batch=batch)
        for device in ("orin", "a100")
        for model in ("small", "base")
        for batch in (1, 8)
    ]
    rows[0]["memory"]["fits"] = False
    document = write_documents(data(scaling=rows, links=links()), tmp_path)
    check_documents(tmp_path)
    text = (tmp_path / "paper.md").read_text()
    assert "3.73 GiB, too large" in text
    assert "G is near zero | agrees |" in text
    assert document.headlines[0].startswith("Of 5 claims of the paper: ")
    figure = (tmp_path / "paper" / "paper-mfu-over-batch-sizes-orin-fp32.svg").read_text()
    assert "FLAN-T5 base: 30.0 (24.0 to 37.5) at 8" in figure


def test_both_devices_share_their_axes() -> None:
    bound = {"low": 30.0, "high": None}
    rows = [point("orin", "base", batch=batch) for batch in (1, 8)]
    rows += [point("a100", "base", batch=batch, tokens_per_s_per_w=bound) for batch in (1, 8)]
    plan = data()["plan"]
    mfu, energy = both_devices(rows, plan)
    assert [line.name for line in mfu.lines] == ["orin, fp32", "a100, fp32"]
    assert [line.name for line in energy.lines] == ["orin, fp32", "a100, fp32, at least"]
    assert energy.mark == "projected; a100 as a lower bound, assumed to draw its power limit"
    assert [(p.y, p.low) for p in energy.lines[1].points] == [(30.0, None)] * 2
    assert (energy.lines[0].points[0].low, energy.lines[0].points[0].high) == (20.0, 100.0)
    assert both_devices(rows[:2], plan) == []


def test_figures_of_studies_say_what_only_a_board_can_tell() -> None:
    figures = (Bars("a", ()), Heatmap("b", (), (), (), ()), Lines("c", "x", "y", ()), Bars("d", (), board="its own"))
    (section,) = with_board((Section("s", (*figures, Paragraph("text"))),), "what it draws")
    assert [block.board for block in section.blocks[:4]] == ["what it draws"] * 3 + ["its own"]


def test_only_figures_of_earlier_calls_are_removed(tmp_path: Path) -> None:
    rows = [point(device, "base", batch=batch) for device in ("orin", "a100") for batch in (1, 8)]
    (tmp_path / "paper").mkdir()
    mine = [tmp_path / "paper" / "mine.svg", tmp_path / "paper" / "shown.svg"]
    for path in mine:
        path.write_text("<svg/>")
    (tmp_path / "paper" / "optimizer.md").write_text("![my own](shown.svg)")
    write_documents(data(scaling=rows, links=links()), tmp_path)
    old = set((tmp_path / "paper").glob("paper-*.svg"))
    assert old
    write_documents(data(), tmp_path)
    assert not [path for path in old if path.exists()]
    assert all(path.exists() for path in mine)


def test_a_folder_of_another_plan_is_refused(tmp_path: Path) -> None:
    keep_plan(QUICK, tmp_path / "a")
    keep_plan(QUICK, tmp_path / "a")
    with pytest.raises(RunError, match="another plan"):
        keep_plan(SMALL, tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.tex").touch()
    with pytest.raises(RunError, match="not empty"):
        keep_plan(QUICK, tmp_path / "b")
    (tmp_path / "a" / "plan.json").write_text("{half")
    with pytest.raises(RunError, match="damaged"):
        keep_plan(QUICK, tmp_path / "a")


def test_an_unknown_experiment_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown experiment nonsense; there are scaling, .*selection"):
        run(SMALL, tmp_path, only=["nonsense"])
    assert edgeroof.cli.run_command(["paper", "--only", "nonsense", "--out", str(tmp_path)]) == 2


def test_plans_use_what_they_need() -> None:
    for plan in PLANS.values():
        assert plan.federated_batch in plan.batch_sizes  # granularity takes its step times from the scaling experiment
        assert len(TOPICS) == 6


@pytest.mark.slow
def test_the_quick_plan_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    command = ["paper", "--quick", "--out", str(tmp_path / "runs"), "--documents", str(tmp_path / "docs"), "--json"]
    assert edgeroof.cli.run_command(command) == 0
    result = json.loads(capsys.readouterr().out)
    assert all(
        result[name]
        for name in ("scaling", "links", "breakdown", "here", "optimizer", "ab", "compression", "selection")
    )
    check_documents(tmp_path / "docs")
    assert "Not run" not in "".join(pages(tmp_path / "docs").values())
    assert "quick plan" in pages(tmp_path / "docs")["paper.md"]
    for entry in result["breakdown"]:
        assert sum(entry["host_ms"].values()) == pytest.approx(entry["step_ms"]["value"], rel=0.2)
    assert result["here"]["kind"] == "measured"
