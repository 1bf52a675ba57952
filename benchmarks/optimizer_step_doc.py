"""Put the tables of A/B results into ``docs/optimizer-step.md``, between its markers: no number is typed by hand.

edgeroof ab adamw --out runs/ab-adamw
python benchmarks/optimizer_step_doc.py runs/ab-adamw
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from edgeroof import lab
from edgeroof.reports.ab_markdown import to_markdown

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "optimizer-step.md"
BEGIN, END = "<!-- results: written by benchmarks/optimizer_step_doc.py -->", "<!-- end of results -->"


def filled(document: str, results: list[str]) -> str:
    """The document with new results between its markers.

    Raises:
        ValueError: the markers are not there.
    """
    between = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    if not between.search(document):
        raise ValueError(f"there is no {BEGIN} … {END} in the document")
    block = "\n\n".join([BEGIN, *results, END])
    return between.sub(lambda _: block, document)


def section(folder: Path) -> str:
    """One result as Markdown, with its load and command."""
    result = lab.load(folder)
    machine = result["machine"]
    state = "; ".join(f"{name} {value}" for name, value in machine["after"].items())
    return "\n".join([to_markdown(result).rstrip(), "", f"`{result['command']}`. Machine: {state}."])


def main() -> int:
    """Rewrite the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, help="folders that `edgeroof ab` wrote")
    parser.add_argument("--document", type=Path, default=DOCUMENT)
    options = parser.parse_args()
    text = options.document.read_text(encoding="utf-8")
    options.document.write_text(filled(text, [section(folder) for folder in options.results]), encoding="utf-8")
    print(f"{options.document}: {len(options.results)} results")
    return 0


if __name__ == "__main__":
    sys.exit(main())
