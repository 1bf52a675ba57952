"""What every page of a report has to stand in a real browser: it fits, says nothing odd, is legible and has names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeroof.tools.chromium import open_page

DESKTOP, PHONE = 1280, 360
#: Widths and colour schemes that every page is looked at in.
VIEWS = [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light")]

#: Text whose contrast against what lies behind it is below WCAG AA, as ``text: ratio``.
LOW_CONTRAST = """
const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
const cache = new Map();
const rgba = (colour) => {
  if (!cache.has(colour)) {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    cache.set(colour, [...canvas.getImageData(0, 0, 1, 1).data]);
  }
  return cache.get(colour);
};
const over = (top, below) => below.map((value, i) => (i < 3 ? (top[i] * top[3] + value * (255 - top[3])) / 255 : 255));
const ground = (node) => {
  if (!node) return [255, 255, 255, 255];
  const own = rgba(getComputedStyle(node).backgroundColor);
  return own[3] === 255 ? own : over(own, ground(node.parentElement));
};
const light = (colour) => {
  const [r, g, b] = colour.slice(0, 3).map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const low = new Set();
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || node.closest('script, style, svg, noscript')) continue;
  if (!node.checkVisibility()) continue;
  const style = getComputedStyle(node);
  const behind = ground(node);
  const [a, b] = [light(over(rgba(style.color), behind)), light(behind)];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const size = parseFloat(style.fontSize);
  const needed = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
  if (ratio < needed) low.add(`${walker.currentNode.data.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
}
return [...low];
"""

#: Controls, figures and regions without a name.
NAMELESS = """
const name = (n) => n.getAttribute('aria-label') || n.getAttribute('aria-labelledby') || n.textContent.trim();
const named = 'a, button, select, input, summary, [role=img], [role=region], [role=button], svg[role]';
return [...document.querySelectorAll(named)]
  .filter((n) => !n.hidden && !name(n) && !n.closest('[hidden]')).map((n) => n.outerHTML.slice(0, 100));
"""


def check_page(driver: Any, path: Path, *, width: int, scheme: str) -> None:
    """Open a page with all its details, and assert that it fits, shows no leaked value, is legible and has names."""
    open_page(driver, path, width=width, scheme=scheme)
    driver.execute_script("document.querySelectorAll('details').forEach((n) => { n.open = true; })")
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    text = driver.execute_script("return document.body.innerText")
    for bad in ("NaN", "undefined", "null", "Infinity", "[object"):
        assert bad not in text
    assert driver.execute_script(LOW_CONTRAST) == []
    assert driver.execute_script(NAMELESS) == []
