from __future__ import annotations

import base64
import hashlib
import html as stdlib_html
import json
import re
from importlib import resources

import pytest

from edgeroof.errors import RunError
from edgeroof.reports import html
from edgeroof.reports.html import embed, page_data

from .sample_kernels import LONG, SCRIPT
from .sample_run import imported_run, projected_run, sample_run


@pytest.fixture(scope="module")
def page() -> str:
    return html.render(sample_run())


def data_of(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_the_page_is_one_file_without_addresses_to_load(page):
    assert not re.search(r"<(link|img|script|iframe)[^>]+(src|href)=(?!\"data:,\")", page)
    assert "@import" not in page
    assert "url(" not in page
    assert len(page) < 1_000_000


def test_the_policy_allows_this_style_and_this_script_only(page):
    policy = stdlib_html.unescape(re.search(r'Content-Security-Policy" content="(.*?)"', page)[1])
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1]
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1]
    for directive, text in (("style-src", style), ("script-src", script)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "unsafe" not in policy


def test_nothing_of_a_run_is_markup(page):
    assert page.count("<script") == 2
    assert "<img" not in page
    data = data_of(page)
    assert SCRIPT in data["table"]["texts"]["name"]["labels"]
    assert LONG in data["table"]["texts"]["name"]["labels"]
    assert len(LONG) >= 2_000


def test_embedded_json_cannot_leave_its_element():
    text = embed({"a</script>": ["<!--", "&", "\u2028\u2029", float("nan"), "\ud800"]})
    assert not re.search("[<>&\u2028\u2029]", text)
    assert json.loads(text) == {"a</script>": ["<!--", "&", "  ", None, "�"]}


def test_a_hostile_title_is_text():
    run = sample_run(hostile=False)
    run.summary["title"] = "</title><script>alert(1)</script>\ud800"
    page = html.render(run)
    page.encode("utf-8")
    assert page.count("<script") == 2


def test_placeholders_in_data_are_left_alone():
    run = sample_run(hostile=False)
    run.summary["title"] = "{{ script }}"
    assert "<title>{{ script }}</title>" in html.render(run)


def test_table_columns_hold_every_kernel(page):
    table = data_of(page)["table"]
    run = sample_run()
    assert sum(table["numbers"]["kernels"]) * 2 == pytest.approx(len(run.kernels))
    assert sum(table["numbers"]["time_us"]) * 2 == pytest.approx(run.kernels["dur_us"].sum(), rel=1e-5)
    for column in table["texts"].values():
        assert len(column["codes"]) == table["rows"]
        assert max(column["codes"]) < len(column["labels"])


@pytest.mark.parametrize("make", [imported_run, projected_run])
def test_runs_that_lack_parts_render(make):
    run = make()
    data = data_of(html.render(run))
    assert data["summary"]["kind"] == run.summary["kind"]
    assert data["summary"]["metrics"] is None or data["summary"]["kind"] == "projected"


def test_an_empty_run_renders():
    run = sample_run()
    run.kernels, run.phases = run.kernels.iloc[:0], run.phases.iloc[:0]
    data = page_data(run)
    assert data["table"]["rows"] == 0
    assert data["roofline"]["points"] == []
    html.render(run)


def test_scripts_never_parse_text_as_markup():
    folder = resources.files(html.__package__).joinpath("templates")
    script = "".join(entry.read_text() for entry in folder.iterdir() if entry.name.endswith(".js"))
    assert len(script) > 50_000
    for forbidden in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "DOMParser",
    ):
        assert forbidden not in script


def test_write_says_why_it_cannot(tmp_path):
    target = tmp_path / "report.html"
    html.write(sample_run(), target)
    assert target.read_text(encoding="utf-8").startswith("<!doctype html>")
    with pytest.raises(RunError, match="cannot write the report"):
        html.write(sample_run(), tmp_path)
