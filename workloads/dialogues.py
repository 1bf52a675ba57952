"""Reading SAMSum, or anything of its form, from a file: records with a ``dialogue`` and a ``summary``.

SAMSum's licence (CC BY-NC-ND) does not let us ship it. The formats are those it is passed around in: JSON (a list, or
one list per split), JSON lines, CSV and Parquet.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import WorkloadError

FIELDS = ("dialogue", "summary")


@dataclass(frozen=True)
class Dialogue:
    """One conversation, its utterances one a line, and what a person wrote about it."""

    dialogue: str
    summary: str


def read_dialogues(path: str | Path, split: str = "train") -> list[Dialogue]:
    """Read all dialogues of a file; the format goes by its suffix.

    Args:
        path: a ``.json``, ``.jsonl``, ``.csv`` or ``.parquet`` file.
        split: which part to take from a JSON file that holds several.

    Raises:
        WorkloadError: the file cannot be read as dialogues; the message says where it goes wrong.
    """
    path = Path(path)
    if path.is_dir():
        raise WorkloadError(f"{path} is a folder; give one of its files, such as {path / 'train.json'}")
    if not path.is_file():
        raise WorkloadError(f"no such data file: {path}")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise WorkloadError(f"cannot read {path.name}: data files end in {', '.join(_READERS)}")
    dialogues = [_dialogue(record, number, path) for number, record in enumerate(reader(path, split), start=1)]
    if not dialogues:
        raise WorkloadError(f"{path} holds no dialogues")
    return dialogues


def _dialogue(record: Any, number: int, path: Path) -> Dialogue:
    if not isinstance(record, dict):
        raise WorkloadError(f"{path}, record {number}: expected an object with {' and '.join(FIELDS)}")
    for field in FIELDS:
        if field not in record:
            found = ", ".join(sorted(map(str, record))[:8]) or "nothing"
            raise WorkloadError(f"{path}, record {number}: no field {field!r} (found {found})")
        if not isinstance(record[field], str):
            raise WorkloadError(f"{path}, record {number}: {field} is not text but {type(record[field]).__name__}")
    return Dialogue(record["dialogue"], record["summary"])


def _text(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise WorkloadError(f"{path} is not UTF-8 (byte {error.start}); convert it first") from error
    except OSError as error:
        raise WorkloadError(f"cannot read {path}: {error.strerror}") from error
    if not text.strip():
        raise WorkloadError(f"{path} is empty")
    return text


def _read_json(path: Path, split: str) -> Iterable[Any]:
    try:
        content = json.loads(_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise WorkloadError(f"{path} is not JSON: {error}") from error
    if isinstance(content, dict):
        splits = {name: records for name, records in content.items() if isinstance(records, list)}
        if split not in splits:
            found = ", ".join(splits) or "none"
            raise WorkloadError(f"{path} holds no list of dialogues and no split {split!r} (splits found: {found})")
        return splits[split]
    if not isinstance(content, list):
        raise WorkloadError(f"{path} holds a {type(content).__name__}, not a list of dialogues")
    return content


def _read_json_lines(path: Path, split: str) -> Iterable[Any]:
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except (json.JSONDecodeError, RecursionError) as error:
                raise WorkloadError(f"{path}, line {number} is not JSON: {error}") from error


def _read_csv(path: Path, split: str) -> Iterable[Any]:
    rows = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        yield from rows
    except csv.Error as error:
        raise WorkloadError(f"{path} is not CSV, after line {rows.line_num}: {error}") from error


def _read_parquet(path: Path, split: str) -> Iterable[Any]:
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        names = parquet.read_schema(path).names
        table = parquet.read_table(path, columns=[field for field in FIELDS if field in names])
    except (pyarrow.ArrowException, OSError) as error:
        raise WorkloadError(f"{path} is not a Parquet file: {error}") from error
    return table.to_pylist()


_READERS = {".json": _read_json, ".jsonl": _read_json_lines, ".csv": _read_csv, ".parquet": _read_parquet}
