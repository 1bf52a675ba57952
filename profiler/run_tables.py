"""The tables of a run as Parquet files that say which version of the schema they follow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import RunError
from .migrations import Tables, migrate_tables
from .schema import KERNEL_COLUMNS, OP_COLUMNS, PHASE_COLUMNS, ROOFLINE_COLUMNS, SCHEMA_VERSION

if TYPE_CHECKING:
    import pandas as pd

#: The tables of a run and their columns.
TABLES = {"kernels": KERNEL_COLUMNS | ROOFLINE_COLUMNS, "ops": OP_COLUMNS, "phases": PHASE_COLUMNS}
#: Where a file's metadata has its schema version; those of version 1 have none, nor have
#: files that somebody wrote again, and both follow the summary's.
VERSION_KEY = b"edgeroof.schema_version"
_TIMES = ("_ms", "start_us")
_NUMBERS = ("int32", "int64", "float64")


def write_tables(folder: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    """Write each table as ``NAME.parquet``."""
    import pyarrow
    import pyarrow.parquet

    for name in TABLES:
        table = pyarrow.Table.from_pandas(tables[name], preserve_index=False)
        metadata = {**(table.schema.metadata or {}), VERSION_KEY: str(SCHEMA_VERSION).encode()}
        pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), folder / f"{name}.parquet")


def read_tables(folder: Path, version: int) -> Tables:
    """Read all tables of a folder as today's.

    Args:
        folder: the run folder.
        version: of its summary, which its tables share.

    Raises:
        RunError: a table is missing, damaged or of another version.
    """
    tables = migrate_tables({name: _read(folder / f"{name}.parquet", version) for name in TABLES}, version)
    for name, columns in TABLES.items():
        _check(tables[name], folder / f"{name}.parquet", columns)
        _check_times(tables[name], folder / f"{name}.parquet")
    return tables


def _read(path: Path, version: int) -> pd.DataFrame:
    import pandas as pd
    import pyarrow.parquet

    try:
        metadata = pyarrow.parquet.read_schema(path).metadata or {}
        found = int(metadata.get(VERSION_KEY, version))
        table = pd.read_parquet(path)
    except Exception as error:  # pyarrow raises its own family, OSError and ValueError for damaged files
        raise RunError(f"{path} is missing or damaged: {error}") from error
    if found != version:
        raise RunError(
            f"{path} has schema version {found}, the summary beside it {version}: they do not belong together"
        )
    return table


def _check(table: pd.DataFrame, path: Path, columns: Mapping[str, str]) -> None:
    from pandas.api.types import is_numeric_dtype

    for column, dtype in columns.items():
        if column not in table:
            raise RunError(f"{path} is damaged: it has no column {column!r}")
        if dtype in _NUMBERS and not is_numeric_dtype(table[column]):
            raise RunError(f"{path} is damaged: column {column!r} holds no numbers")
        if dtype not in (*_NUMBERS, "bool") and table[column].isna().any():
            raise RunError(f"{path} is damaged: column {column!r} has empty cells")


def _check_times(table: pd.DataFrame, path: Path) -> None:
    """Every kernel has a duration; times that were not taken may be missing, but none is infinite."""
    import numpy as np

    if "dur_us" in table and not (np.isfinite(table["dur_us"]) & (table["dur_us"] >= 0)).all():
        raise RunError(f"{path} is damaged: column 'dur_us' holds what is no duration")
    for column in table.columns:
        if str(column).endswith(_TIMES) and np.isinf(table[column]).any():
            raise RunError(f"{path} is damaged: column {column!r} holds infinite times")
