"""Size and load time of the HTML report of a run with many kernels, in headless Chromium.

A page counts as interactive when the roofline and the table are drawn and a choice in a filter has been answered and
drawn, counted from the start of its navigation. Every load starts from an empty page; the median counts. The last line
is the verdict, and the exit code follows it.

    python benchmarks/report_load.py --kernels 50000
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from edgeroof.reports import html
from edgeroof.tests.reports.sample_run import large_run
from edgeroof.tools.chromium import browser, open_page, why_not

#: The promises.
LIMIT_BYTES = 3_000_000
LIMIT_MS = 1_500

#: Runs in the page before its own script: chooses the first bound as soon as there is something to choose from, and
#: notes when the answer is on the screen.
WATCH = """
const watch = () => {
  const [select, status] = ['kernels-bound', 'kernels-status'].map((id) => document.getElementById(id));
  const drawn = document.querySelector('.point') && document.querySelector('#kernels-table tbody tr');
  if (!select || !status || !drawn) return requestAnimationFrame(watch);
  window.drawnAt = performance.now();
  const before = status.textContent;
  select.value = select.options[1].value;
  select.dispatchEvent(new Event('change'));
  if (status.textContent !== before)
    requestAnimationFrame(() => setTimeout(() => { window.interactiveAt = performance.now(); }));
};
requestAnimationFrame(watch);
"""


def load(driver: Any, page: Path, patience_s: float = 30) -> tuple[float, float]:
    """Milliseconds until a page is drawn, and until it is interactive.

    Raises:
        TimeoutError: it does not become interactive.
    """
    open_page(driver, page)
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        times = driver.execute_script("return [window.drawnAt, window.interactiveAt]")
        if times[1] is not None:
            return times[0], times[1]
        time.sleep(0.02)
    raise TimeoutError(f"not interactive within {patience_s:.0f} s")


def main() -> int:
    """Print size and times; 0 within the limits, 1 beyond."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernels", type=int, default=50_000)
    parser.add_argument("--loads", type=int, default=9)
    options = parser.parse_args()
    if why_not():
        print(f"cannot measure: {why_not()}")
        return 1
    run = large_run(options.kernels)
    with tempfile.TemporaryDirectory() as folder, browser() as driver:
        page = Path(folder) / "report.html"
        began = time.perf_counter()
        html.write(run, page)
        print(f"{options.kernels:,} kernels, written in {time.perf_counter() - began:.2f} s")
        size = page.stat().st_size
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
        times = [load(driver, page) for _ in range(options.loads)]
    drawn, interactive = (median(column) for column in zip(*times))
    slowest = max(time_ms for _, time_ms in times)
    print(f"size         {size / 1e6:8.2f} MB  (limit {LIMIT_BYTES / 1e6:.0f} MB)")
    print(f"drawn        {drawn:8.0f} ms  (median of {options.loads} loads)")
    print(f"interactive  {interactive:8.0f} ms  (limit {LIMIT_MS:,} ms; slowest {slowest:.0f} ms)")
    kept = size < LIMIT_BYTES and interactive < LIMIT_MS
    print("within the limits" if kept else "BEYOND THE LIMITS")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
