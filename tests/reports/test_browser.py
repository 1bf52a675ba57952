"""The report in a real browser: it draws what the data holds, does what it says, and stays quiet on the console."""

from __future__ import annotations

import pytest

from edgeroof.reports import figures, html
from edgeroof.reports.grouping import table_rows
from edgeroof.reports.text import duration, percent

from .browser import browser, open_page, why_not
from .sample_kernels import IMG, LONG, SCRIPT
from .sample_run import imported_run, large_run, projected_run, sample_run

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "a browser is there")

DESKTOP, PHONE = 1280, 390


@pytest.fixture(scope="module")
def driver():
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def runs():
    return {"measured": sample_run(), "imported": imported_run(), "projected": projected_run()}


@pytest.fixture(scope="module")
def pages(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    for kind, run in runs.items():
        html.write(run, folder / f"{kind}.html")
    return folder


@pytest.fixture
def page(driver, pages):
    open_page(driver, pages / "measured.html")
    yield driver
    assert driver.get_log("browser") == []


def texts(driver, selector: str) -> list[str]:
    return driver.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map((n) => n.textContent)", selector
    )


def click(driver, selector: str) -> None:
    driver.execute_script("document.querySelector(arguments[0]).click()", selector)


def choose(driver, selector: str, value: str) -> None:
    driver.execute_script(
        "const s = document.querySelector(arguments[0]); s.value = arguments[1]; s.dispatchEvent(new Event('change'))",
        selector, value,
    )  # fmt: skip


def type_into(driver, selector: str, value: str) -> None:
    driver.execute_script(
        "const s = document.querySelector(arguments[0]); s.value = arguments[1]; s.dispatchEvent(new Event('input'))",
        selector, value,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["measured", "imported", "projected"])
