"""A headless Chromium for the report, as strangers' browsers would open it: from a file, with no network."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


def why_not() -> str:
    """Why no browser can be started; empty when one can."""
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        return "chromium and chromedriver are not installed"
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed"
    return ""


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """A Chromium with a fresh profile, closed afterwards."""
    from selenium import webdriver

    with tempfile.TemporaryDirectory(prefix="edgeroof-chromium-") as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
        try:
            yield driver
        finally:
            driver.quit()


def open_page(
    driver: Any,
    path: Path,
    *,
    address: str = "",
    width: int = 1280,
    height: int = 900,
    scheme: str = "light",
    paper: bool = False,
) -> None:
    """Open a file at a window size and colour scheme, and wait until its script is through.

    Args:
        driver: a browser.
        path: the file.
        address: what follows the file's address, from ``#`` on.
        width: of the window, in CSS pixels; below 600 it is a phone's.
        height: of the window.
        scheme: ``light`` or ``dark``.
        paper: with the rules for print.
    """
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"media": "print" if paper else "", "features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )
    driver.get("about:blank")  # so that another address of the same file is loaded, not walked to
    driver.get(path.resolve().as_uri() + address)
    settle(driver)


def texts(driver: Any, selector: str) -> list[str]:
    """The text of every element that a selector finds."""
    return driver.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map((n) => n.textContent)", selector
    )


def click(driver: Any, selector: str) -> None:
    """Click the first element that a selector finds, and let the page answer."""
    driver.execute_script("document.querySelector(arguments[0]).click()", selector)
    settle(driver)


def choose(driver: Any, selector: str, value: str) -> None:
    """Choose an option of a select box."""
    driver.execute_script(
        "const s = document.querySelector(arguments[0]); s.value = arguments[1]; s.dispatchEvent(new Event('change'))",
        selector, value,
    )  # fmt: skip


def type_into(driver: Any, selector: str, value: str) -> None:
    """Put a text into a field."""
    driver.execute_script(
        "const s = document.querySelector(arguments[0]); s.value = arguments[1]; s.dispatchEvent(new Event('input'))",
        selector, value,
    )  # fmt: skip


def press(driver: Any, *keys: str) -> None:
    """Press keys, one after the other, wherever the focus is."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    for key in keys:
        ActionChains(driver).send_keys(getattr(Keys, key, key)).perform()
    settle(driver)


def settle(driver: Any) -> None:
    """Wait until what was just done is drawn."""
    driver.execute_async_script("const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done));")


def screenshot(driver: Any, path: Path, *, whole: bool = True) -> None:
    """Save what is shown, or the whole page, as PNG."""
    import base64

    options: dict[str, Any] = {"format": "png", "captureBeyondViewport": whole}
    if whole:
        size = driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        options["clip"] = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
    path.write_bytes(base64.b64decode(driver.execute_cdp_cmd("Page.captureScreenshot", options)["data"]))
