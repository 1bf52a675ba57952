"""Sizes of messages against messages that are really made; shapes against models that are really built."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeroof.workloads.federated import payloads
from edgeroof.workloads.federated.codecs import Compressor, parse_codec
from edgeroof.workloads.federated.payloads import (
    coded_part,
    count_values,
    measure_coding,
    sample_update,
    trained_shapes,
    weights_bytes,
)
from edgeroof.workloads.federated.update import Message, to_bytes

NAMES = st.text(st.sampled_from('abé.0"\\'), min_size=1, max_size=40)
SHAPES = st.dictionaries(NAMES, st.lists(st.integers(1, 9), max_size=3).map(tuple), max_size=6)


@given(SHAPES)
def test_weights_weigh_what_their_message_does(shapes: dict) -> None:
    weights = {name: torch.zeros(shape) for name, shape in shapes.items()}
    assert weights_bytes(shapes) == len(to_bytes(Message(weights)))


@pytest.mark.parametrize("name", ["none", "fp16", "int4", "topk:0.1+int8", "lowrank:2"])
def test_sizes_are_those_of_real_messages(name: str) -> None:
    shapes = {"a": (40, 30), "b": (7,)}
    update = sample_update(shapes)
    coding = measure_coding(parse_codec(name), shapes, update)
    assert coding.size == len(to_bytes(Compressor(parse_codec(name)).compress(update)))
    assert coding.seconds > 0
    assert coding.coded_values == coding.values == 1207


def test_shapes_are_those_of_the_model() -> None:
    assert count_values(trained_shapes("small")) == 76_961_152
    adapters = trained_shapes("tiny", lora_rank=4)
    assert adapters
    assert all("lora" in name and 4 in shape for name, shape in adapters.items())


def test_very_large_updates_are_coded_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payloads, "MOST_VALUES", 1000)
    monkeypatch.setattr(payloads, "_PART_VALUES", 500)
    shapes = {"a": (20, 20), "b": (10, 5), "c": (100, 10)}
    part = coded_part(shapes)
    assert list(part) == ["a", "b"]
    codec = parse_codec("int8")
    coding = measure_coding(codec, shapes, sample_update(part))
    assert (coding.coded_values, coding.values) == (450, 1450)
    whole = len(to_bytes(codec.encode(sample_update(shapes))))
    assert coding.size == pytest.approx(whole, abs=32)
    assert coded_part({"huge": (2000,)}) == {"huge": (2000,)}


@settings(max_examples=10)
@given(st.integers(0, 2**31))
def test_sample_updates_have_heavy_tails_and_repeat(seed: int) -> None:
    update = sample_update({"a": (100, 100)}, seed)["a"]
    assert torch.equal(update, sample_update({"a": (100, 100)}, seed)["a"])
    assert update.isfinite().all()
    assert update.abs().max() > 4 * update.std()
