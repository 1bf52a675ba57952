"""Choosing kernels in a real browser: claims, links, filters and keys lead to the same choice, in figure and table."""

from __future__ import annotations

import pytest

from edgeroof.reports import figures
from edgeroof.reports.grouping import table_rows
from edgeroof.tools.chromium import open_page, settle

from .browser import choose, click, press, texts, type_into


@pytest.fixture
def page(quiet, pages):
    open_page(quiet, pages / "measured.html")
    return quiet


@pytest.fixture(scope="module")
def rows(runs):
    return table_rows(runs["measured"])


def chosen(driver) -> int:
    """Rows that the status line speaks of."""
    return int(texts(driver, "#kernels-status")[0].split(" of ")[0].replace(",", ""))


def bright(driver) -> set[str]:
    """What the marks say that are not dimmed."""
    return set(
        driver.execute_script(
            "return [...document.querySelectorAll('.point:not(.dim)')].map((n) => n.getAttribute('aria-label'))"
        )
    )


def test_every_claim_leads_to_its_kernels(page, rows):
    assert texts(page, ".headline .claim") == ["61\u00a0% of kernel time runs along the memory roof"]
    click(page, ".headline .claim")
    assert chosen(page) == (rows["bound"] == "memory").sum()
    assert set(texts(page, "td.c-bound")) == {"memory"}
    assert bright(page)
    assert all(", memory," in label for label in bright(page))
    assert page.execute_script("return document.activeElement.id") == "kernels-h"
    assert page.execute_script("return document.querySelector('#filters').getBoundingClientRect().top") < 60
    click(page, ".details .claim")
    assert set(texts(page, ".row-toggle .op")) == {"_softmax"}
    page.back()
    settle(page)
    assert chosen(page) == (rows["bound"] == "memory").sum()


@pytest.mark.parametrize(
    ("selector", "column", "value"),
    [
        ("#headroom-list > li a", "op", "aten::_softmax"),
        ("#phases-figure .bar-row[data-name=backward] a", "phase", "backward"),
        ("#modules-figure .bar-row:nth-child(2) a", "module_group", None),
        ("#bound-bar .legend li:nth-child(2) a", "bound", "compute"),
        ("#bound-bar .segment", "bound", "memory"),
        ("#roofline-legend li a", "bound", "memory"),
        ("#optimizer-body .lead a", "phase", "optimizer"),
    ],
)
def test_everything_that_names_kernels_leads_to_them(page, rows, runs, selector, column, value):
    value = value or figures.module_bounds(runs["measured"])["largest"][1]["module"]
    click(page, selector)
    matching = rows[rows[column] == value]
    if column == "op":
        matching = matching[matching["phase"] == runs["measured"].summary["headroom"][0]["phase"]]
    assert chosen(page) == len(matching) > 0


def test_the_warning_leads_to_what_is_above_the_roof(page, rows):
    click(page, ".warnings a")
    assert chosen(page) == (rows["roof_fraction"] > 1).sum()
    assert texts(page, "#kernels-controls .chip") == ["roof: above ×"]


def test_an_address_opens_with_its_filter(quiet, pages, rows):
    open_page(quiet, pages / "measured.html", address="#kernels?phase=backward&bound=memory&q=softmax")
    expected = rows[(rows["phase"] == "backward") & (rows["bound"] == "memory") & rows["op"].str.contains("softmax")]
    if len(expected):
        assert chosen(quiet) == len(expected)
    else:
        assert "No kernel matches" in texts(quiet, "#kernels-status")[0]
    assert quiet.execute_script("return document.querySelector('#kernels-search').value") == "softmax"
    open_page(quiet, pages / "measured.html", address="#kernels?phase=%3Cimg%20src%3Dx%3E&nonsense=1")
    assert "No kernel matches" in texts(quiet, "#kernels-status")[0]


def test_search_and_filters_narrow_both(page, rows):
    type_into(page, "#kernels-search", "_SOFTMAX [32,6")
    assert set(texts(page, ".row-toggle .op")) == {"_softmax"}
    assert {label.split(" ")[0] for label in bright(page)} == {"_softmax"}
    choose(page, "#kernels-bound", "=memory")
    assert "No kernel matches" in texts(page, "#kernels-status")[0]
    assert not bright(page)
    type_into(page, "#kernels-search", "")
    assert chosen(page) == (rows["bound"] == "memory").sum()
    module = rows.loc[rows["bound"] == "memory", "module_group"].iloc[0]
    choose(page, "#kernels-module_group", f"={module}")
    assert chosen(page) == ((rows["bound"] == "memory") & (rows["module_group"] == module)).sum()
    assert "bound=memory" in page.current_url
    click(page, "#kernels-controls > button.clear")
    assert chosen(page) == len(rows)
    assert page.execute_script("return document.activeElement.id") == "kernels-search"


def test_a_chip_can_be_taken_off(page, rows):
    click(page, "#headroom-list > li a")
    assert texts(page, "#kernels-controls .chip") == ["op: _softmax ×"]
    click(page, "#kernels-controls .chip")
    assert texts(page, "#kernels-controls .chip") == []
    assert page.execute_script("return document.activeElement.id") == "kernels-search"


def test_the_keyboard_walks_marks_and_chooses(page, runs):
    choose(page, "#kernels-phase", "=forward")
    page.execute_script("document.querySelector('.point[tabindex=\"0\"]').focus()")
    labels = []
    for _ in range(3):
        labels.append(page.execute_script("return document.activeElement.getAttribute('aria-label')"))
        press(page, "ARROW_RIGHT")
    assert len(set(labels)) == 3
    assert all(" in forward, " in label and "of its roof" in label for label in labels)
    press(page, "HOME")
    assert page.execute_script("return document.activeElement.getAttribute('aria-label')") == labels[0]
    press(page, "ENTER")
    assert {"dtype", "shapes"} <= {"dtype" if "precision" in chip else chip.split(":")[0] for chip in
                                   texts(page, "#kernels-controls .chip")}  # fmt: skip
    assert bright(page) == {labels[0]}
    assert page.execute_script("return document.activeElement.getAttribute('aria-label')") == labels[0]


def test_tab_reaches_everything_in_reading_order(page):
    """Skip link, theme, navigation, claims; then the filters before the figure before the table."""
    seen = []
    for _ in range(400):
        press(page, "TAB")
        place = page.execute_script(
            """const n = document.activeElement;
            if (n.closest('nav')) return 'nav';
            return n.id || n.closest('[id]')?.id || n.className;"""
        )
        if not seen or seen[-1] != place:
            seen.append(place)
        if place == "kernels-table":
            break
    order = ["nav", "headline", "kernels-search", "kernels-phase", "kernels-bound", "kernels-module_group",
             "roofline-figure", "kernels-table"]  # fmt: skip
    assert [seen.index(place) for place in order] == sorted(seen.index(place) for place in order)
    assert seen[0] in ("skip", "")
