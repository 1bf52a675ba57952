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
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from ...errors import FederatedError
from .checkpoint_read import VERSION, Checkpoint, DamagedError, data_mark, read
from .config import FederatedConfig
from .update import Message, to_bytes

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["KEPT", "Checkpoint", "data_mark", "latest", "write"]

#: Rounds that are kept.
KEPT = 2

_NAME = re.compile(r"round-(\d{4,12})")
_STAGED = re.compile(r"\.round-\d{4,12}-(?P<pid>\d{1,10})")


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
        "data": checkpoint.data,
    }
    try:
        _sweep(folder)
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


def _sweep(folder: Path) -> None:
    """Remove what processes were writing when they were killed; containers give the numbers of processes again."""
    for path in folder.glob(".round-*"):
        match = _STAGED.fullmatch(path.name)
        if match and (int(match["pid"]) == os.getpid() or not psutil.pid_exists(int(match["pid"]))):
            shutil.rmtree(path, ignore_errors=True)


def _write(path: Path, data: bytes) -> None:
    """Write and wait until it is on the disk, so that a rename never comes before its contents."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def latest(
    folder: Path, config: FederatedConfig | None = None, like: Mapping[str, Tensor] | None = None
) -> Checkpoint | None:
    """The last whole round in a folder; ``None`` when there is none.

    Where the last round is damaged and the one before is not, that one is returned, and its ``fallback`` says so.

    Args:
        folder: of the checkpoints.
        config: of the federation that they have to belong to; ``None`` takes those of any.
        like: the model's weights, whose names, shapes and types the checkpoint's must have; ``None`` takes any.

    Raises:
        FederatedError: it belongs to another federation, has more rounds than are asked for, or is damaged.
    """
    damaged: list[DamagedError] = []
    for place in reversed(_rounds(folder)):
        try:
            found = read(place, config, like)
        except DamagedError as error:
            damaged.append(error)
            continue
        if config is not None and found.round_number > config.rounds:
            raise FederatedError(
                f"{folder} holds {found.round_number} rounds already, more than the {config.rounds} asked for; ask for "
                "as many at least, look at them with edgeroof fl show, or name another folder with --out"
            )
        if damaged:
            fallback = f"{damaged[0]}; went on from round {found.round_number}"
            return dataclasses.replace(found, fallback=fallback)
        return found
    if damaged:
        raise FederatedError(f"{damaged[0]}; no round before it can be used, remove the folder")
    return None


def _rounds(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("round-*") if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.partition("-")[2]))
