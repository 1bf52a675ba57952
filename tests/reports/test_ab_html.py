"""The A/B page: one file, nothing of a result is markup, and a real browser draws it quietly."""

from __future__ import annotations

import json
import re

import pytest

from edgeroof.errors import RunError
from edgeroof.reports import ab_html
from edgeroof.tools.chromium import open_page

from .sample_ab import HOSTILE, PROVIDERS, SIZES, sample_ab


@pytest.fixture(scope="module")
def page() -> str:
    return ab_html.render(sample_ab())


def test_the_page_is_one_file_without_addresses_to_load(page):
    assert not re.search(r"<(link|img|script|iframe)[^>]+(src|href)=(?!\"data:,\")", page)
    assert "url(" not in page
    assert page.count("<script") == 2
    assert "<img" not in page
    assert len(page) < 200_000


def test_the_data_says_what_the_result_says(page):
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert [problem["name"] for problem in data["problems"]] == list(SIZES)
    for problem in data["problems"]:
        assert len(problem["table"]["rows"]) == len(PROVIDERS) - 1
        assert all(len(row) == len(problem["table"]["heads"]) for row in problem["table"]["rows"])
        assert len(problem["points"]) == 4
        assert len(problem["intervals"]) == 3
        assert problem["roofs"][0]["ceilings"][0]["gflops"] == pytest.approx(163)
    assert data["problems"][0]["parts"] is not None
    assert data["problems"][1]["parts"] is None


def test_a_page_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(RunError, match="cannot write the report"):
        ab_html.write(sample_ab(), tmp_path / "no" / "report.html")


@pytest.fixture
def path(pages):
    return pages / "ab.html"


def count(driver, selector: str) -> int:
    return driver.execute_script("return document.querySelectorAll(arguments[0]).length", selector)


def test_every_provider_is_drawn(driver, path):
    open_page(driver, path)
    assert count(driver, ".ab-figures figure") == 2 * len(SIZES)
    assert count(driver, ".ratio") == 3 * len(SIZES)
    assert count(driver, ".point") == 4 * len(SIZES)
    assert count(driver, ".band") == len(SIZES)
    labels = driver.execute_script(
        "return [...document.querySelectorAll('.point')].map((n) => n.getAttribute('aria-label'))"
    )
    assert any(label.startswith("edgeroof: ") and "of the roof" in label for label in labels)
    colours = driver.execute_script(
        "return [...document.querySelectorAll('.ratio .median')].map((n) => getComputedStyle(n).fill)"
    )
    assert len(set(colours)) >= 2


def test_faster_lies_to_the_right_of_one_and_labels_stay_inside(driver, path):
    open_page(driver, path)
    places = driver.execute_script(
        """return [...document.querySelectorAll('.ratio')].map((n) => ({
          name: n.querySelector('.label').textContent,
          at: Number(n.querySelector('.median').getAttribute('cx')),
          one: Number(n.closest('svg').querySelector('.unity').getAttribute('x1')),
        }))"""
    )
    by_name = {place["name"]: place for place in places}
    assert by_name["edgeroof"]["at"] > by_name["edgeroof"]["one"]
    assert any(place["at"] < place["one"] for place in places)
    outside = driver.execute_script(
        """return [...document.querySelectorAll('.ab-figures figure')].filter((figure) => {
          const box = figure.getBoundingClientRect();
          return [...figure.querySelectorAll('text')].some((n) => {
            const at = n.getBoundingClientRect();
            return at.left < box.left - 1 || at.right > box.right + 1;
          });
        }).length"""
    )
    assert outside == 0


def test_hostile_names_are_text(driver, path):
    open_page(driver, path)
    assert driver.execute_script("return document.images.length") == 0
    assert "onerror=alert(1)" in driver.execute_script("return document.body.innerText")
    assert HOSTILE not in path.read_text(encoding="utf-8")
