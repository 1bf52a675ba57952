"""Reports as Markdown: every table and figure marked, figures named once, text that stays text."""

import re
import xml.etree.ElementTree as ET

from edgeroof.reports.document import Bar, Bars, Document, Part, Section, Table
from edgeroof.reports.document_markdown import markdown_table, render

from .sample_document import HOSTILE, sample_document


def test_every_block_is_there() -> None:
    page = render(sample_document(), name="sample", figures_at="figures/")
    for expected in ("# ", "## Time", "Memory holds 71", "## Warnings", "<details>", "| ---: |"):
        assert expected in page.text, expected
    images = re.findall(r"!\[[^\n]*\]\((\S+)\)", page.text)
    assert sorted(images) == sorted(f"figures/{name}" for name in page.figures)
    for figure in page.figures.values():
        ET.fromstring(figure)


def test_figures_with_one_caption_have_two_files() -> None:
    bars = Bars("The same", (Bar("a", (Part("a", 1.0),), "1"),))
    page = render(Document("x", "t", "projected", (), (Section("s", (bars, bars)),)), name="x")
    assert sorted(page.figures) == ["x-the-same-2.svg", "x-the-same.svg"]


def test_marks_stand_over_tables_and_figures() -> None:
    table, other = Table("One", ("a",), (("1",),), mark="measured here"), Table("Two", ("a",), (("1",),))
    text = render(Document("x", "t", "projected", (), (Section("s", (table, other)),)), name="x").text
    assert "**One** · *measured here*" in text
    assert "**Two** · *projected*" in text


def test_text_stays_text() -> None:
    page = render(sample_document(), name="sample")
    assert HOSTILE not in page.text
    assert "<script" not in page.text
    assert markdown_table(("a|b", "#n"), [("x_y*z", "1\n2")]) == "| a\\|b | n |\n| --- | ---: |\n| x\\_y\\*z | 1 2 |"
