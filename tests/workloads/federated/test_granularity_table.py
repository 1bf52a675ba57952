"""The table of granularity, the clients it compares, and where their computing times and powers come from."""

import math

import pytest

from edgeroof.errors import DeviceError, RunError, UsageError
from edgeroof.workloads.federated.codecs import parse_codec
from edgeroof.workloads.federated.compute_time import StepTime, given_step, step_count
from edgeroof.workloads.federated.granularity_cases import Wanted, build_cases
from edgeroof.workloads.federated.granularity_table import Case, Traffic, measure_traffic, table
from edgeroof.workloads.federated.links import PRESETS, Link, transfer_s
from edgeroof.workloads.federated.payloads import Coding
from edgeroof.workloads.federated.radios import RADIOS, radio_of

LTE = PRESETS["lte"]
#: FLAN-T5-small in fp32.
WHOLE = 307_876_928


def traffic_of(size: int, rank: int | None = None, codec: str = "fp32", down: int = WHOLE) -> Traffic:
    return Traffic("small", rank, codec, Coding(size, 1.0, size // 4, size // 4), down)


def test_full_weights_over_lte_are_hardly_worth_it() -> None:
    case = Case("small", None, "a100", StepTime(120.0, "given", ""), 47, 400.0)
    plain, small = table([case], [traffic_of(WHOLE), traffic_of(WHOLE // 4, codec="int8")], [LTE])
    assert plain["granularity"] < 0.1
    expected = 47 * 0.12 / (transfer_s(WHOLE, LTE, "down") + transfer_s(WHOLE, LTE, "up"))
    assert plain["granularity"] == pytest.approx(expected)
    assert small["granularity"] > 2 * plain["granularity"]
    assert plain["speedup_limit"] == pytest.approx(1 + plain["granularity"])
    assert 1 < plain["speedup"]["2"] < plain["speedup"]["4"] < plain["speedup_limit"]


def test_intervals_of_the_step_carry_over() -> None:
    case = Case("small", None, "a100", StepTime(100.0, "projected", "", 80.0, 150.0), 10)
    (row,) = table([case], [traffic_of(WHOLE)], [LTE])
    assert row["granularity_low"] == pytest.approx(0.8 * row["granularity"])
    assert row["granularity_high"] == pytest.approx(1.5 * row["granularity"])
    assert row["communication_energy_share"] is None


def test_rows_match_what_is_trained() -> None:
    cases = [Case("small", rank, "a100", StepTime(100.0, "given", ""), 10, 100.0) for rank in (None, 8)]
    rows = table(cases, [traffic_of(WHOLE), traffic_of(10**6, 8, down=10**6)], [LTE, PRESETS["1g"]])
    assert [(row["case"], row["link"], row["up_bytes"]) for row in rows] == [
        (0, "lte", WHOLE), (0, "1g", WHOLE), (1, "lte", 10**6), (1, "1g", 10**6)
    ]  # fmt: skip
    assert rows[2]["granularity"] > 100 * rows[0]["granularity"]


def test_energy_needs_a_radio() -> None:
    case = Case("small", None, "mine", StepTime(100.0, "given", ""), 10, 100.0)
    own = Link("9/9", "", 9, 9, 0)
    (unknown,) = table([case], [traffic_of(WHOLE)], [own])
    (known,) = table([case], [traffic_of(WHOLE)], [own], radio_w=2.0)
    assert unknown["communication_energy_share"] is None
    radio_j, computing_j = 2 * known["communication_s"], 100 * (1.0 + 1.0)
    assert known["communication_energy_share"] == pytest.approx(radio_j / (radio_j + computing_j))
    assert set(RADIOS) == set(PRESETS)
    with pytest.raises(UsageError):
        radio_of(own, math.nan)


def test_traffic_is_measured_per_model_and_codec() -> None:
    found = measure_traffic([("tiny", None), ("tiny", 4)], [parse_codec("none"), parse_codec("int8")])
    assert [(entry.lora_rank, entry.codec) for entry in found] == [
        (None, "fp32"), (None, "int8"), (4, "fp32"), (4, "int8")
    ]  # fmt: skip
    assert found[1].coding.size < 0.27 * found[0].coding.size
    assert found[2].down_bytes < found[0].down_bytes
    (narrow,) = measure_traffic([("tiny", None)], [parse_codec("none")], down=parse_codec("fp16"))
    assert narrow.down_bytes < 0.51 * found[0].down_bytes


def test_cases_with_a_given_time() -> None:
    cases = build_cases(Wanted(devices=("orin:30W",), lora_rank=8, step_time_ms=50.0, dialogues=65))
    assert [(case.lora_rank, case.steps, case.compute_s) for case in cases] == [(None, 3, 0.15), (8, 3, 0.15)]
    assert cases[0].compute_w == 30
    assert "30W" in cases[0].power_source
    (given,) = build_cases(Wanted(step_time_ms=50.0, compute_w=12.5))
    assert (given.compute_w, given.power_source) == (12.5, "given by the user")


def test_steps_count_the_last_batch() -> None:
    assert [step_count(1473, 32, 1), step_count(64, 32, 3), step_count(1, 32, 1)] == [47, 6, 1]


@pytest.mark.parametrize(
    "values",
    [
        {"dialogues": 0}, {"batch_size": 0}, {"lora_rank": -1}, {"compute_w": math.inf},
        {"run": "x", "step_time_ms": 1.0}, {"run": "x", "devices": ("a100",)},
        {"step_time_ms": 1.0, "models": ("small", "base")}, {"step_time_ms": 1.0, "devices": ("a100", "orin")},
    ],
)  # fmt: skip
def test_contradictions_are_refused(values: dict) -> None:
    with pytest.raises(UsageError):
        Wanted(**values)


def test_mistakes_are_told() -> None:
    with pytest.raises(UsageError):
        given_step(-1.0)
    with pytest.raises(DeviceError, match="unknown device"):
        build_cases(Wanted(devices=("a1000",), step_time_ms=1.0))
    with pytest.raises(DeviceError, match="power mode"):
        build_cases(Wanted(devices=("orin:7W",), step_time_ms=1.0))
    with pytest.raises(RunError):
        build_cases(Wanted(run="/no/such/run"))
