"""All kinds of reports in a real browser: quiet, and readable on a phone, on paper, in the dark and by ear."""

from __future__ import annotations

import itertools

import pytest

from edgeroof.tools.chromium import open_page

from .browser import click, texts
from .page_checks import VIEWS, check_page

KINDS = ("measured", "imported", "projected", "ab", "document", "simulated")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_every_page_fits_and_is_quiet_and_clear(quiet, pages, kind, width, scheme):
    check_page(quiet, pages / f"{kind}.html", width=width, scheme=scheme)


@pytest.mark.parametrize("kind", KINDS)
def test_landmarks_and_headings(quiet, pages, kind):
    open_page(quiet, pages / f"{kind}.html")
    for landmark in ("header", "nav[aria-label]", "main", "footer", "h1"):
        assert len(texts(quiet, landmark)) == 1, landmark
    assert quiet.execute_script(
        "return [...document.querySelectorAll('main section')].every((n) => n.getAttribute('aria-labelledby'))"
    )
    levels = quiet.execute_script(
        """return [...document.querySelectorAll('h1, h2, h3, h4')]
        .filter((n) => n.checkVisibility()).map((n) => Number(n.tagName[1]))"""
    )
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert len(texts(quiet, "main section:not([hidden])")) == len(texts(quiet, "#nav a"))


@pytest.mark.parametrize("kind", ["measured", "ab", "document"])
def test_paper_is_light_and_whole(quiet, pages, kind):
    open_page(quiet, pages / f"{kind}.html", width=800, scheme="dark", paper=True)
    assert quiet.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for gone in ("nav", "#theme", ".skip"):
        assert not quiet.find_element("css selector", gone).is_displayed()
    quiet.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    folded = quiet.execute_script("return document.querySelectorAll('details:not([open], .screen)').length")
    quiet.execute_script("window.dispatchEvent(new Event('afterprint'))")
    assert folded == 0
    assert quiet.execute_script("return document.documentElement.scrollWidth") <= 800


def test_paper_says_what_it_leaves_out(quiet, pages):
    open_page(quiet, pages / "measured.html", width=800, paper=True)
    assert "more rows are in the file" in quiet.find_element("id", "kernels-left").text
    assert not quiet.find_element("id", "kernels-controls").is_displayed()


def test_the_theme_can_be_chosen(quiet, pages):
    def ground() -> str:
        return quiet.execute_script("return getComputedStyle(document.body).backgroundColor")

    open_page(quiet, pages / "document.html", scheme="dark")
    dark = ground()
    assert texts(quiet, "#theme") == ["Theme: auto"]
    click(quiet, "#theme")
    assert texts(quiet, "#theme") == ["Theme: light"]
    assert ground() != dark
    open_page(quiet, pages / "ab.html", scheme="dark")
    assert texts(quiet, "#theme") == ["Theme: light"]  # kept, for every kind of report
    click(quiet, "#theme")
    click(quiet, "#theme")
    assert ground() == dark


@pytest.mark.parametrize("kind", ["measured", "ab", "document"])
def test_the_policy_refuses_what_is_not_ours(driver, pages, kind):
    open_page(driver, pages / f"{kind}.html")
    driver.execute_script(
        """const add = (tag, text) => {
          const node = document.createElement(tag);
          node.textContent = text;
          document.body.append(node);
        };
        const tries = [
          () => add('script', 'window.ran = 1'),
          () => add('style', 'body { opacity: 0 }'),
          () => document.body.insertAdjacentHTML('beforeend', '<img src=x onerror="window.ran = 2">'),
          () => { new Image().src = 'http://127.0.0.1:9/x.png'; },
        ];
        for (const attempt of tries) try { attempt(); } catch { /* refused, as it should be */ }"""
    )
    assert driver.execute_script("return window.ran") is None
    assert driver.execute_script("return getComputedStyle(document.body).opacity") == "1"
    said = " ".join(entry["message"] for entry in driver.get_log("browser"))
    assert "Content Security Policy" in said
    assert "TrustedHTML" in said
