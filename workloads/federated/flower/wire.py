"""What travels between a Flower server and its clients: one array of bytes and a record of plain values each way.

The bytes are those of :func:`~..update.to_bytes`. Flower's own form of arrays is not used: the bytes are checked by
:mod:`~..update` and nothing else reads them. Whatever comes from a client is checked here before it is believed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from ....errors import UpdateError
from ..config import FederatedConfig
from ..results import Answer, ClientFailure, ClientResult, check_loss

#: Marks our bytes among Flower's arrays.
FORM = "edgeroof.bytes"
_ABOUT = "about"


def bytes_array(data: bytes) -> Array:
    """Bytes as one of Flower's arrays, without a copy."""
    return Array("uint8", (len(data),), FORM, data)


def content(about: Mapping[str, Any], files: Mapping[str, Array]) -> RecordDict:
    """A message's content.

    Args:
        about: plain values by name.
        files: from :func:`bytes_array`, by name.
    """
    records: dict[str, Any] = {_ABOUT: ConfigRecord(dict(about))}
    records |= {name: ArrayRecord({"data": array}) for name, array in files.items()}
    return RecordDict(records)


def about(received: RecordDict) -> dict[str, Any]:
    """The plain values of a message; empty when it has none."""
    return dict(received.config_records.get(_ABOUT, {}))


def file_bytes(received: RecordDict, name: str, most_bytes: int) -> bytes:
    """The bytes of a file in a message.

    Raises:
        UpdateError: there is none, it is no array of bytes, or it is too large.
    """
    record = received.array_records.get(name)
    array = record.get("data") if record is not None else None
    if array is None:
        raise UpdateError(f"the message holds no {name}")
    if array.stype != FORM or array.dtype != "uint8" or tuple(array.shape) != (len(array.data),):
        raise UpdateError(f"{name} is no array of bytes: {array.dtype}{list(array.shape)}, {array.stype}")
    if len(array.data) > most_bytes:
        raise UpdateError(f"{name} has {len(array.data):,} bytes where at most {most_bytes:,} are expected")
    return array.data


def task(round_number: int, client: int, config: FederatedConfig, weights: Array, used_round: int = 0) -> RecordDict:
    """What a client is asked: train on your data, from these weights; and the last round that used its update."""
    values = {"round": round_number, "client": client, "used": used_round, "config": json.dumps(config.to_json())}
    return content(values, {"weights": weights})


def answer_content(round_number: int, answer: Answer) -> RecordDict:
    """A client's answer as a message's content."""
    values: dict[str, Any] = {"round": round_number, "client": answer.client}
    if isinstance(answer, ClientFailure):
        return content(values | {"failure": answer.reason}, {})
    for name in _NUMBERS:
        values[name] = _NUMBERS[name](getattr(answer, name))
    return content(values, {"update": bytes_array(answer.payload)})


_NUMBERS: dict[str, type] = {"examples": int, "tokens": int, "loss": float, "compute_s": float, "codec_s": float}


@dataclass(frozen=True)
class Limits:
    """What a client's answer can hold if it is honest; weights, selection and granularity rest on these figures.

    Attributes:
        bytes: of its update.
        examples: it can have trained on.
        tokens: of these.
        seconds: it can have computed for, coding included: the time that it had to answer.
    """

    bytes: int
    examples: int
    tokens: int
    seconds: float


def read_answer(received: RecordDict, round_number: int, client: int, limits: Limits) -> Answer:
    """Read and check a client's answer.

    Args:
        received: what it sent.
        round_number: that it was asked in.
        client: that was asked.
        limits: of what can be true.

    Returns:
        The answer; a failure that names what is wrong when it cannot be used.
    """
    values = about(received)
    if "failure" in values:
        return ClientFailure(client, str(values["failure"]))
    try:
        if (values.get("round"), values.get("client")) != (round_number, client):
            raise UpdateError(f"it is for round {values.get('round')}, client {values.get('client')}")
        numbers: dict[str, Any] = {name: _number(values, name, kind) for name, kind in _NUMBERS.items()}
        _check_claims(limits, **numbers)
        return ClientResult(client, file_bytes(received, "update", limits.bytes), **numbers)
    except UpdateError as error:
        return ClientFailure(client, f"sent an unusable update: {error}")


def _number(values: Mapping[str, Any], name: str, kind: type) -> Any:
    value = values.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise UpdateError(f"its {name} is {str(value)[:40]!r}")
    return value


def _check_claims(limits: Limits, *, examples: int, tokens: int, loss: float, compute_s: float, codec_s: float) -> None:
    if not 0 < examples <= limits.examples:
        raise UpdateError(f"it claims {examples:,} examples of {limits.examples:,}")
    if not 0 <= tokens <= limits.tokens:
        raise UpdateError(f"it claims {tokens:,} tokens of at most {limits.tokens:,}")
    check_loss(loss)
    for name, seconds in (("compute_s", compute_s), ("codec_s", codec_s)):
        if not 0 <= seconds <= limits.seconds:
            raise UpdateError(f"its {name} is {seconds:g} of at most {limits.seconds:g}")
