"""Run folders of older schema versions, brought up to today's step by step.

:data:`MIGRATIONS` has one entry for each older version: what turns a run of that version into one of the next. A run of
version 1 goes through all of them in order. To change the schema, raise ``schema.SCHEMA_VERSION``, add an entry here,
and describe the change in ``docs/run-folder.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import RunError
from .schema import SCHEMA_VERSION

if TYPE_CHECKING:
    import pandas as pd

Summary = dict[str, Any]
Tables = dict[str, "pd.DataFrame"]


def _as_it_is(part: Any) -> Any:
    return part


class Migration(NamedTuple):
    """From one version to the next; each part is given and returned whole."""

    summary: Callable[[Summary], Summary] = _as_it_is
    tables: Callable[[Tables], Tables] = _as_it_is


def _summary_2(summary: Summary) -> Summary:
    """Version 2 says where the trace starts, and always has the entry of phase samples."""
    metrics = summary.get("metrics")
    if isinstance(metrics, dict):
        metrics = {"phase_samples_ms": {}, **metrics}
    return {**summary, "metrics": metrics, "trace": None}


MIGRATIONS: dict[int, Migration] = {1: Migration(summary=_summary_2)}


def check_version(version: int) -> None:
    """Refuse a version that cannot be read.

    Raises:
        RunError: it is newer than this edgeroof, or older than any that can be converted.
    """
    if version > SCHEMA_VERSION:
        raise RunError(
            f"it has schema version {version}, newer than the {SCHEMA_VERSION} that this edgeroof reads: "
            "update edgeroof (pip install --upgrade edgeroof)"
        )
    if version < min(MIGRATIONS, default=SCHEMA_VERSION):
        raise RunError(
            f"it has schema version {version}, too old to be converted: profile again, "
            "or give its trace.json.gz to edgeroof analyze"
        )


def migrate_summary(summary: Mapping[str, Any], version: int) -> Summary:
    """A summary of ``version`` as one of today's.

    Raises:
        RunError: the version cannot be read.
    """
    check_version(version)
    found = dict(summary)
    for step in range(version, SCHEMA_VERSION):
        found = MIGRATIONS[step].summary(found)
    return found | {"schema_version": SCHEMA_VERSION}


def migrate_tables(tables: Tables, version: int) -> Tables:
    """The tables of ``version`` as today's.

    Raises:
        RunError: the version cannot be read.
    """
    check_version(version)
    for step in range(version, SCHEMA_VERSION):
        tables = MIGRATIONS[step].tables(tables)
    return tables
