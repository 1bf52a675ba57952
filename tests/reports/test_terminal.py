from __future__ import annotations

import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from edgeroof.reports import terminal
from edgeroof.reports.rich_parts import Prose

from .sample_kernels import IMG
from .sample_run import imported_run, projected_run, sample_run

WIDTHS = (80, 100, 120, 160)


def printed(run, width: int = 100, **options) -> str:
    output = io.StringIO()
    console = Console(file=output, width=width, **options)
    terminal.render(run, console)
    return output.getvalue()


@pytest.fixture(scope="module")
def runs():
    return {"measured": sample_run(), "imported": imported_run(), "projected": projected_run()}


@pytest.mark.parametrize("kind", ["measured", "imported", "projected"])
@pytest.mark.parametrize("width", WIDTHS)
def test_fits_the_width_and_never_says_nan(runs, kind, width):
    text = printed(runs[kind], width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert not re.search(r"\b(nan|None|inf)\b", text)


@pytest.mark.parametrize("kind", ["measured", "imported", "projected"])
def test_the_kind_is_in_the_title(runs, kind):
    assert kind.upper() in printed(runs[kind]).splitlines()[0]


def test_projected_runs_carry_a_banner(runs):
    assert "Nothing here was measured on this device." in printed(runs["projected"])
    assert "Nothing here was measured" not in printed(runs["measured"])


def test_the_answer_comes_first(runs):
    text = printed(runs["measured"])
    order = [
        text.index(part) for part in ("Memory bandwidth holds", "PHASES", "WHAT TO WIN", "TOP KERNELS", "COVERAGE")
    ]
    assert order == sorted(order)


def test_phases_stand_beside_the_naive_timers(runs):
    text = printed(runs["measured"])
    optimizer = next(line for line in text.splitlines() if line.startswith("optimizer"))
    assert re.findall(r"[\d.]+", optimizer)[-2:] == ["304.4", "346.3"]
    assert "Artefact: opt.step()" in text


def test_an_imported_run_says_what_is_not_known(runs):
    text = " ".join(printed(runs["imported"]).split())
    assert "True phase times need a run of our own" in text
    assert "an imported trace has no bare steps" in text
    assert "no optimizer phase was recognised" in text
    assert "there was one pass only" in text


def test_missing_power_is_explained(runs):
    assert "a projection draws no power" in printed(runs["projected"])


def test_names_are_never_markup_nor_escapes():
    run = sample_run(hostile=False)
    hostile = "[bold red]x[/bold red] \x1b[31m \u202e " + IMG
    run.kernels["op"] = run.kernels["op"].cat.rename_categories({"aten::_softmax": hostile})
    run.kernels["shapes"] = run.kernels["shapes"].cat.rename_categories({"[32,6,512,512]": "[/] [blink]"})
    run.summary["headroom"][0]["op"] = hostile
    run.summary["answer"]["headline"] = hostile
    text = printed(run, 160)
    # whole in the headline and the headroom, shortened in the kernel table
    assert text.count("[bold red]x[/bold red] �[31m") == 2
    assert text.count("[bold red]x[/b") >= 3
    assert "[/] [blink]" in text
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_without_colour_there_are_no_escapes(runs, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    text = printed(runs["measured"], force_terminal=True)
    assert not re.search(r"\x1b\[[\d;]*3[1-7]m", text)
    assert "\x1b" not in printed(runs["measured"])


def test_bars_are_plain_where_the_encoding_is():
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="replace")
    terminal.render(sample_run(hostile=False), Console(file=output, width=100))
    output.flush()
    text = output.buffer.getvalue().decode("ascii")
    assert "====" in text
    assert "━" not in text


def test_top_limits_the_kernel_table(runs):
    output = io.StringIO()
    terminal.render(runs["measured"], Console(file=output, width=120), top=3)
    section = output.getvalue().split("TOP KERNELS")[1].split("OPTIMIZER STEP")[0]
    assert len(re.findall(r"forward|backward|optimizer|loss", section)) == 3
    assert "smaller groups" in section


def test_files_of_a_saved_run_are_named(tmp_path):
    (tmp_path / "report.html").write_text("x")
    text = printed(sample_run(path=tmp_path), 200)
    assert str(tmp_path) in text
    assert "report.html" in text
    assert "trace.json.gz" not in text


def test_a_bare_summary_is_enough(runs):
    run = imported_run()
    run.summary = {"kind": "imported", "title": "bare"}
    text = printed(run)
    assert "bare" in text
    assert "No roofs are known" in text


def test_narrow_terminals_cut_no_number(runs):
    output = printed(runs["measured"], width=60)
    phases = output[output.index("PHASES") : output.index("opt.step() as a share")]
    bounds = output[output.index("WHAT HOLDS") : output.index("WHAT TO WIN")]
    assert "…" not in phases + bounds
    assert "━" not in phases + bounds


def test_projections_say_whether_it_fits_how_long_and_how_sure(runs):
    text = printed(runs["projected"])
    for expected in (
        "fits: 8.05 GiB of 53.1 GiB",
        "72.8 ms to 118 ms",
        "208",
        "MAXN *",
        "1.50 to 5.10",
        "Assumed: no power",
    ):
        assert expected in text, expected
    assert "PROJECTION" not in printed(runs["measured"])


@pytest.mark.parametrize("width", [40, 57, 80])
def test_sentences_never_tear_a_number_from_its_unit(width):
    said = " ".join(f"{n} ms of {n} % at {n} GiB" for n in range(40))
    output = io.StringIO()
    Console(file=output, width=width).print(Prose(said, bullet="• "))
    lines = output.getvalue().splitlines()
    assert max(map(cell_len, lines)) <= width
    assert not any(line.lstrip().startswith(("ms", "%", "GiB")) for line in lines)
    assert [line[:2] for line in lines] == ["• ", *["  "] * (len(lines) - 1)]
    assert "".join(output.getvalue().split()) == "•" + "".join(said.split())


def test_nothing_to_win_is_said_in_words():
    run = sample_run()
    for entry in run.summary["bounds"]:
        entry["headroom_us"] = -1500.0 if entry["bound"] == "memory" else entry["headroom_us"]
    line = next(line for line in printed(run).splitlines() if line.startswith("memory"))
    assert "none: above roof" in line
