"""The compression study: what a codec does to granularity, and to learning.

Every codec runs whole federations, in this process, with the same seeds, data, initial weights and clients; another
seed changes all of these. Sizes are those that travelled. Computing is measured, once for all codecs: seconds per
dialogue, median over all federations of the study, since a codec changes nothing about a client's steps. Coding is
measured per codec, transfers come from the links' model, and energy is these times with powers that are measured or
assumed.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ...errors import UsageError
from .codecs import parse_codec
from .config import FederatedConfig
from .granularity import RoundTimes, round_times
from .granularity_cases import MOST_COMPUTE_W
from .links import Link, parse_link
from .radios import radio_of
from .study import (
    SEEDED,
    Progress,
    Record,
    check_plan,
    keep,
    known_interval,
    last_quality,
    paired,
    rounds_to,
    target_loss,
)

#: Power of a client while it computes, where no meter is found: a small board.
ASSUMED_W = 15.0
BASELINE = "none"

_LORA = re.compile(r"lora:(?P<rank>\d{1,6})(?:\+(?P<codec>.+))?")


@dataclass(frozen=True)
class CompressionStudy:
    """What to compare.

    Attributes:
        config: of every federation; codec, LoRA rank and seed are the study's.
        codecs: as :func:`~.codecs.parse_codec` knows them, or ``lora:RANK`` with or without ``+CODEC``; the first is
            what the others are compared with.
        links: names or links of one's own.
        seeds: federations per codec.
        target: held-out loss to reach; by default 90 % of what the first codec gained on each seed.
        compute_w: power while computing, in W, where nothing is metered.

    Raises:
        UsageError: on construction, when something is unknown, missing or makes no sense.
    """

    config: FederatedConfig
    codecs: tuple[str, ...]
    links: tuple[str, ...]
    seeds: int = 3
    target: float | None = None
    compute_w: float = ASSUMED_W

    def __post_init__(self) -> None:
        check_plan(self.seeds, self.target)
        self._check_codecs()
        if not self.links:
            raise UsageError("name at least one link")
        if not 0 < self.compute_w <= MOST_COMPUTE_W:
            raise UsageError(f"compute_w is {self.compute_w}; it must be above 0, at most {MOST_COMPUTE_W:g}")
        for link in self.links:
            parse_link(link)
        self.config_of(self.codecs[0], self.seeds - 1)

    def _check_codecs(self) -> None:
        """Each is known, and no two are the same under two names."""
        if len(self.codecs) < 2:
            raise UsageError("a comparison needs two codecs or more, each named once")
        names: dict[tuple[int | None, str], str] = {}
        for codec in self.codecs:
            config = self.config_of(codec, 0)
            what = config.client.lora_rank, parse_codec(config.codec).name
            if what in names:
                raise UsageError(f"{names[what]} and {codec} are the same codec; a comparison needs each named once")
            names[what] = codec

    def config_of(self, codec: str, seed: int) -> FederatedConfig:
        """The federation of one codec and seed."""
        rank, name = _split_lora(codec)
        parse_codec(name)
        client = dataclasses.replace(self.config.client, lora_rank=rank or self.config.client.lora_rank)
        config = dataclasses.replace(self.config, client=client, codec=name)
        return config.with_seed(self.config.seed + seed)


def _split_lora(codec: str) -> tuple[int | None, str]:
    match = _LORA.fullmatch(codec.lower())
    if match is None:
        return None, codec
    if not int(match["rank"]):
        raise UsageError(f"{codec} makes no sense: adapters have a rank of at least 1, as in lora:4")
    return int(match["rank"]), match["codec"] or BASELINE


def run_compression(
    study: CompressionStudy, folder: Path | None = None, on_progress: Progress = lambda what, done, total: None
) -> Record:
    """Run the federations that are not kept yet, and compare them.

    Args:
        study: what to compare.
        folder: finished federations are kept here, and found again.
        on_progress: told what is being done.

    Returns:
        The JSON-ready comparison.

    Raises:
        EdgeroofError: a federation failed.
    """
    total = len(study.codecs) * study.seeds
    records: dict[str, list[Record]] = {codec: [] for codec in study.codecs}
    for place, (seed, codec) in enumerate((s, c) for s in range(study.seeds) for c in study.codecs):
        on_progress(f"{codec}, seed {seed}", place, total)
        config = study.config_of(codec, seed)
        record = keep(folder, f"{codec}-{seed}", config.to_json(), lambda config=config: _run(config))  # type: ignore[misc]
        records[codec].append(record)
    on_progress("done", total, total)
    return compare_codecs(study, records)


def _run(config: FederatedConfig) -> Record:
    """One federation, and the power of this machine meanwhile where it can be metered."""
    from ...profiler.power import find_meter
    from .engine import LocalEngine
    from .rounds import Federation
    from .training import ClientTrainer

    trainer = ClientTrainer(config)
    meter = find_meter("cuda" if config.client.device.startswith("cuda") else "cpu")
    with meter:
        history = Federation.start(trainer, LocalEngine(trainer)).run()
    values = sum(tensor.numel() for tensor in trainer.weights().values())
    power = meter.reading and {"mean_w": meter.reading.mean_w, "domain": meter.domain}
    return {"history": history, "values": values, "power": power, "no_power": meter.reason, "data": trainer.data.what}


def compare_codecs(study: CompressionStudy, records: Mapping[str, Sequence[Record]]) -> Record:
    """The comparison of finished federations.

    Args:
        study: what was compared.
        records: per codec, one for each seed, as :func:`run_compression` keeps them.
    """
    baseline = records[study.codecs[0]]
    targets = [target_loss(record["history"], study.target) for record in baseline]
    power, source = _power(study, [record for of_codec in records.values() for record in of_codec])
    seconds = {rank: _example_s(study, records, rank) for rank in {_split_lora(codec)[0] for codec in study.codecs}}
    codecs = [
        _codec(study, codec, records[codec], targets, seconds[_split_lora(codec)[0]], power) for codec in study.codecs
    ]
    for codec in codecs:
        _compare_with(codec, codecs[0])
    return {
        "config": study.config.to_json(),
        "data": baseline[0]["data"],
        "seeds": [study.config.seed + seed for seed in range(study.seeds)],
        "seeded": SEEDED,
        "target_given": study.target,
        "targets": targets,
        "compute_w": power,
        "compute_w_source": source,
        "links": [{**dataclasses.asdict(link), **_radio(link)} for link in map(parse_link, study.links)],
        "codecs": codecs,
    }


def _power(study: CompressionStudy, records: Sequence[Record]) -> tuple[float, str]:
    """Watts of a client that computes, and where they come from; metered only when every federation was."""
    metered = [record["power"] for record in records if record["power"]]
    if metered and len(metered) == len(records):
        return median(power["mean_w"] for power in metered), f"measured: {metered[0]['domain']}, while federations ran"
    return study.compute_w, f"assumed; no meter: {records[0]['no_power'] or 'some federations have no reading'}"


def _radio(link: Link) -> Record:
    radio = radio_of(link)
    return {"radio_w": radio.watts if radio else None, "radio_source": radio.source if radio else "unknown"}


def _used(records: Sequence[Record]) -> list[Record]:
    return [entry for record in records for r in record["history"] for entry in r.get("used", ())]


def _example_s(study: CompressionStudy, records: Mapping[str, Sequence[Record]], rank: int | None) -> float:
    """Computing per dialogue: median over the clients of all federations that train the same weights."""
    same = [record for codec in study.codecs if _split_lora(codec)[0] == rank for record in records[codec]]
    return median(entry["compute_s"] / entry["examples"] for entry in _used(same))


def _codec(
    study: CompressionStudy,
    codec: str,
    records: Sequence[Record],
    targets: Sequence[float],
    example_s: float,
    power: float,
) -> Record:
    used = _used(records)
    codec_s, up_bytes = (median(entry[name] for entry in used) for name in ("codec_s", "up_bytes"))
    reached = [rounds_to(record["history"], target) for record, target in zip(records, targets)]
    sent = [[_bytes(r) for r in record["history"]] for record in records]
    quality = [last_quality(record["history"]) for record in records]
    return {
        "codec": codec,
        "title": parse_codec(_split_lora(codec)[1]).title,
        "values": records[0]["values"],
        "up_bytes": up_bytes,
        "down_bytes": median(r["down_bytes"] for record in records for r in record["history"][1:]),
        "codec_s": codec_s,
        "example_s": example_s,
        "loss": [loss if math.isfinite(loss) else None for loss, _ in quality],
        "rouge_l": [rouge for _, rouge in quality],
        "rounds_to_target": reached,
        "up_to_target": [_total(of_seed, at, 0) for of_seed, at in zip(sent, reached)],
        "bytes_to_target": [_total(of_seed, at, 0, 1) for of_seed, at in zip(sent, reached)],
        "curve": _curve(records, sent),
        "links": [
            _over(parse_link(link), records, reached, example_s, codec_s, power) for link in study.links
        ],
    }  # fmt: skip


def _bytes(record: Record) -> tuple[float, float]:
    """What all clients of a round sent and received."""
    used = record.get("used", ())
    return sum(entry["up_bytes"] for entry in used), record.get("down_bytes", 0) * len(record.get("clients", ()))


def _total(sent: Sequence[tuple[float, float]], rounds: int | None, *directions: int) -> float | None:
    if rounds is None:
        return None
    return sum(sent[number][way] for number in range(rounds + 1) for way in directions)


def _curve(records: Sequence[Record], sent: Sequence[Sequence[tuple[float, float]]]) -> list[Record]:
    """Quality against bytes sent by clients, round by round: median and extremes over the seeds."""
    points = []
    for number in range(min(len(record["history"]) for record in records)):
        losses = [record["history"][number]["eval_loss"] for record in records]
        if any(loss is None for loss in losses):
            break
        up = median(_total(of_seed, number, 0) or 0.0 for of_seed in sent)
        rouge = median(record["history"][number]["rouge_l"] for record in records)
        point = {"round": number, "up_bytes": up, "loss": median(losses), "low": min(losses), "high": max(losses)}
        points.append({**point, "rouge_l": rouge})
    return points


def _over(
    link: Link, records: Sequence[Record], reached: Sequence[int | None], example_s: float, codec_s: float, power: float
) -> Record:
    """One codec over one link."""
    radio = radio_of(link)
    rounds = [[_times(r, link, example_s, codec_s) for r in record["history"][1:]] for record in records]
    clients = [times for of_seed in rounds for of_round in of_seed for times in of_round]
    seconds = [_until(of_seed, at, _slowest_s) for of_seed, at in zip(rounds, reached)]
    joules: list[float | None] = [None] * len(records)
    if radio:
        radio_w = radio.watts
        joules = [_until(of_seed, at, lambda r: _joules(r, power, radio_w)) for of_seed, at in zip(rounds, reached)]
    return {
        "link": link.name,
        "granularity": median(times.granularity for times in clients),
        "communication_s": median(times.communication_s for times in clients),
        "time_to_target_s": seconds,
        "energy_to_target_j": joules,
    }


def _times(record: Record, link: Link, example_s: float, codec_s: float) -> list[RoundTimes]:
    return [
        round_times(entry["examples"] * example_s, record["down_bytes"], entry["up_bytes"], link, codec_s=codec_s)
        for entry in record["used"]
    ]


def _slowest_s(of_round: Sequence[RoundTimes]) -> float:
    return max((times.total_s for times in of_round), default=0.0)


def _joules(of_round: Sequence[RoundTimes], power: float, radio_w: float) -> float:
    return sum((times.compute_s + times.codec_s) * power + times.communication_s * radio_w for times in of_round)


def _until(rounds: Sequence[Sequence[RoundTimes]], reached: int | None, cost: Any) -> float | None:
    return None if reached is None else float(sum(cost(of_round) for of_round in rounds[:reached]))


def _compare_with(codec: Record, baseline: Record) -> None:
    """Add intervals, and ratios to the baseline on the same seeds, in place."""
    codec["intervals"] = {
        name: known_interval(codec[name]).to_json()
        for name in ("loss", "rouge_l", "rounds_to_target", "bytes_to_target")
    }
    codec["loss_ratio"] = paired(codec["loss"], baseline["loss"]).to_json()
    for own, other in zip(codec["links"], baseline["links"]):
        for name in ("time_to_target_s", "energy_to_target_j"):
            own[f"{name}_interval"] = known_interval(own[name]).to_json()
            own[f"{name}_ratio"] = paired(own[name], other[name]).to_json()
