"""Reports made of sections: the same content in the terminal and in HTML, nothing unescaped."""

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from edgeroof.errors import RunError
from edgeroof.reports import document_html, document_plain, document_terminal
from edgeroof.reports.document import Claim, Document, Line, Lines, Point, Section, Table

from .sample_document import HOSTILE, sample_document


def printed(document: Document, *, width: int = 100, encoding: str = "utf-8", folder: Path | None = None) -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="strict" if encoding == "utf-8" else "replace")
    document_terminal.render(document, Console(file=stream, width=width, force_terminal=False), folder=folder)
    stream.flush()
    return raw.getvalue().decode(encoding)


def test_the_terminal_shows_every_block() -> None:
    text = printed(sample_document(), folder=Path("runs/x"))
    for expected in (
        "Memory holds 71 %", "A second line", "batch 8", "Where the time goes", "85 ms", "eval loss",
        "guess (projected)", "Granularity", "0.05", "1,200", "payload", "Beware.", "! the clocks", "report.html",
        "Part of this was measured",
    ):  # fmt: skip
        assert expected in text, expected
    assert "\x1b" not in text


def test_numbers_are_never_cut_in_eighty_columns() -> None:
    text = printed(sample_document(), width=80)
    assert "1,200" in text
    assert max(map(len, text.splitlines())) <= 80


def test_plain_terminals_get_plain_characters() -> None:
    ascii_document = sample_document("measured")
    text = printed(Document("s", "t", "measured", ("ok",), ascii_document.sections[:2]), encoding="ascii")
    assert "=====" in text


@pytest.mark.parametrize("kind", ["measured", "imported", "projected", "simulated", "mixed"])
def test_the_kind_stands_in_both(kind: str) -> None:
    assert kind.upper() in printed(sample_document(kind))
    assert f'"kind":"{kind}"' in document_html.render(sample_document(kind))


def test_html_says_everything_without_scripts() -> None:
    page = document_html.render(sample_document())
    plain = re.search(r"<noscript>(.*?)</noscript>", page, re.S)[1]  # type: ignore[index]
    for expected in ("Memory holds 71 %", "the clocks", "eval loss", "1,200", "payload", "&lt;img src=x", "Beware."):
        assert expected in plain, expected
    assert "<img" not in plain
    assert "style=" not in plain
    assert "\x1b" not in page


def test_claims_are_links_of_their_own_headline() -> None:
    table = Table(
        "Rows", ("row", "#n"), (("one", "1"), ("two", "2")), anchors=("r-0", "r-1"), links=("#r-1?x=1", "a b/c.html")
    )
    claims = ((Claim("it", "#r-0"),), (Claim("it", "#r-1?x=<y>"), Claim("not there", "#r-0")))
    document = Document(
        "s", "t", "measured", ("this is it", "and it <b> too"), (Section("S", (table,)),), claims=claims
    )
    plain = document_plain.render(document)
    assert '<p>this is <a href="#r-0">it</a></p>' in plain
    assert '<p>and <a href="#r-1">it</a> &lt;b&gt; too</p>' in plain
    assert '<tr id="r-0"><td><a href="#r-1">one</a></td>' in plain
    assert '<tr id="r-1"><td><a href="a b/c.html">two</a></td>' in plain
    assert printed(document)


def test_html_carries_everything_as_data() -> None:
    page = document_html.render(sample_document())
    assert HOSTILE not in page
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])
    assert [section["title"] for section in data["sections"]] == ["Time", "Learning", "Links"]
    assert [block["type"] for block in data["sections"][2]["blocks"]] == ["heatmap", "table", "facts", "paragraph"]


def test_empty_figures_are_drawn() -> None:
    empty = Document("s", "t", "measured", (), (Section("none", (Lines("c", "x", "y", (Line("l", ()),)),)),))
    assert "There is nothing to say." in printed(empty)
    assert document_html.render(empty)


def test_a_report_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot write"):
        document_html.write(sample_document(), tmp_path / "missing" / "report.html")


def test_points_have_no_course_in_the_terminal() -> None:
    cloud = Lines("Ops", "FLOP per byte", "GFLOP/s", (Line("ours", (Point(1.0, 20.0), Point(4.0, 5.0))),), joined=False)
    text = printed(Document("s", "t", "measured", ("ok",), (Section("One", (cloud,)),)), width=80)
    assert "drawn in report.html" in text
    assert "5.00 to 20.0" in text
