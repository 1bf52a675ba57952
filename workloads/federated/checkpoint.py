"""Checkpoints of a federation: one folder per round, written beside its place and renamed when whole.

``state.json`` holds the configuration and the history, the other files typed arrays. A process that is killed at any
moment leaves the last whole round behind.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import FederatedError, UpdateError
from .config import FederatedConfig
from .update import Message, Update, from_bytes, to_bytes

VERSION = 1
#: Rounds that are kept.
KEPT = 2

_NAME = re.compile(r"round-(\d{4,})")


@dataclass(frozen=True)
class Checkpoint:
    """A federation after some round.

    Attributes:
        round_number: of the last finished round; 0 before the first.
        weights: of the server.
        optimizer: state of the server's optimizer.
        memory: of the engine's clients.
        history: one record per round.
    """

    round_number: int
    weights: Update
    optimizer: Update
    memory: Message
    history: list[dict[str, Any]]


def write(folder: Path, config: FederatedConfig, checkpoint: Checkpoint) -> None:
    """Write a checkpoint and drop all but the last :data:`KEPT`.

    Raises:
        FederatedError: it cannot be written.
    """
    place = folder / f"round-{checkpoint.round_number:04d}"
    staging = folder / f".{place.name}-{os.getpid()}"
    state = {
        "version": VERSION,
        "round": checkpoint.round_number,
        "config": config.to_json(),
        "history": checkpoint.history,
    }
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        _write(staging / "weights.safetensors", to_bytes(Message(checkpoint.weights)))
        _write(staging / "optimizer.safetensors", to_bytes(Message(checkpoint.optimizer)))
        _write(staging / "memory.safetensors", to_bytes(checkpoint.memory))
        _write(staging / "state.json", json.dumps(state, allow_nan=False).encode())
        shutil.rmtree(place, ignore_errors=True)
        staging.rename(place)
        for old in _rounds(folder)[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise FederatedError(f"round {checkpoint.round_number} could not be kept: {error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _write(path: Path, data: bytes) -> None:
    """Write and wait until it is on the disk, so that a rename never comes before its contents."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def latest(folder: Path, config: FederatedConfig | None = None) -> Checkpoint | None:
    """The last whole round in a folder; ``None`` when there is none.

    Args:
        folder: of the checkpoints.
        config: of the federation that they have to belong to; ``None`` takes those of any.

    Raises:
        FederatedError: it belongs to another federation, or is damaged.
    """
    found = _rounds(folder)
    if not found:
        return None
    try:
        state = json.loads((found[-1] / "state.json").read_text(encoding="utf-8"))
        if state["version"] != VERSION:
            raise FederatedError(f"{found[-1]} has version {state['version']}, this edgeroof reads {VERSION}")
        if config is not None:
            _check_same(FederatedConfig.from_json(state["config"]), config, folder)
        files = {name: from_bytes((found[-1] / f"{name}.safetensors").read_bytes()) for name in _FILES}
    except (OSError, ValueError, KeyError, TypeError, UpdateError) as error:
        raise FederatedError(f"the checkpoint {found[-1]} is damaged: {error}; remove that folder") from error
    weights, optimizer = dict(files["weights"].arrays), dict(files["optimizer"].arrays)
    return Checkpoint(int(state["round"]), weights, optimizer, files["memory"], list(state["history"]))


_FILES = ("weights", "optimizer", "memory")


def _rounds(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("round-*") if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.partition("-")[2]))


def _check_same(before: FederatedConfig, now: FederatedConfig, folder: Path) -> None:
    """Only the number of rounds may differ."""
    old, new = (_flat(config.to_json()) for config in (dataclasses.replace(before, rounds=now.rounds), now))
    changed = [name for name in new if old.get(name) != new[name]]
    if changed:
        told = ", ".join(f"{name} {old.get(name)!r} → {new[name]!r}" for name in changed[:3])
        raise FederatedError(f"{folder} holds another federation ({told}); name another folder with --out")


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
