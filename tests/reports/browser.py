"""What the tests do in a browser: read, click, choose, type, press."""

from __future__ import annotations

from typing import Any

from edgeroof.tools.chromium import settle


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
