"""A run folder as bytes, to travel from a SuperNode, and back into a folder that has been checked."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from ....errors import RunError

if TYPE_CHECKING:
    from ....profiler.run import Run

#: The files of a run that travel, with the most bytes each may have; traces and reports stay where they were made.
FILES = {
    "run.json": 8 << 20,
    "kernels.parquet": 64 << 20,
    "ops.parquet": 64 << 20,
    "phases.parquet": 1 << 20,
}
#: Cells of a table: a small file can hold a huge table.
MOST_CELLS = 50_000_000


def read_files(folder: Path) -> dict[str, bytes]:
    """The files of a run folder that travel, by name."""
    return {name: (folder / name).read_bytes() for name in FILES}


def write_checked(files: Mapping[str, bytes], folder: Path) -> Run:
    """Write files that came from elsewhere as a run folder, when they are a run.

    Args:
        files: by the names in :data:`FILES`.
        folder: replaced.

    Raises:
        RunError: a file is missing, too large or no part of a run; the folder is not there then.
    """
    from ....profiler.run import load

    shutil.rmtree(folder, ignore_errors=True)
    staging = folder.with_name(f".{folder.name}")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        staging.mkdir(parents=True)
        for name, most_bytes in FILES.items():
            data = files.get(name)
            if data is None or len(data) > most_bytes:
                raise RunError(f"{name} is missing or larger than {most_bytes:,} bytes")
            if name.endswith(".parquet"):
                _check_table(name, data)
            (staging / name).write_bytes(data)
        load(staging)
        staging.rename(folder)
        return load(folder)
    except OSError as error:
        raise RunError(f"a run could not be written to {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _check_table(name: str, data: bytes) -> None:
    """Read a table's outline, before anything reserves memory for its contents."""
    import pyarrow
    import pyarrow.parquet

    try:
        outline = pyarrow.parquet.ParquetFile(BytesIO(data)).metadata
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise RunError(f"{name} is no table: {error}") from error
    if outline.num_rows * outline.num_columns > MOST_CELLS:
        raise RunError(f"{name} announces {outline.num_rows:,} rows of {outline.num_columns} columns")
