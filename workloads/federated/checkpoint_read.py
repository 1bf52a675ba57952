"""Reading a checkpoint: nothing in its files is believed before it has been checked."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import EdgeroofError, FederatedError
from .codecs import Compressor, parse_codec
from .config import FederatedConfig
from .engine import unpack_memory
from .update import Message, Update, all_finite, check_like, from_bytes

if TYPE_CHECKING:
    from torch import Tensor

VERSION = 1
_FILES = ("weights", "optimizer", "memory")


@dataclass(frozen=True)
class Checkpoint:
    """A federation after some round.

    Attributes:
        round_number: of the last finished round; 0 before the first.
        weights: of the server.
        optimizer: state of the server's optimizer.
        memory: of the engine's clients.
        history: one record per round, from round 0.
        data: :func:`data_mark` of the federation; ``None`` where its data is generated or nobody wrote it down.
        fallback: why this is not the last round that was kept; empty when it is. Not kept.
    """

    round_number: int
    weights: Update
    optimizer: Update
    memory: Message
    history: list[dict[str, Any]]
    data: str | None = None
    fallback: str = ""


class DamagedError(FederatedError):
    """A checkpoint cannot be read, or holds what no federation writes."""


def read(place: Path, config: FederatedConfig | None, like: Mapping[str, Tensor] | None) -> Checkpoint:
    """Read the checkpoint of one round.

    Args:
        place: its folder, ``round-0007``.
        config: see :func:`~.checkpoint.latest`.
        like: see there.

    Raises:
        DamagedError: it is damaged.
        FederatedError: it belongs to another federation, or was written by another version.
    """
    try:
        state = json.loads((place / "state.json").read_text(encoding="utf-8"), parse_constant=_refuse)
        if not isinstance(state, dict):
            raise ValueError("its state is no JSON object")
        if state.get("version") != VERSION:
            raise FederatedError(f"{place} has version {state.get('version')}, this edgeroof reads {VERSION}")
        before = FederatedConfig.from_json(state["config"])
        files = {name: from_bytes((place / f"{name}.safetensors").read_bytes()) for name in _FILES}
        found = Checkpoint(
            _round_number(state, place),
            dict(files["weights"].arrays),
            dict(files["optimizer"].arrays),
            files["memory"],
            state["history"],
            state.get("data"),
        )
        _check(found, before, like)
    except FederatedError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise DamagedError(f"the checkpoint {place} is damaged: {what}") from error
    except EdgeroofError as error:
        raise DamagedError(f"the checkpoint {place} is damaged: {error}") from error
    if config is not None:
        _check_same(before, config, found.data, place.parent)
    return found


def _refuse(constant: str) -> float:
    raise ValueError(f"its state holds {constant}")


def _round_number(state: Mapping[str, Any], place: Path) -> int:
    number = state["round"]
    if not _is_count(number) or place.name != f"round-{number:04d}":
        raise ValueError(f"it says that it is round {number!r}")
    return int(number)


def _check(found: Checkpoint, config: FederatedConfig, like: Mapping[str, Tensor] | None) -> None:
    if not (isinstance(found.history, list) and all(isinstance(record, dict) for record in found.history)):
        raise ValueError("its history is no list of records")
    if [record.get("round") for record in found.history] != list(range(found.round_number + 1)):
        raise ValueError(f"its history does not hold the rounds 0 to {found.round_number}, one record each")
    for record in found.history:
        _check_record(record)
    if not (found.data is None or isinstance(found.data, str)):
        raise ValueError(f"the mark of its data is {found.data!r}")
    check_like(found.weights, found.weights if like is None else like)
    _check_optimizer(found)
    _check_memory(found, config)


def _check_record(record: Mapping[str, Any]) -> None:
    """The entries that later rounds and reports rest on."""
    number = record["round"]
    for name in ("eval_loss", "rouge_l"):
        if not (_is_number(record[name]) or (name == "eval_loss" and record[name] is None)):
            raise ValueError(f"{name} of round {number} is {record[name]!r}")
    if not number:
        return
    if not (isinstance(record["aggregated"], bool) and isinstance(record["used"], list)):
        raise ValueError(f"the record of round {number} does not say who was used")
    _check_costs(record)
    for left in record["left_out"]:
        if not (_is_count(left["client"]) and isinstance(left["reason"], str)):
            raise ValueError(f"the record of round {number} does not say who was left out")
    for entry in record["used"]:
        counts = all(_is_count(entry[name]) for name in ("client", "examples", "tokens", "up_bytes"))
        times = all(_is_number(entry[name]) for name in ("compute_s", "codec_s"))
        if not (counts and times and (entry["loss"] is None or _is_number(entry["loss"]))):
            raise ValueError(f"a client's entry of round {number} holds values of other types")


def _check_costs(record: Mapping[str, Any]) -> None:
    """Sizes and times of a round, and who ran it where somebody wrote that down."""
    times = all(_is_number(record[name]) for name in ("train_s", "wall_s"))
    engine, nodes = record.get("engine", ""), record.get("nodes", 1)
    if not (_is_count(record["down_bytes"]) and times and isinstance(engine, str) and _is_count(nodes) and nodes):
        raise ValueError(f"the record of round {record['round']} holds values of other types")


def _check_optimizer(found: Checkpoint) -> None:
    for name, tensor in found.optimizer.items():
        of, _, what = name.rpartition(".")
        weight = found.weights.get(of)
        if weight is None or what not in ("average", "square") or tensor.shape != weight.shape:
            raise ValueError(f"{name} is no part of a server's optimizer of these weights")
        if not all_finite(tensor):
            raise ValueError(f"{name} of the server's optimizer holds values that are no finite numbers")


def _check_memory(found: Checkpoint, config: FederatedConfig) -> None:
    values = sum(tensor.numel() for tensor in found.weights.values())
    compressors = unpack_memory(found.memory, lambda: Compressor(parse_codec(config.codec)))
    for client, compressor in compressors.items():
        if client >= config.clients:
            raise ValueError(f"it holds the memory of client {client} of {config.clients}")
        pending = compressor.pending.residual if compressor.pending else None
        for residual in (compressor.residual, pending):
            if residual is not None and residual.numel() != values:
                raise ValueError(f"what client {client} left out has {residual.numel():,} values instead of {values:,}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def data_mark(config: FederatedConfig) -> str | None:
    """SHA-256 of the file that holds a federation's data; ``None`` where the data is generated.

    Raises:
        FederatedError: the file cannot be read.
    """
    if config.client.data is None:
        return None
    try:
        return hashlib.sha256(Path(config.client.data).read_bytes()).hexdigest()
    except OSError as error:
        raise FederatedError(f"the data in {config.client.data} cannot be read: {error.strerror or error}") from error


def _check_same(before: FederatedConfig, now: FederatedConfig, mark: str | None, folder: Path) -> None:
    """Only the number of rounds may differ, and where the same data lies."""
    before = dataclasses.replace(before, rounds=now.rounds)
    if mark is not None and now.client.data is not None:
        if data_mark(now) != mark:
            raise FederatedError(
                f"{folder} holds a federation with other data than {now.client.data} has now; name another folder with "
                "--out"
            )
        before = dataclasses.replace(before, client=dataclasses.replace(before.client, data=now.client.data))
    old, new = _flat(before.to_json()), _flat(now.to_json())
    changed = [name for name in new if old.get(name) != new[name]]
    if changed:
        told = ", ".join(f"{name} {old.get(name)!r} → {new[name]!r}" for name in changed[:3])
        raise FederatedError(f"{folder} holds another federation ({told}); name another folder with --out")


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
