"""Granularity over what a federation can choose: model, device, what is trained, codec and link."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .codecs import Codec
from .compute_time import StepTime
from .granularity import clients_speedup, communication_energy_share, round_times
from .links import Link
from .payloads import Coding, coded_part, measure_coding, sample_update, trained_shapes, weights_bytes
from .radios import radio_of

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Case:
    """One client: its model, what of it is trained, on which device, and how long it computes.

    Attributes:
        model: as the user names it.
        lora_rank: of the adapters that are trained and sent, ``None`` for all weights.
        device: name of the device.
        step: time of one step.
        steps: in a round.
        compute_w: power while it computes, in W; ``None`` when unknown.
        power_source: where that comes from.
    """

    model: str
    lora_rank: int | None
    device: str
    step: StepTime
    steps: int
    compute_w: float | None = None
    power_source: str = "unknown"

    @property
    def compute_s(self) -> float:
        """T_comp: the client's computing in a round."""
        return self.steps * self.step.ms * 1e-3

    def describe(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {**dataclasses.asdict(self), "compute_s": self.compute_s}


@dataclass(frozen=True)
class Traffic:
    """What travels in a round for one model and codec.

    Attributes:
        model: as the user names it.
        lora_rank: see :class:`Case`.
        codec: name of the codec of updates.
        coding: of the update.
        down_bytes: size of the message with the server's weights.
    """

    model: str
    lora_rank: int | None
    codec: str
    coding: Coding
    down_bytes: int

    def describe(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {**dataclasses.asdict(self), "bytes_per_s": self.coding.bytes_per_s}


def measure_traffic(
    variants: Sequence[tuple[str, int | None]],
    codecs: Sequence[Codec],
    *,
    down: Codec | None = None,
    on_progress: Progress = lambda what, done, total: None,
) -> list[Traffic]:
    """Sizes and coding times of every model and codec, coded here.

    Args:
        variants: models, each with a rank of adapters or ``None``.
        codecs: of updates.
        down: codec of the server's weights; ``None`` sends them in fp32, as :func:`edgeroof.fl.run` does.
        on_progress: told what is being coded.
    """
    found: list[Traffic] = []
    total = len(variants) * len(codecs)
    for model, lora_rank in variants:
        shapes = trained_shapes(model, lora_rank)
        update = sample_update(coded_part(shapes))
        whole = weights_bytes(shapes) if down is None else measure_coding(down, shapes, update).size
        for codec in codecs:
            on_progress(f"coding {model}, {codec.name}", len(found), total)
            found.append(Traffic(model, lora_rank, codec.name, measure_coding(codec, shapes, update), whole))
    on_progress("coded", total, total)
    return found


def table(
    cases: Sequence[Case], traffic: Sequence[Traffic], links: Sequence[Link], *, radio_w: float | None = None
) -> list[dict[str, Any]]:
    """One row for every case, codec and link, JSON-ready.

    ``granularity_low`` and ``granularity_high`` follow from the interval of the step time alone.

    Args:
        cases: clients.
        traffic: what travels; rows of a case take those of its model and rank.
        links: between client and server.
        radio_w: power while a link is busy, in place of what :mod:`.radios` says.
    """
    return [
        _row(number, case, entry, link, radio_w)
        for number, case in enumerate(cases)
        for entry in traffic
        if (entry.model, entry.lora_rank) == (case.model, case.lora_rank)
        for link in links
    ]


def _row(number: int, case: Case, traffic: Traffic, link: Link, radio_w: float | None) -> dict[str, Any]:
    coding = traffic.coding
    times = round_times(case.compute_s, traffic.down_bytes, coding.size, link, codec_s=coding.seconds)
    value, step, radio = times.granularity, case.step, radio_of(link, radio_w)
    low, high = (None if end is None else value * end / step.ms for end in (step.low_ms, step.high_ms))
    share = None
    if radio and case.compute_w is not None:
        share = communication_energy_share(times, case.compute_w, radio.watts)
    return {
        "case": number,
        "codec": traffic.codec,
        "link": link.name,
        **dataclasses.asdict(times),
        "communication_s": times.communication_s,
        "granularity": value,
        "granularity_low": low,
        "granularity_high": high,
        "speedup": {str(factor): clients_speedup(value, factor) for factor in (2, 4)},
        "speedup_limit": value + 1,
        "communication_energy_share": share,
    }
