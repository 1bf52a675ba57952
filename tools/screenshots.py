"""Pictures of real reports for the README and the docs: a measured run, a projected one, a sweep and a comparison.

Numbers in the pictures are those of the runs, and the pictures say whether they were measured or projected. Without
run folders it makes both: FLAN-T5-small on the CPU (minutes; the machine should do nothing else), and FLAN-T5-base
projected for a Jetson AGX Orin. The sweep and the comparison are projected in any case.

    python tools/screenshots.py --out docs/images
    python tools/screenshots.py --measured runs/small --projected runs/orin
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edgeroof
from edgeroof.errors import EdgeroofError
from edgeroof.profiler.run import Run
from edgeroof.reports import html
from edgeroof.tools.chromium import browser, open_page, screenshot, settle, why_not

#: A README is read over slow links too.
LIMIT_BYTES = 300_000
#: Device pixels of a CSS pixel, the sharpest first; the first that keeps a picture within the limit is taken.
SCALES = (2.0, 1.5, 1.25, 1.0)
#: The sweep whose pictures are taken, and the optimizers of which two points are compared.
COMPARED = ("adamw-foreach", "adamw-fused")
STUDY = ("--device", "orin", "--model", "base", "--batch-size", "8", "--precision", "bf16",
         "--optimizer", ",".join(COMPARED), "--power-mode", "15W,30W,MAXN")  # fmt: skip


@dataclass(frozen=True)
class Shot:
    """One picture: which report, where in it, in which window."""

    name: str
    kind: str
    address: str = ""
    width: int = 1280
    height: int = 900
    scheme: str = "light"


SHOTS = (
    Shot("report-measured", "measured"),
    Shot("report-projected", "projected"),
    Shot("roofline-measured", "measured", "#kernels?phase=backward"),
    Shot("roofline-dark", "projected", "#kernels?q=", scheme="dark"),
    Shot("report-phone", "measured", width=390, height=844),
    Shot("sweep-projected", "sweep", "#section-0"),
    Shot("compare-projected", "compare", "#kernels-1?phase=optimizer"),
)


#: How each run is made where none is given.
COMMANDS = {
    "measured": ("--device", "cpu", "--model", "small"),
    "projected": ("--device", "orin", "--model", "base", "--batch-size", "8", "--precision", "bf16"),
}


def run_of(kind: str, folder: Path | None, scratch: Path) -> Run:
    """The run in a folder, or one made now.

    Raises:
        EdgeroofError: it cannot be read, or is of another kind.
    """
    if folder is None:
        folder = scratch / kind
        arguments = [sys.executable, "-m", "edgeroof", "profile", *COMMANDS[kind], "--out", str(folder)]
        subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
    run = edgeroof.load(folder)
    if run.summary["kind"] != kind:
        raise EdgeroofError(f"the run in {folder} is {run.summary['kind']}, not {kind}: give one that is")
    return run


def take(driver: Any, shot: Shot, page: Path, target: Path) -> None:
    """Take one picture as sharp as the limit allows.

    Raises:
        EdgeroofError: even the least sharp one is too large.
    """
    for scale in SCALES:
        open_page(
            driver, page, address=shot.address, width=shot.width, height=shot.height, scheme=shot.scheme, scale=scale
        )
        settle(driver)
        screenshot(driver, target, whole=False)
        if target.stat().st_size <= LIMIT_BYTES:
            return
    raise EdgeroofError(f"{target.name} takes {target.stat().st_size:,} bytes, more than {LIMIT_BYTES:,}")


def make_studies(folder: Path) -> dict[str, Path]:
    """A projected sweep over optimizers and power modes, and two of its points compared; their pages."""
    sweep = [sys.executable, "-m", "edgeroof", "sweep", *STUDY, "--out", str(folder / "sweep")]
    subprocess.run(sweep, check=True, stdout=subprocess.DEVNULL)
    points = folder / "sweep" / "points"
    runs = [str(next(points.glob(f"*optimizer-{name}_power_mode-MAXN"))) for name in COMPARED]
    compare = [sys.executable, "-m", "edgeroof", "compare", *runs, "--out", str(folder / "compare")]
    subprocess.run(compare, check=True, stdout=subprocess.DEVNULL)
    return {name: folder / name / "report.html" for name in ("sweep", "compare")}


def main() -> int:
    """Take all pictures; 1 when there is no browser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measured", type=Path, help="folder of a measured run")
    parser.add_argument("--projected", type=Path, help="folder of a projected run")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    if why_not():
        print(f"cannot take screenshots: {why_not()}")
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, browser() as driver:
        folder = Path(name)
        shown = {
            "measured": run_of("measured", options.measured, folder),
            "projected": run_of("projected", options.projected, folder),
        }
        pages = {kind: folder / f"{kind}.html" for kind in shown} | make_studies(folder)
        for kind, run in shown.items():
            html.write(run, pages[kind])
        for shot in SHOTS:
            target = options.out / f"{shot.name}.png"
            take(driver, shot, pages[shot.kind], target)
            print(f"{target}  {target.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
