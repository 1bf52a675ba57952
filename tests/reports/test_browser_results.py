"""Real comparisons and sweeps in a real browser: claims lead to rows, rows can be chosen, knees are marked."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from edgeroof import compare, sweep
from edgeroof.reports.compare_links import main_parts
from edgeroof.reports.text import duration
from edgeroof.tools.chromium import open_page, settle

from .browser import choose, click, texts, type_into
from .page_checks import LOW_CONTRAST, PHONE, VIEWS, check_page
from .real_results import BATCHES

OPS = "#ops-1"
KERNELS = "#kernels-1"


@pytest.fixture
def page(quiet, results):
    open_page(quiet, results / "compare" / "report.html")
    return quiet


@pytest.fixture(scope="module")
def difference(results):
    (found,) = compare.load(results / "compare")["differences"]
    return found


@pytest.mark.parametrize("name", ["compare", "sweep", "bars"])
@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_every_page_fits_and_is_quiet_and_clear(quiet, results, name, width, scheme):
    check_page(quiet, results / name / "report.html", width=width, scheme=scheme)


@pytest.mark.parametrize("name", ["compare", "sweep", "bars"])
def test_every_link_leads_somewhere(quiet, results, name):
    open_page(quiet, results / name / "report.html")
    addresses = [link.get_attribute("href") for link in quiet.find_elements("css selector", "main a")]
    assert addresses
    for address in addresses:
        file, _, place = address.partition("#")
        assert Path(unquote(urlsplit(file).path)).is_file(), address
        if place:
            assert len(quiet.find_elements("id", place.partition("?")[0])) == 1, address


def lit(driver) -> list[str]:
    """Texts of the row that a link led to."""
    return [" ".join(text.split()) for text in texts(driver, "tr:target > *")]


def test_claims_of_a_comparison_lead_to_their_rows(page, difference):
    click(page, ".headline .claim")
    assert lit(page)[0] == "step"
    assert 0 < page.execute_script("return document.querySelector('tr:target').getBoundingClientRect().top") < 900
    assert "optimizer" in texts(page, ".details .claim")[0]
    click(page, ".details li:nth-child(1) .claim")
    assert lit(page)[0] == "optimizer"
    click(page, ".details li:nth-child(2) .claim")
    _, most = main_parts(difference)
    assert texts(page, f"{OPS} tbody th") == [most["op"].removeprefix("aten::")]
    assert page.execute_script("return document.activeElement.id") == "ops-1"
    assert duration(1e3 * most["a_ms"]) in texts(page, f"{OPS} tbody td")
    page.back()
    settle(page)
    assert lit(page)[0] == "optimizer"
    click(page, "tr:target a")
    assert set(texts(page, f"{KERNELS} tbody td:nth-child(2)")) == {"optimizer"}
    click(page, ".bar-row[data-name=optimizer] a")
    assert lit(page)[0] == "optimizer"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_row_that_a_link_led_to_can_be_read(quiet, results, scheme):
    open_page(quiet, results / "compare" / "report.html", address="#phase-1-0", scheme=scheme)
    assert lit(quiet)
    assert quiet.execute_script(LOW_CONTRAST) == []


def test_kernels_of_a_comparison_are_filtered(page, difference):
    every = len(difference["kernels"])
    assert texts(page, f"{KERNELS} .status") == [f"{every} of {every} rows"]
    options = texts(page, "#kernels-1-phase option")
    counted = Counter(row["phase"] for row in difference["kernels"])
    assert sorted(text.rpartition(" · ")[2] for text in options[1:]) == sorted(f"{n:,}" for n in counted.values())
    choose(page, "#kernels-1-phase", "=optimizer")
    wanted = [row for row in difference["kernels"] if row["phase"] == "optimizer"]
    assert texts(page, f"{KERNELS} .status") == [f"{len(wanted)} of {every} rows"]
    assert "phase=optimizer" in page.current_url
    choose(page, "#kernels-1-bound", "=memory")
    held = [row for row in wanted if {row["a_bound"], row["b_bound"]} - {None} == {"memory"}]
    assert texts(page, f"{KERNELS} .status") == [f"{len(held)} of {every} rows"]
    assert held
    type_into(page, "#kernels-1-search", "no such kernel")
    assert "No row matches" in texts(page, f"{KERNELS} .status")[0]
    click(page, f"{KERNELS} button.clear")
    assert texts(page, f"{KERNELS} .status") == [f"{every} of {every} rows"]
    module = next(row["module"] for row in difference["kernels"] if row["module"])
    choose(page, "#kernels-1-module", f"={module}")
    assert set(texts(page, f"{KERNELS} tbody td:nth-child(3)")) == {module}
    assert texts(page, f"{OPS} .status") == [f"{len(difference['ops'])} of {len(difference['ops'])} rows"]


def test_ops_of_a_comparison_are_sorted_by_their_numbers(page, difference):
    times = [row["a_ms"] for row in difference["ops"]]
    click(page, f'{OPS} th[data-key="A"] button')
    click(page, f"{OPS} button.more")
    shown = texts(page, f"{OPS} tbody td:nth-child(5)")
    assert shown == [duration(1e3 * ms) for ms in sorted(times, reverse=True)]
    assert page.execute_script("return document.activeElement.closest('tbody') !== null")
    click(page, f'{OPS} th[data-key="A"] button')
    assert texts(page, f"{OPS} tbody td:nth-child(5)")[0] == duration(1e3 * min(times))
    assert page.find_element("css selector", f'{OPS} th[data-key="A"]').get_attribute("aria-sort") == "ascending"


def test_an_address_of_a_comparison_opens_with_its_filter(quiet, results):
    address = "#kernels-1?phase=backward&q=mul"
    open_page(quiet, results / "compare" / "report.html", address=address, width=PHONE)
    assert set(texts(quiet, f"{KERNELS} tbody td:nth-child(2)")) == {"backward"}
    assert quiet.execute_script("return document.documentElement.scrollWidth") <= PHONE


def test_the_knee_is_marked_and_leads_to_its_point(quiet, results):
    from selenium.webdriver.common.action_chains import ActionChains

    (knee,) = sweep.load(results / "sweep")["knees"]
    assert not knee["rising"]
    open_page(quiet, results / "sweep" / "report.html")
    assert texts(quiet, ".flag text") == [f"knee at {knee['at']}"]
    line, mark = quiet.execute_script(
        """const figure = document.querySelector('.flag').closest('svg');
        const x = (node) => { const b = node.getBoundingClientRect(); return b.left + b.width / 2; };
        return [x(figure.querySelector('.flag line')), x(figure.querySelectorAll('circle')[arguments[0]])];""",
        BATCHES.index(knee["at"]),
    )
    assert line == pytest.approx(mark, abs=1.5)
    circle = quiet.find_elements("css selector", ".plot circle")[0]
    ActionChains(quiet).move_to_element(circle).perform()
    (said,) = texts(quiet, ".plot circle:hover title")
    assert said.endswith(f"at {BATCHES[0]}")
    click(quiet, ".headline .claim")
    assert lit(quiet)[0] == str(knee["at"])


def test_points_lead_to_the_reports_of_their_runs(quiet, results):
    open_page(quiet, results / "sweep" / "report.html")
    click(quiet, "#points tbody a")
    assert quiet.title.startswith("[projected]")
    assert f"batch {BATCHES[0]}" in quiet.find_element("id", "setting").text


def test_names_get_a_bar_each_for_every_number(quiet, results):
    open_page(quiet, results / "bars" / "report.html")
    captions = texts(quiet, "#section-0 .caption")
    assert captions == ["Step time", "Model FLOP utilisation", "Tokens with padding", "Tokens that are no padding",
                        "Energy efficiency", "Peak memory", "Kernel time by what holds it"]  # fmt: skip
    assert len(texts(quiet, "#section-0 .bar-row")) == 2 * len(captions)
    click(quiet, ".bar-row[data-name='adamw-fused'] a")
    assert lit(quiet)[0] == "adamw-fused"


@pytest.mark.parametrize("name", ["compare", "sweep"])
def test_without_scripts_the_page_still_says_it(driver, results, name):
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        driver.get((results / name / "report.html").as_uri())
        source = driver.find_element("tag name", "body").text
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    expected = {"compare": ("explains", "Ops of each phase"), "sweep": ("The knee is at", "Tokens with padding")}
    for words in expected[name]:
        assert words in source
