"""A headless Chromium for reports, as strangers' browsers would open them: from a file, with no network."""

from __future__ import annotations

import base64
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
    scale: float = 1,
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
        scale: device pixels of a CSS pixel.
    """
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600},
    )
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"media": "print" if paper else "", "features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )
    driver.get("about:blank")  # so that another address of the same file is loaded, not walked to
    driver.get(path.resolve().as_uri() + address)
    settle(driver)


def settle(driver: Any) -> None:
    """Wait until what was just done is drawn."""
    driver.execute_async_script("const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done));")


def screenshot(driver: Any, path: Path, *, whole: bool = True) -> None:
    """Save what is shown, or the whole page, as PNG."""
    options: dict[str, Any] = {"format": "png", "captureBeyondViewport": whole, "optimizeForSpeed": False}
    if whole:
        size = driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        options["clip"] = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
    path.write_bytes(base64.b64decode(driver.execute_cdp_cmd("Page.captureScreenshot", options)["data"]))
