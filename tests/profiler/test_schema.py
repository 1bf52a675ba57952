"""The schema as it is documented, and as runs follow it."""

import re
from pathlib import Path

import pytest

from edgeroof.profiler.migrations import MIGRATIONS
from edgeroof.profiler.run_tables import TABLES
from edgeroof.profiler.schema import SCHEMA_VERSION

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "run-folder.md"


def documented(table: str) -> list[str]:
    """Names in the first column of the table of columns."""
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = text.split(f"| column of `{table}` | meaning |\n|---|---|\n")[1].split("\n\n")[0].splitlines()
    return [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]


@pytest.mark.parametrize("table", TABLES)
def test_every_column_is_documented_once_and_no_other(table: str) -> None:
    names = documented(table)
    assert len(set(names)) == len(names)
    assert set(names) == set(TABLES[table])


def test_every_version_is_documented_and_can_be_converted() -> None:
    versions = re.findall(r"^\| (\d+) \| ", DOCUMENT.read_text(encoding="utf-8").split("## Versions")[1], re.MULTILINE)
    assert [int(version) for version in versions] == list(range(1, SCHEMA_VERSION + 1))
    assert sorted(MIGRATIONS) == list(range(1, SCHEMA_VERSION))