@pytest.mark.parametrize(("width", "scheme"), [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light")])
def test_every_page_fits_and_is_quiet(driver, pages, kind, width, scheme):
    open_page(driver, pages / f"{kind}.html", width=width, scheme=scheme)
    assert driver.get_log("browser") == []
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    text = driver.execute_script("return document.body.innerText")
    for bad in ("NaN", "undefined", "null", "Infinity", "[object"):
        assert bad not in text


def test_counts_equal_the_data(page, runs):
    run = runs["measured"]
    figure = figures.roofline_points(run)
    assert len(texts(page, ".point")) == len(figure["points"]) + len(figure["movement"])
    assert len(texts(page, "#phases-figure .bar-row")) == len(figures.phase_bounds(run))
    assert len(texts(page, "#headroom-list > li")) == len(run.summary["headroom"])
    assert len(texts(page, "#timing-body .bar-row")) == 3
    rows = len(table_rows(run))
    assert f"{rows} of {rows} rows" in texts(page, "#kernels-status")[0]
    click(page, "#kernels-more")
    assert len(texts(page, "#kernels-table tbody tr")) == rows


def test_headers_sort_both_ways(page):
    times = [float(value.replace(",", "")) for value in texts(page, "td.c-time_us")]
    assert times == sorted(times, reverse=True)
    click(page, 'th[data-key="time_us"] button')
    times = [float(value.replace(",", "")) for value in texts(page, "td.c-time_us")]
    assert times == sorted(times)
    assert (
        page.execute_script("return document.querySelector('th[data-key=time_us]').getAttribute('aria-sort')")
        == "ascending"
    )
    click(page, 'th[data-key="phase"] button')
    assert texts(page, "td.c-phase") == sorted(texts(page, "td.c-phase"), key=lambda name: name.replace("no phase", ""))


def test_search_and_filters_narrow_the_table(page, runs):
    rows = table_rows(runs["measured"])
    type_into(page, "#kernels-search", "_SOFTMAX [32,6")
    assert set(texts(page, ".row-toggle .op")) == {"_softmax"}
    choose(page, "#kernels-bound", "=memory")
    assert "No kernel matches" in texts(page, "#kernels-status")[0]
    type_into(page, "#kernels-search", "")
    memory = int((rows["bound"] == "memory").sum())
    assert texts(page, "#kernels-status")[0].startswith(f"{memory} of ")
    click(page, "#kernels-controls > button.quiet")
    assert texts(page, "#kernels-status")[0].startswith(f"{len(rows)} of ")


def test_headroom_opens_its_kernels(page, runs):
    first = runs["measured"].summary["headroom"][0]
    rows = table_rows(runs["measured"])
    matching = rows[(rows["op"] == first["op"]) & (rows["phase"] == first["phase"])]
    click(page, "#headroom-list > li a")
    assert texts(page, "#kernels-status")[0].startswith(f"{len(matching)} of ")
    assert texts(page, "#kernels-controls .chip") == ["op: _softmax ×"]
    click(page, "#kernels-controls .chip")
    assert texts(page, "#kernels-controls .chip") == []


def test_hover_and_focus_explain_a_point(page, runs):
    from selenium.webdriver.common.action_chains import ActionChains

    choose(page, "#roofline-phase", "=forward")
    largest = page.find_element("css selector", '.point[tabindex="0"]')
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", largest)
    rim = int(float(largest.get_attribute("r"))) - 2  # smaller circles may lie on its middle
    assert "Also here" not in texts(page, "#tooltip")[0]
    ActionChains(page).move_to_element_with_offset(largest, 0, rim).perform()
    assert page.find_element("id", "tooltip").is_displayed()
    figure = figures.roofline_points(runs["measured"])
    forward = [point for point in figure["points"] if point["phase"] == "forward"]
    expected = max(forward, key=lambda point: point["time_us"])
    shown = texts(page, "#tooltip")[0]
    for part in (
        expected["phase"],
        expected["shapes"],
        duration(expected["time_us"]),
        percent(expected["roof_fraction"]),
    ):
        assert part in shown
    assert "Also here" in shown
    page.execute_script("document.querySelector('.point[tabindex=\"0\"]').focus()")
    before = page.execute_script("return document.activeElement.getAttribute('aria-label')")
    ActionChains(page).send_keys("\ue014").perform()  # arrow right
    after = page.execute_script("return document.activeElement.getAttribute('aria-label')")
    assert before != after
    assert "of its roof" in after
    ActionChains(page).send_keys("\ue007").perform()  # enter
    assert len(texts(page, "#kernels-controls .chip")) == 4


def test_legend_and_phase_choose_what_is_drawn(page, runs):
    figure = figures.roofline_points(runs["measured"])
    drawn = figure["points"] + figure["movement"]
    click(page, '.toggle[data-bound="memory"]')
    assert len(texts(page, ".point")) == sum(point["bound"] != "memory" for point in drawn)
    assert page.execute_script("return document.querySelector('.toggle').getAttribute('aria-pressed')") == "false"
    click(page, '.toggle[data-bound="memory"]')
    choose(page, "#roofline-phase", "=optimizer")
    assert len(texts(page, ".point")) == sum(point["phase"] == "optimizer" for point in drawn)


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


def test_dark_and_light_differ(driver, pages):
    grounds = []
    for scheme in ("light", "dark"):
        open_page(driver, pages / "measured.html", scheme=scheme)
        grounds.append(driver.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert len(set(grounds)) == 2


def test_projected_is_said_everywhere(driver, pages):
    open_page(driver, pages / "projected.html")
    assert "Nothing on this page was measured" in driver.find_element("id", "banner").text
    assert all("projected" in heading for heading in texts(driver, "main h2"))
    assert texts(driver, ".watermark") == ["PROJECTED"]
    assert driver.title.startswith("[projected]")
    assert "208" in driver.find_element("id", "projection-body").text
    open_page(driver, pages / "measured.html")
    assert not driver.find_element("id", "projection").is_displayed()
    assert driver.get_log("browser") == []


@pytest.mark.slow
def test_fifty_thousand_kernels_stay_small_and_fast(driver, tmp_path):
    target = tmp_path / "large.html"
    html.write(large_run(50_000), target)
    assert target.stat().st_size < 3_000_000
    open_page(driver, target)
    ready = float(driver.execute_script("return document.documentElement.dataset.ready"))
    assert ready < 1_500, f"interactive after {ready:.0f} ms"
    assert driver.get_log("browser") == []
