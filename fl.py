"""Federations put together: engine, rounds, links, and the folder that results go to.

result = edgeroof.fl.run(edgeroof.fl.preset("tiny", rounds=5), out="runs/fl-tiny")
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from .errors import RunError, UsageError

if TYPE_CHECKING:
    from .workloads.federated.config import FederatedConfig
    from .workloads.federated.engine import Engine
    from .workloads.federated.rounds import Progress
    from .workloads.federated.training import ClientTrainer

RESULT_FILE = "federated.json"
REPORT_FILE = "report.html"
CHECKPOINTS = "checkpoints"
SCHEMA_VERSION = 1
ENGINES = ("local", "flower")
#: Links that a result is judged over unless others are named.
DEFAULT_LINKS = ("10g", "1g", "wifi", "5g", "lte")


def preset(model: str = "small", *, device: str = "cpu", **changes: Any) -> FederatedConfig:
    """The paper's federation, or for ``model="tiny"`` one that learns within minutes on a CPU.

    Args:
        model: as in :class:`~edgeroof.workloads.client_config.ClientConfig`.
        device: where clients train: ``cpu`` or ``cuda``.
        **changes: fields of :class:`~.workloads.federated.config.FederatedConfig`; ``client`` may hold fields of the
            client's step. What is ``None`` keeps its default.

    Raises:
        UsageError: a value makes no sense.
    """
    from .workloads.client_config import ClientConfig
    from .workloads.federated.config import TINY, TINY_DIALOGUES, FederatedConfig

    own = {name: value for name, value in (changes.pop("client", None) or {}).items() if value is not None}
    given = {name: value for name, value in changes.items() if value is not None}
    tiny = model == "tiny"
    client = ClientConfig(model=model, device=device, **{"padding": "dynamic", **(TINY if tiny else {}), **own})
    if tiny and client.data is None:
        given.setdefault("dialogues", TINY_DIALOGUES)
    return FederatedConfig(client=client, **given)


def run(
    config: FederatedConfig,
    *,
    engine: str = "local",
    out: str | Path | None = None,
    links: Sequence[str] = DEFAULT_LINKS,
    on_progress: Progress = lambda what, done, total: None,
    command: str = "",
) -> dict[str, Any]:
    """Run a federation, or go on with the one in ``out``.

    Args:
        config: what it does.
        engine: ``local``, in this process, or ``flower``.
        out: folder for checkpoints, result and report; without it nothing is kept.
        links: names of links, or links of one's own, that the rounds are judged over.
        on_progress: told what is being done.
        command: how to make the result again.

    Returns:
        The JSON-ready result.

    Raises:
        EdgeroofError: what went wrong and what to do.
    """
    from .profiler.environment import describe_environment, describe_torch
    from .workloads.federated.links import parse_link
    from .workloads.federated.rounds import Federation
    from .workloads.federated.training import ClientTrainer

    chosen = [parse_link(name) for name in links]
    folder = Path(out) if out is not None else None
    on_progress("building the model", 0, 1)
    trainer = ClientTrainer(config)
    reached = _engine(engine, trainer)
    try:
        federation = Federation.start(trainer, reached, folder / CHECKPOINTS if folder else None)
        history = federation.run(on_progress)
    finally:
        reached.close()
    result = {
        "schema_version": SCHEMA_VERSION,
        "kind": "federated",
        "engine": engine,
        "config": config.to_json(),
        "data": trainer.data.what,
        "client_examples": trainer.data.sizes(),
        "weights": {"values": sum(t.numel() for t in federation.weights.values()), "tensors": len(federation.weights)},
        "history": history,
        "links": [dataclasses.asdict(link) for link in chosen],
        "granularity": granularity(history, chosen),
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        "environment": describe_environment() | describe_torch(),
    }
    if folder:
        save(result, folder)
    return result


def granularity(history: Sequence[Mapping[str, Any]], links: Sequence[Any]) -> list[dict[str, Any]]:
    """G over each link: computing and coding measured on the clients (medians), transfers by the links' model."""
    from .workloads.federated.granularity import doubling_speedup, round_times

    used = [entry for record in history for entry in record.get("used", ())]
    if not used:
        return []
    compute_s, codec_s, up_bytes = (
        median(entry[name] for entry in used) for name in ("compute_s", "codec_s", "up_bytes")
    )
    down_bytes = median(record["down_bytes"] for record in history if "down_bytes" in record)
    found = []
    for link in links:
        times = round_times(compute_s, down_bytes, up_bytes, link, codec_s=codec_s)
        found.append(
            {
                "link": link.name,
                **dataclasses.asdict(times),
                "communication_s": times.communication_s,
                "granularity": times.granularity,
                "doubling_speedup": doubling_speedup(times.granularity),
            }
        )
    return found


def save(result: Mapping[str, Any], folder: Path) -> None:
    """Write ``federated.json`` and ``report.html`` beside the checkpoints; each is replaced when whole.

    Raises:
        RunError: they cannot be written.
    """
    from .reports import document_html
    from .reports.federated import federated_document

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in (
            (RESULT_FILE, json.dumps(result, allow_nan=False) + "\n"),
            (REPORT_FILE, document_html.render(federated_document(result))),
        ):
            staged = folder / f".{name}"
            staged.write_text(text, encoding="utf-8")
            staged.replace(folder / name)
    except OSError as error:
        raise RunError(f"the result could not be written to {folder}: {error.strerror or error}") from error


def load(path: str | Path) -> dict[str, Any]:
    """Read a result from its folder or its ``federated.json``.

    Raises:
        RunError: there is none, it is damaged, or of another version.
    """
    file = Path(path) / RESULT_FILE if Path(path).is_dir() else Path(path)
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
        version = result["schema_version"] if result["kind"] == "federated" else None
    except OSError as error:
        raise RunError(f"cannot read the result {file}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{file} is no result of a federation, or damaged: {error}") from error
    if version != SCHEMA_VERSION:
        raise RunError(f"{file} has schema version {version}, this edgeroof reads {SCHEMA_VERSION}: run it again")
    return dict(result)


def _engine(name: str, trainer: ClientTrainer) -> Engine:
    if name == "local":
        from .workloads.federated.engine import LocalEngine

        return LocalEngine(trainer)
    raise UsageError(f"unknown engine {name!r}; use {', '.join(ENGINES)}")


__all__ = ["ENGINES", "granularity", "load", "preset", "run", "save"]
