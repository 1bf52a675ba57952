"""Federations put together: engine, rounds, links, and the folder that results go to.

result = edgeroof.fl.run(edgeroof.fl.preset("tiny", rounds=5), out="runs/fl-tiny")
"""

from __future__ import annotations

import dataclasses
import datetime
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from .errors import FederatedError, UpdateError, UsageError
from .result_files import read_result, write_result_beside

if TYPE_CHECKING:
    from torch import Tensor

    from .workloads.federated.checkpoint import Checkpoint
    from .workloads.federated.config import FederatedConfig
    from .workloads.federated.flower.deployment import FlowerOptions
    from .workloads.federated.granularity_cases import Wanted
    from .workloads.federated.granularity_table import Case
    from .workloads.federated.rounds import Progress
    from .workloads.federated.training import ClientTrainer

RESULT_FILE = "federated.json"
FLEET_FILE = "fleet.json"
GRANULARITY_FILE = "granularity.json"
CHECKPOINTS = "checkpoints"
SCHEMA_VERSION = 1
ENGINES = ("local", "flower")
#: Links that a result is judged over unless others are named.
DEFAULT_LINKS = ("10g", "1g", "wifi", "5g", "lte")
#: Codecs that granularity is compared for unless others are named.
DEFAULT_CODECS = ("none", "fp16", "int8", "int4", "topk:0.01+fp16", "lowrank:4")


def preset(model: str = "small", *, device: str = "cpu", **changes: Any) -> FederatedConfig:
    """The paper's federation, or for ``model="tiny"`` one that learns within minutes on a CPU.

    Args:
        model: as in :class:`~edgeroof.workloads.client_config.ClientConfig`.
        device: where clients train: ``cpu`` or ``cuda``.
        **changes: fields of :class:`~.workloads.federated.config.FederatedConfig`; ``client`` may hold fields of the
            client's step. What is ``None`` keeps its default; a ``seed`` is that of the initial weights as well.

    Raises:
        UsageError: a value makes no sense.
    """
    from .workloads.client_config import ClientConfig
    from .workloads.federated.config import TINY, TINY_DIALOGUES, FederatedConfig

    own = {name: value for name, value in (changes.pop("client", None) or {}).items() if value is not None}
    given = {name: value for name, value in changes.items() if value is not None}
    if "seed" in given:
        own.setdefault("seed", given["seed"])
    tiny = model == "tiny"
    client = ClientConfig(model=model, device=device, **{"padding": "dynamic", **(TINY if tiny else {}), **own})
    if tiny and client.data is None:
        given.setdefault("dialogues", TINY_DIALOGUES)
    return FederatedConfig(client=client, **given)


