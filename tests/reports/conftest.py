"""One browser for all tests of the reports: starting it takes longer than most of them."""

from __future__ import annotations

import pytest

from edgeroof.reports import ab_html, document_html, html
from edgeroof.tools.chromium import browser, why_not

from .real_results import make_results
from .sample_ab import sample_ab, with_energy
from .sample_document import sample_document
from .sample_run import imported_run, projected_run, sample_run


@pytest.fixture(scope="session")
def driver():
    if why_not():
        pytest.skip(why_not())
    with browser() as started:
        yield started


@pytest.fixture(scope="session")
def runs():
    return {"measured": sample_run(), "imported": imported_run(), "projected": projected_run()}


@pytest.fixture(scope="session")
def pages(runs, tmp_path_factory):
    """A folder with a page of every kind."""
    folder = tmp_path_factory.mktemp("reports")
    for kind, run in runs.items():
        html.write(run, folder / f"{kind}.html")
    ab_html.write(with_energy(sample_ab()), folder / "ab.html")
    document_html.write(sample_document(), folder / "document.html")
    document_html.write(sample_document("simulated"), folder / "simulated.html")
    return folder


@pytest.fixture(scope="session")
def results(tmp_path_factory):
    """Folders of a real comparison and of two real sweeps, all projected."""
    folder = tmp_path_factory.mktemp("results")
    make_results(folder)
    return folder


@pytest.fixture
def quiet(driver):
    """The browser, whose console must be silent afterwards: no error, nothing refused by the policy."""
    driver.get_log("browser")
    yield driver
    assert driver.get_log("browser") == []
