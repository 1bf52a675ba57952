"""A run as one HTML file that works offline.

The page is a fixed skeleton, one style sheet, one script and the run's data as JSON. Nothing of the run is ever markup:
the script builds elements and sets their text. A content security policy allows exactly this style and this script, by
hash, and no request to anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from .. import __version__
from ..errors import RunError
from . import figures
from .blocks_data import blocks_data
from .grouping import TABLE_KEYS, profiled_steps, table_rows
from .projection import projection_blocks
from .text import clean

if TYPE_CHECKING:
    from ..profiler.run import Run

#: Scripts of the page, in the order in which they are joined.
SCRIPTS = (
    "bars.js", "charts.js", "blocks.js", "filter.js", "roofline_axes.js", "roofline.js", "tooltip.js",
    "sorted_table.js", "table.js", "explorer.js", "sections.js", "details.js", "main.js",
)  # fmt: skip
STYLES = ("report.css", "document.css")

#: The skeleton of every page, and the scripts and styles that come before and after those of each kind.
BASE = "base.html"
BASE_SCRIPTS = ("dom.js", "format.js", "frame.js")
BASE_STYLES = ("theme.css", "parts.css")
PRINT_STYLE = "print.css"
#: Numbers of a row of the kernel table, besides its keys.
TABLE_NUMBERS = (
    "kernels", "time_us", "share", "headroom_us", "roof_fraction", "intensity", "gflops", "bandwidth_gbs", "flops",
    "bytes_read", "bytes_written",
)  # fmt: skip

_PLACEHOLDER = re.compile(r"\{\{ (\w+) \}\}")


def render(run: Run) -> str:
    """The report of a run as one HTML document."""
    title = clean(run.summary.get("title") or "edgeroof run")
    return page("report.html", title=title, data=page_data(run), styles=STYLES, scripts=SCRIPTS)


def write(run: Run, path: str | os.PathLike[str]) -> None:
    """Write the report of a run to a file.

    Raises:
        RunError: the file cannot be written.
    """
    target = Path(path)
    try:
        target.write_text(render(run), encoding="utf-8")
    except OSError as error:
        raise RunError(f"cannot write the report {target}: {error.strerror or error}") from error


def page(
    template: str, *, title: str, data: Any, styles: Sequence[str], scripts: Sequence[str], plain: str = ""
) -> str:
    """A page made from the skeleton that all kinds of reports share and the sections of one of them.

    Args:
        template: file name of the sections, in ``reports/templates``.
        title: plain text for the window title.
        data: anything JSON can hold; the page's scripts find it in the element ``data``.
        styles: file names of the kind's own style sheets, joined in this order.
        scripts: file names of the kind's own scripts, joined in this order into one strict function.
        plain: markup with what the page says, for readers without scripts.
    """
    css = "\n".join(_template(name) for name in (*BASE_STYLES, *styles, PRINT_STYLE))
    script = '(() => {\n"use strict";\n' + "\n".join(_template(name) for name in (*BASE_SCRIPTS, *scripts)) + "\n})();"
    policy = (
        f"default-src 'none'; style-src '{_hash(css)}'; script-src '{_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    values = {
        "version": html.escape(__version__),
        "policy": html.escape(policy, quote=False),
        "title": html.escape(title),
        "css": css,
        "main": _template(template).rstrip(),
        "script": script,
        "data": embed(data),
        "plain": plain,
        "hidden": "see its figures" if plain else "read it",
    }
    return _PLACEHOLDER.sub(lambda match: values[match[1]], _template(BASE))


def embed(data: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(_plain(data), separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def page_data(run: Run) -> dict[str, Any]:
    """Everything the report shows: the summary, the figures and the kernel table in columns."""
    roofline = figures.roofline_points(run)
    device = run.summary.get("device") or {}
    return {
        "summary": run.summary,
        "steps": profiled_steps(run),
        "totals": figures.totals(run),
        "bounds": figures.bound_shares(run),
        "phases": figures.phase_bounds(run),
        "modules": figures.module_bounds(run),
        "timing": figures.timing_bars(run),
        "roofline": roofline | {"roofs": figures.roof_lines(device, figures.used_peaks(roofline["points"]))},
        "table": _columnar(table_rows(run)),
        "projection": blocks_data(projection_blocks(run.summary.get("projection"))),
    }


def _columnar(rows: pd.DataFrame) -> dict[str, Any]:
    """Rows as columns: each distinct text once, numbers to five digits."""
    texts = {}
    for key in TABLE_KEYS:
        codes, labels = pd.factorize(rows[key])
        texts[key] = {"labels": [str(label) for label in labels], "codes": codes.tolist()}
    numbers = {key: [_short(value) for value in rows[key].tolist()] for key in TABLE_NUMBERS}
    return {"rows": len(rows), "texts": texts, "numbers": numbers}


def _short(value: float) -> float | int | None:
    """A float with few digits for a small page; integers stay integers."""
    if not math.isfinite(value):
        return None
    short = float(f"{value:.6g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def _plain(value: Any) -> Any:
    """Values as JSON knows them: not-a-number becomes null, text is cleaned, numpy scalars become Python's."""
    if isinstance(value, Mapping):
        return {clean(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return clean(value)
    if value is None or isinstance(value, (bool, int)):
        return value
    if hasattr(value, "item"):
        return _plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return clean(value)


def _hash(text: str) -> str:
    """A source expression of a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _template(name: str) -> str:
    return resources.files(__package__).joinpath("templates", name).read_text(encoding="utf-8")
