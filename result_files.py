"""Results as JSON files in folders of their own: one careful way to read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .errors import RunError


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
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{file} is {none}, or damaged: {error}") from error
    if found != version:
        raise RunError(f"{file} has schema version {found}, this edgeroof reads {version}: {remedy}")
    return dict(result)