def run(
    config: FederatedConfig,
    *,
    engine: str = "local",
    flower: FlowerOptions | None = None,
    out: str | Path | None = None,
    links: Sequence[str] = DEFAULT_LINKS,
    on_progress: Progress = lambda what, done, total: None,
    command: str = "",
) -> dict[str, Any]:
    """Run a federation, or go on with the one in ``out``.

    Args:
        config: what it does.
        engine: ``local``, in this process, or ``flower``.
        flower: how the flower engine reaches its clients; by default through processes on this machine.
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
    from .workloads.federated.training import ClientTrainer

    if engine not in ENGINES:
        raise UsageError(f"unknown engine {engine!r}; use {', '.join(ENGINES)}")
    if engine == "flower":
        from .workloads.federated.flower.deployment import check_flower

        check_flower()
    chosen = [parse_link(name) for name in _named(links, "link")]
    folder = Path(out) if out is not None else None
    on_progress("building the model", 0, 1)
    trainer = ClientTrainer(config)
    checkpoints = folder / CHECKPOINTS if folder else None
    if engine == "flower":
        state = _flower(config, checkpoints, flower, on_progress)
    else:
        state = _local(trainer, checkpoints, on_progress)
    history = state.history
    result = {
        "schema_version": SCHEMA_VERSION,
        "kind": "federated",
        "engine": engine,
        "config": config.to_json(),
        "data": trainer.data.what,
        "client_examples": trainer.data.sizes(),
        "weights": {"values": sum(t.numel() for t in state.weights.values()), "tensors": len(state.weights)},
        "history": history,
        "engine_s": _engine_seconds(history, engine),
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

    report = document_html.render(federated_document(result))
    write_result_beside(result, folder, RESULT_FILE, report)


def load(path: str | Path) -> dict[str, Any]:
    """Read a result from its folder or its ``federated.json``.

    Raises:
        RunError: there is none, it is damaged, or of another version.
    """
    return read_result(
        path, RESULT_FILE, kind="federated", version=SCHEMA_VERSION, what="the result", none="no result of a federation"
    )


def difference(a: str | Path, b: str | Path) -> dict[str, Any]:
    """How far the server's weights of two federations are apart, after the last round of each.

    Args:
        a: folder of a federation, see :func:`run`.
        b: of the other.

    Returns:
        JSON-ready: ``rounds`` of both, ``values``, ``largest`` absolute difference and the ``tensor`` that has it,
        ``relative``, the norm of the difference over that of ``a``, ``equal``, whether every bit is, and ``notes`` of
        damaged rounds in whose place the ones before were taken.

    Raises:
        FederatedError: there is no checkpoint, it is damaged, or the models differ.
    """
    from .workloads.federated.update import check_like

    one, other = _last_round(a), _last_round(b)
    try:
        check_like(other.weights, one.weights)
    except UpdateError as error:
        raise FederatedError(f"{a} and {b} are federations of different models: {error}") from error
    apart = {name: (other.weights[name] - tensor).double() for name, tensor in one.weights.items()}
    tensor = max(apart, key=lambda name: _largest(apart[name]))
    size = math.sqrt(sum(float(weight.double().square().sum()) for weight in one.weights.values()))
    return {
        "rounds": [one.round_number, other.round_number],
        "values": sum(weight.numel() for weight in one.weights.values()),
        "largest": _largest(apart[tensor]),
        "tensor": tensor,
        "relative": math.sqrt(sum(float(gap.square().sum()) for gap in apart.values())) / (size or 1.0),
        "equal": not any(bool(gap.any()) for gap in apart.values()),
        "notes": [found.fallback for found in (one, other) if found.fallback],
    }


def _last_round(folder: str | Path) -> Checkpoint:
    from .workloads.federated import checkpoint

    found = checkpoint.latest(Path(folder) / CHECKPOINTS)
    if found is None:
        raise FederatedError(f"{folder} holds no checkpoint of a federation; make one with edgeroof fl run --out")
    return found


def _largest(gap: Tensor) -> float:
    return float(gap.abs().max()) if gap.numel() else 0.0


def _local(trainer: ClientTrainer, checkpoints: Path | None, on_progress: Progress) -> Checkpoint:
    from .workloads.federated.engine import LocalEngine
    from .workloads.federated.rounds import Federation

    engine = LocalEngine(trainer)
    try:
        federation = Federation.start(trainer, engine, checkpoints)
        federation.run(on_progress)
    finally:
        engine.close()
    return federation.state


def _flower(
    config: FederatedConfig, checkpoints: Path | None, options: FlowerOptions | None, on_progress: Progress
) -> Checkpoint:
    from .workloads.federated.flower.deployment import FlowerOptions
    from .workloads.federated.flower.jobs import run_rounds

    options = options or FlowerOptions()
    with tempfile.TemporaryDirectory(prefix="edgeroof-fl-") as scratch:
        return run_rounds(config, checkpoints or Path(scratch), options, on_progress)


def engine_seconds(record: Mapping[str, Any]) -> float | None:
    """What the engine took of a round, beside its clients' computing: starting processes, transport, waiting.

    Args:
        record: of a round; each of its ``nodes`` served its clients one after the other, all nodes at the same time.

    Returns:
        Seconds; ``None`` where somebody was left out, whose computing nobody knows, and for records without times or
        without the number of nodes.
    """
    nodes = record.get("nodes")
    if "train_s" not in record or not nodes or record["left_out"] or not record["used"]:
        return None
    busy = [0.0] * nodes
    for entry in record["used"]:
        busy[entry["client"] % nodes] += entry["compute_s"] + entry["codec_s"]
    return float(record["train_s"] - max(busy))


def _engine_seconds(history: Sequence[Mapping[str, Any]], engine: str) -> list[float]:
    """What an engine took of each round that it ran; a federation may have gone on with another."""
    found = [engine_seconds(record) for record in history if record.get("engine") == engine]
    return [seconds for seconds in found if seconds is not None]


def profile_fleet(
    *,
    nodes: int = 3,
    steps: int = 3,
    flower: FlowerOptions | None = None,
    out: str | Path,
    on_progress: Progress = lambda what, done, total: None,
    command: str = "",
    **client: Any,
) -> dict[str, Any]:
    """Profile the client step on every SuperNode and compare them.

    Args:
        nodes: SuperNodes to start on this machine, or to wait for.
        steps: timed steps on each.
        flower: how Flower is used; by default through processes on this machine, which then profile one by one.
        out: folder for the runs, the result and the report.
        on_progress: told what is being done.
        command: how to make the result again.
        **client: fields of :class:`~.workloads.client_config.ClientConfig` but the device, which each node has its own.

    Returns:
        The JSON-ready result.

    Raises:
        EdgeroofError: what went wrong and what to do.
    """
    from .profiler.environment import describe_environment
    from .reports import document_html
    from .reports.fleet import fleet_document
    from .workloads.client_config import ClientConfig
    from .workloads.federated.flower.deployment import FlowerOptions
    from .workloads.federated.flower.jobs import compare_nodes, run_profiles

    ClientConfig(device="cuda", **client)  # refuses what makes no sense anywhere, before nodes are started
    options, folder = flower or FlowerOptions(), Path(out)
    one_by_one = options.superlink is None
    task = {"client": client, "capture": {"steps": steps}, "one_by_one": one_by_one}
    result = {
        "schema_version": SCHEMA_VERSION,
        "kind": "fleet",
        "client": {"model": "small", **client},
        "one_by_one": one_by_one,
        **compare_nodes(folder, run_profiles(task, nodes, folder, options, on_progress)),
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        "environment": describe_environment(),
    }
    report = document_html.render(fleet_document(result))
    write_result_beside(result, folder, FLEET_FILE, report)
    return result


def compare_links(
    wanted: Wanted,
    *,
    links: Sequence[str] = DEFAULT_LINKS,
    codecs: Sequence[str] = DEFAULT_CODECS,
    down_codec: str | None = None,
    radio_w: float | None = None,
    emulated: bool = False,
    cases: Sequence[Case] | None = None,
    out: str | Path | None = None,
    on_progress: Progress = lambda what, done, total: None,
    command: str = "",
) -> dict[str, Any]:
    """Granularity of a round per model, device, codec and link, without a federation being run.

    Args:
        wanted: clients to compare.
        links: names of links, or links of one's own.
        codecs: names of codecs of updates.
        down_codec: codec of the server's weights; by default they travel in fp32, as in :func:`run`.
        radio_w: power while a link is busy, in W, in place of :mod:`~.workloads.federated.radios`.
        emulated: also send messages of these sizes over emulated links; needs root.
        cases: clients whose times are known already, in place of those that ``wanted`` leads to.
        out: folder for result and report; without it nothing is kept.
        on_progress: told what is being done.
        command: how to make the result again.

    Returns:
        The JSON-ready result.

    Raises:
        EdgeroofError: what went wrong and what to do.
    """
    from .profiler.detect import cpu_device
    from .profiler.environment import describe_environment, describe_torch
    from .workloads.federated.codecs import parse_codec
    from .workloads.federated.emulated_table import emulate_all
    from .workloads.federated.emulation import check_allowed
    from .workloads.federated.granularity_cases import build_cases
    from .workloads.federated.granularity_table import measure_traffic, table
    from .workloads.federated.links import parse_link
    from .workloads.federated.radios import describe_radios

    chosen = [parse_link(name) for name in _named(links, "link")]
    coders = [parse_codec(name) for name in _named(codecs, "codec")]
    if len({codec.name for codec in coders}) < len(coders):
        raise UsageError(f"{', '.join(codecs)} names a codec twice; name each once")
    radios = describe_radios(chosen, radio_w)
    down = parse_codec(down_codec) if down_codec else None
    if emulated:
        check_allowed()
    on_progress("time of a step", 0, 1)
    cases = build_cases(wanted) if cases is None else cases
    variants = list(dict.fromkeys((case.model, case.lora_rank) for case in cases))
    traffic = measure_traffic(variants, coders, down=down, on_progress=on_progress)
    result = {
        "schema_version": SCHEMA_VERSION,
        "kind": "granularity",
        "wanted": dataclasses.asdict(wanted),
        "cases": [case.describe() for case in cases],
        "traffic": [entry.describe() for entry in traffic],
        "codecs": {codec.name: codec.title for codec in coders},
        "down_codec": down.name if down else "none",
        "machine": cpu_device().title,
        "links": [dataclasses.asdict(link) for link in chosen],
        "radios": radios,
        "rows": table(cases, traffic, chosen, radio_w=radio_w),
        "emulation": emulate_all(traffic, chosen, on_progress) if emulated else None,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        "environment": describe_environment() | describe_torch(),
    }
    if out is not None:
        _save_granularity(result, Path(out))
    return result


def _named(names: Sequence[str], what: str) -> Sequence[str]:
    if not names:
        raise UsageError(f"name at least one {what}")
    return names


def _save_granularity(result: Mapping[str, Any], folder: Path) -> None:
    from .reports import document_html
    from .reports.granularity import granularity_document

    report = document_html.render(granularity_document(result))
    write_result_beside(result, folder, GRANULARITY_FILE, report)


__all__ = [
    "ENGINES",
    "compare_links",
    "difference",
    "engine_seconds",
    "granularity",
    "load",
    "preset",
    "profile_fleet",
    "run",
    "save",
]
