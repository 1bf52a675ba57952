"""Results in folders of their own: one careful way to read them and one to write them.

A reader never meets half a result. A folder is written beside its place and renamed when whole; a file in a folder that
holds more, such as the checkpoints of a federation, is written beside its place and renamed likewise.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import RunError

REPORT_FILE = "report.html"


def read_result(
    path: str | Path, name: str, *, kind: str, version: int, what: str, none: str, remedy: str = "run it again"
) -> dict[str, Any]:
    """Read a result from its folder or its file.

    Args:
        path: the folder, or the file itself.
        name: of the file in the folder.
        kind: its ``kind``.
        version: the ``schema_version`` that is read.
        what: what is read, for messages: ``the A/B result``.
        none: what another file is not: ``no A/B result``.
        remedy: what helps against another version.

    Raises:
        RunError: there is none, it is damaged, or of another version.
    """
    file = Path(path) / name if Path(path).is_dir() else Path(path)
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
        found = result["schema_version"] if result["kind"] == kind else None
    except OSError as error:
        raise RunError(f"cannot read {what} {file}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(f"{file} is {none}, or damaged: {error}") from error
    if found != version:
        raise RunError(f"{file} has schema version {found}, this edgeroof reads {version}: {remedy}")
    return dict(result)


def write_result(result: Mapping[str, Any], path: str | Path, name: str, report: str, *, what: str) -> Path:
    """Write a result and its report to a folder of their own.

    Args:
        result: JSON-ready.
        path: the folder; an earlier result there is replaced, anything else is refused.
        name: of the result's file.
        report: the HTML page.
        what: what such a folder is, for messages: ``a folder of an A/B result``.

    Returns:
        The folder.

    Raises:
        RunError: the place is taken by something else, or cannot be written.
    """
    with staged_folder(path, name, what=what) as (staging, folder):
        (staging / name).write_text(_as_json(result), encoding="utf-8")
        (staging / REPORT_FILE).write_text(report, encoding="utf-8")
    return folder


def write_result_beside(result: Mapping[str, Any], folder: Path, name: str, report: str) -> None:
    """Write a result and its report into a folder that holds more; each file is replaced when whole.

    Raises:
        RunError: they cannot be written.
    """
    write_json(folder / name, result)
    with _explained(folder):
        _replace(folder / REPORT_FILE, report)


def write_json(file: Path, data: Mapping[str, Any]) -> None:
    """Write a file of a folder that holds more; it is replaced when whole.

    Raises:
        RunError: it cannot be written; what was there before still is.
    """
    with _explained(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        _replace(file, _as_json(data))


def _as_json(data: Mapping[str, Any]) -> str:
    """A line of JSON; a number that JSON does not have is a mistake of who made the data."""
    return json.dumps(data, allow_nan=False) + "\n"


def _replace(file: Path, text: str) -> None:
    staged = file.with_name(f".{file.name}")
    try:
        staged.write_text(text, encoding="utf-8")
        staged.replace(file)
    finally:
        staged.unlink(missing_ok=True)


@contextlib.contextmanager
def staged_folder(path: str | Path, mark: str, *, what: str) -> Iterator[tuple[Path, Path]]:
    """A folder to fill, which takes its place when the block ends without an error.

    Args:
        path: its place; a link stays a link to the new folder.
        mark: file by which a folder of this kind is known; one that is there is replaced, anything else is refused.
        what: what such a folder is, for messages: ``a run folder``.

    Yields:
        The folder to fill and the place that it will take.

    Raises:
        RunError: the place is taken by something else, or cannot be written, for instance because the disk is full.
    """
    place = Path(os.path.realpath(path))
    if place.exists() and not place.is_dir():
        raise RunError(f"{place} is a file; name a folder with --out")
    if place.is_dir() and any(place.iterdir()) and not (place / mark).is_file():
        raise RunError(f"{place} is not empty and not {what}; name another folder with --out")
    with _explained(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
        try:
            yield staging, place
            staging.chmod(0o755)
            _put_in_place(staging, place)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


@contextlib.contextmanager
def _explained(place: Path) -> Iterator[None]:
    """Turns what can go wrong while something is written to ``place`` into an error that names it."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{place} could not be written: {error.strerror or error}") from error


def _put_in_place(staging: Path, place: Path) -> None:
    """Swap the finished folder in; an older one steps aside first, so that one of the two is always whole."""
    retired = place.with_name(f".{place.name}-retired")
    shutil.rmtree(retired, ignore_errors=True)
    if place.exists():
        place.rename(retired)
    staging.rename(place)
    shutil.rmtree(retired, ignore_errors=True)
