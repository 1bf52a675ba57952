"""The report of a run in a real browser: it draws what the data holds, and sorts and unfolds it."""

from __future__ import annotations

import pytest

from edgeroof.reports import figures, html
from edgeroof.reports.grouping import table_rows
from edgeroof.reports.text import duration, percent
from edgeroof.tools.chromium import open_page, settle

from .browser import click, press, texts, type_into
from .sample_kernels import IMG, LONG, SCRIPT
from .sample_run import large_run


@pytest.fixture
def page(quiet, pages):
    open_page(quiet, pages / "measured.html")
    return quiet


def test_counts_equal_the_data(page, runs):
    run = runs["measured"]
    figure = figures.roofline_points(run)
    assert len(texts(page, ".point")) == len(figure["points"]) + len(figure["movement"])
    assert len(texts(page, "#phases-figure .bar-row")) == len(figures.phase_bounds(run))
    assert len(texts(page, "#modules-figure .bar-row")) == len(figures.module_bounds(run)["largest"])
    assert len(texts(page, "#headroom .headroom > li")) == len(run.summary["headroom"])
    assert len(texts(page, "#timing-body .bar-row")) == 3
    rows = len(table_rows(run))
    assert f"{rows} of {rows} rows" in texts(page, "#kernels-status")[0]
    click(page, "#kernels-more")
    assert len(texts(page, "#kernels-table tbody tr")) == rows
    assert page.execute_script("return document.activeElement.className") == "row-toggle"


def test_headers_sort_both_ways(page):
    def direction() -> str:
        return page.execute_script("return document.querySelector('th[data-key=time_us]').getAttribute('aria-sort')")

    times = [float(value.replace(",", "")) for value in texts(page, "td.c-time_us")]
    assert times == sorted(times, reverse=True)
    assert direction() == "descending"
    click(page, 'th[data-key="time_us"] button')
    times = [float(value.replace(",", "")) for value in texts(page, "td.c-time_us")]
    assert times == sorted(times)
    assert direction() == "ascending"
    click(page, 'th[data-key="phase"] button')
    assert texts(page, "td.c-phase") == sorted(texts(page, "td.c-phase"), key=lambda name: name.replace("no phase", ""))
    assert direction() is None


def test_hover_explains_a_mark(page, runs):
    from selenium.webdriver.common.action_chains import ActionChains

    page.execute_script("document.querySelector('#roofline-figure').scrollIntoView({block: 'center'})")
    settle(page)
    # Marks may hide one another: the one with the most time that is on top somewhere, and where that is.
    mark, name, dx, dy = page.execute_script(
        """const marks = [...document.querySelectorAll('.point')].sort((a, b) => b.group.time_us - a.group.time_us);
        for (const mark of marks) {
          const box = mark.getBoundingClientRect();
          for (let y = -box.height / 2; y < box.height / 2; y += 2)
            for (let x = -box.width / 2; x < box.width / 2; x += 2)
              if (document.elementFromPoint(box.x + box.width / 2 + x, box.y + box.height / 2 + y) === mark)
                return [mark, mark.getAttribute('aria-label'), Math.round(x), Math.round(y)];
        }"""
    )
    ActionChains(page).move_to_element_with_offset(mark, dx, dy).perform()
    figure = figures.roofline_points(runs["measured"])
    expected = next(
        point
        for point in figure["points"] + figure["movement"]
        if f"{point['op'].removeprefix('aten::')} in {point['phase']}" in name and duration(point["time_us"]) in name
    )
    assert page.find_element("id", "tooltip").is_displayed()
    shown = texts(page, "#tooltip")[0]
    for part in (expected["phase"], duration(expected["time_us"]), percent(expected["roof_fraction"])):
        assert part in shown
    assert "to its roof" in texts(page, ".gap-text")[0]
    press(page, "ESCAPE")
    assert not page.find_element("id", "tooltip").is_displayed()


def test_a_row_lights_its_mark(page):
    page.execute_script(
        "document.querySelector('#kernels-table tbody tr').dispatchEvent(new PointerEvent('pointerenter'))"
    )
    op = texts(page, "#kernels-table .row-toggle .op")[0]
    (lit,) = page.execute_script(
        "return [...document.querySelectorAll('.point.lit')].map((n) => n.getAttribute('aria-label'))"
    )
    assert lit.startswith(op)


def test_the_roofline_can_be_read_as_a_table(page, runs):
    figure = figures.roofline_points(runs["measured"])
    click(page, "#roofline-numbers summary")
    rows = texts(page, "#roofline-numbers tbody tr")
    assert len(rows) == min(100, len(figure["points"]) + len(figure["movement"]))
    assert duration(figure["points"][0]["time_us"]) in "\n".join(rows)


def test_hostile_names_are_text(page):
    assert page.title == "flan-t5-small client step on Jetson AGX Orin 64GB"
    assert page.execute_script("return document.images.length") == 0
    for name in (IMG, SCRIPT):
        type_into(page, "#kernels-search", name)
        shown = page.execute_script("return [...document.querySelectorAll('.name')].map((n) => n.title)")
        assert name in shown


def test_long_names_are_short_to_see_and_whole_to_read(page):
    type_into(page, "#kernels-search", "TheEnd")
    title, text = page.execute_script("const n = document.querySelector('.name'); return [n.title, n.textContent]")
    assert title == LONG
    assert len(text) < 60
    assert "…" in text
    click(page, ".row-toggle")
    assert LONG in texts(page, ".row-details")[0]


def test_above_the_roof_is_flagged(page):
    type_into(page, "#kernels-search", "cached_in_l2")
    (shown,) = texts(page, ".over")
    assert 170 < float(shown.removesuffix(" % !")) < 190


def test_projected_is_said_everywhere(quiet, pages):
    open_page(quiet, pages / "projected.html")
    assert "Nothing on this page was measured" in quiet.find_element("id", "banner").text
    assert all("projected" in heading for heading in texts(quiet, "main h2"))
    assert texts(quiet, ".watermark") == ["PROJECTED"]
    assert quiet.title.startswith("[projected]")
    assert "208" in quiet.find_element("id", "projection-body").text
    assert "90 % interval" in texts(quiet, "#tiles .tile")[0]
    open_page(quiet, pages / "measured.html")
    assert not quiet.find_element("id", "projection").is_displayed()


@pytest.mark.slow
def test_fifty_thousand_kernels_stay_small_and_fast(quiet, tmp_path):
    target = tmp_path / "large.html"
    html.write(large_run(50_000), target)
    assert target.stat().st_size < 3_000_000
    open_page(quiet, target)
    ready = float(quiet.execute_script("return document.documentElement.dataset.ready"))
    assert ready < 1_500, f"interactive after {ready:.0f} ms"
