"""Codecs: what arrives is what was sent, up to the error that each promises; payloads have the size they claim."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeroof.errors import UpdateError, UsageError
from edgeroof.workloads.federated.codecs import Compressor, parse_codec
from edgeroof.workloads.federated.codecs.codec import flatten
from edgeroof.workloads.federated.codecs.quantisers import BLOCK
from edgeroof.workloads.federated.update import Message, from_bytes, to_bytes

NAMES = ["none", "fp16", "int8", "int4", "topk:0.01", "topk:0.1+int8", "topk:0.01+fp16", "lowrank:2", "lowrank:4+int8"]


def an_update(seed: int = 0, scale: float = 1e-3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"shared": (96, 32), "wo": (32, 64), "norm": (32,), "empty": (0, 4), "one": (1,)}
    return {
        name: scale * torch.randn(shape, generator=generator) ** 3  # heavy-tailed, as updates are
        for name, shape in shapes.items()
    }


def over_the_wire(name: str, update: dict) -> tuple[dict, int]:
    codec = parse_codec(name)
    data = to_bytes(codec.encode(update))
    return codec.decode(from_bytes(data), update), len(data)


def relative_error(update: dict, arrived: dict) -> float:
    return float((flatten(arrived) - flatten(update)).norm() / flatten(update).norm())


@pytest.mark.parametrize("name", NAMES)
def test_what_arrives_has_names_shapes_and_types(name: str) -> None:
    update = an_update() | {"half": torch.ones(3, 3, dtype=torch.bfloat16)}
    arrived, _ = over_the_wire(name, update)
    assert {key: (t.shape, t.dtype) for key, t in arrived.items()} == {
        key: (t.shape, t.dtype) for key, t in update.items()
    }
    assert parse_codec(parse_codec(name).name).name == parse_codec(name).name


@pytest.mark.parametrize(
    ("name", "error", "factor"),
    [("none", 0.0, 1.0), ("fp16", 5e-4, 2.0), ("int8", 0.02, 3.87), ("int4", 0.3, 7.5), ("topk:0.01+fp16", 0.95, 66.7)],
)
def test_error_and_compression(name: str, error: float, factor: float) -> None:
    update = {"w": 1e-2 * torch.randn(512, 512, generator=torch.Generator().manual_seed(1)) ** 3}
    arrived, size = over_the_wire(name, update)
    assert relative_error(update, arrived) <= error
    assert 4 * 512 * 512 / size == pytest.approx(factor, rel=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_payloads_have_the_size_they_claim(name: str) -> None:
    update, codec = an_update(), parse_codec(name)
    arrays = codec.encode(update).arrays
    claimed = codec.payload_bytes([tuple(tensor.shape) for tensor in update.values()])
    assert claimed == sum(array.numel() * array.element_size() for array in arrays.values())


@given(
    values=st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=3 * BLOCK),
    levels=st.sampled_from([("int8", 127), ("int4", 7)]),
)
def test_blocks_are_off_by_half_a_step_at_most(values: list, levels: tuple) -> None:
    update = {"v": torch.tensor(values, dtype=torch.float32)}
    arrived, _ = over_the_wire(levels[0], update)
    for block, got in zip(update["v"].split(BLOCK), arrived["v"].split(BLOCK)):
        largest = float(block.abs().max())
        bound = largest * (1 + 2**-7) / (2 * levels[1])
        vanishing = levels[1] * 2.0**-126  # a block whose scale is no normal number arrives as zeros
        assert float((block.double() - got.double()).abs().max()) <= bound * (1 + 1e-5) + vanishing


def test_reducers_have_defaults() -> None:
    assert parse_codec("topk").name == "topk:0.01+fp32"
    assert parse_codec("lowrank:+int8").name == "lowrank:4+int8"
    assert parse_codec("none").is_lossless


def test_zeros_stay_zeros() -> None:
    for name in NAMES:
        arrived, _ = over_the_wire(name, {"z": torch.zeros(70, 66)})
        assert not arrived["z"].any()


def test_topk_sends_the_largest() -> None:
    update = {"a": torch.tensor([0.1, -5.0, 0.2]), "b": torch.tensor([[3.0, -0.3]])}
    arrived, _ = over_the_wire("topk:0.4", update)
    assert arrived["a"].tolist() == [0, -5, 0]
    assert arrived["b"].tolist() == [[3, 0]]


@given(
    values=st.lists(st.integers(-9, 9), min_size=1, max_size=40),
    times=st.integers(1, 400),
    share=st.floats(1e-3, 1),
    shuffled=st.booleans(),
)
def test_topk_finds_the_largest_among_many(values: list, times: int, share: float, shuffled: bool) -> None:
    """With many ties, in periods that the sample may miss, and sorted."""
    vector = torch.tensor(values * times, dtype=torch.float32)
    vector = vector[torch.randperm(len(vector), generator=torch.Generator().manual_seed(times))] if shuffled else vector
    arrived, _ = over_the_wire(f"topk:{share}", {"v": vector})
    count = max(1, round(share * len(vector)))
    expected = vector.abs().sort(descending=True).values[:count]
    assert torch.equal(arrived["v"].abs().sort(descending=True).values[:count], expected)
    assert int((arrived["v"] != 0).sum()) <= count


def test_lowrank_is_exact_for_matrices_of_low_rank() -> None:
    thin = torch.randn(40, 2) @ torch.randn(2, 30)
    arrived, size = over_the_wire("lowrank:2", {"m": thin, "v": torch.randn(5)})
    torch.testing.assert_close(arrived["m"], thin, rtol=1e-4, atol=1e-4)
    assert size < 4 * (2 * 70 + 5) + 400


@pytest.mark.parametrize("name", ["topk:0.1", "topk:0.1+int4", "lowrank:2"])
def test_error_feedback_sends_everything_in_the_end(name: str) -> None:
    compressor, update = Compressor(parse_codec(name)), an_update()
    total = {key: torch.zeros_like(tensor) for key, tensor in update.items()}
    errors = []
    for rounds in range(1, 41):
        arrived = compressor.codec.decode(compressor.compress(update, rounds), update)
        compressor.settle(rounds)
        for key in total:
            total[key] += arrived[key]
        errors.append(relative_error({key: rounds * tensor for key, tensor in update.items()}, total))
    assert errors[-1] < 0.3 * errors[0]


@pytest.mark.parametrize("name", ["topk:0.1+int8", "lowrank:2"])
def test_a_round_that_was_not_used_leaves_nothing_behind(name: str) -> None:
    """What it sent is lost, and so is what it left out; what used rounds left out is not."""
    lucky, unlucky = (Compressor(parse_codec(name)) for _ in range(2))
    for compressor in (lucky, unlucky):
        compressor.compress(an_update(1), 1)
    unlucky.settle(1)
    unlucky.compress(an_update(2), 2)
    unlucky.settle(1)  # asked in round 2, last used in round 1
    lucky.settle(1)
    assert to_bytes(lucky.compress(an_update(3), 3)) == to_bytes(unlucky.compress(an_update(3), 3))


def test_nothing_left_out_is_lost_where_rounds_are() -> None:
    compressor, update = Compressor(parse_codec("topk:0.1")), an_update()
    total, used = torch.zeros(flatten(update).numel()), 0
    for number in range(1, 61):
        arrived = compressor.codec.decode(compressor.compress(update, number), update)
        if number % 3:
            total, used = total + flatten(arrived), number
        compressor.settle(used)
    missing = 40 * flatten(update) - total
    torch.testing.assert_close(missing, compressor.residual, rtol=1e-4, atol=1e-6)


def test_what_is_remembered_survives() -> None:
    one = Compressor(parse_codec("lowrank:2"))
    for number in (1, 2):
        one.compress(an_update(number), number)
        if number == 1:
            one.settle(1)
    two = Compressor(parse_codec("lowrank:2"))
    two.remember(from_bytes(to_bytes(Message(one.remembered()))).arrays)
    for used in (2, 1):
        pair = [dataclasses.replace(compressor) for compressor in (one, two)]
        for compressor in pair:
            compressor.settle(used)
        assert to_bytes(pair[0].compress(an_update(3), 3)) == to_bytes(pair[1].compress(an_update(3), 3))


@pytest.mark.parametrize(
    "arrays",
    [
        {"other": torch.zeros(1)},
        {"residual": torch.zeros(2, 2)},
        {"residual": torch.zeros(2, dtype=torch.float64)},
        {"residual": torch.tensor([math.nan])},
        {"pending.round": torch.tensor([1])},
        {"pending.residual": torch.zeros(1)},
        {"pending.memory.right.0": torch.zeros(1)},
        {"pending.round": torch.tensor([1.5]), "pending.residual": torch.zeros(1)},
    ],
)
def test_what_no_client_remembers_is_refused(arrays: dict) -> None:
    with pytest.raises(UpdateError):
        Compressor(parse_codec("topk")).remember(arrays)


def test_codecs_without_need_keep_nothing() -> None:
    compressor = Compressor(parse_codec("int8"))
    compressor.compress(an_update())
    assert compressor.residual is None


@pytest.mark.parametrize("name", ["", "zip", "int8+topk", "topk:2", "topk:x", "lowrank:0", "lowrank:1.5", "int8+int8"])
def test_what_is_no_codec(name: str) -> None:
    with pytest.raises(UsageError):
        parse_codec(name)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", NAMES)
def test_updates_without_sense_are_not_sent(name: str, bad: float) -> None:
    compressor, update = Compressor(parse_codec(name)), an_update()
    update["wo"][3, 3] = bad
    with pytest.raises(UpdateError, match="no finite numbers"):
        compressor.compress(update)
    assert compressor.residual is None


def test_payloads_that_do_not_fit() -> None:
    update = an_update()
    smaller = {"w": torch.zeros(3)}
    for name in NAMES:
        codec = parse_codec(name)
        with pytest.raises(UpdateError):
            codec.decode(codec.encode(update), smaller)
        with pytest.raises(UpdateError, match="no codec"):
            codec.decode(Message({}), update)
    with pytest.raises(UpdateError, match="made by fp16"):
        parse_codec("int8").decode(parse_codec("fp16").encode(update), update)


@pytest.mark.parametrize("places", [[0, 10**9], [-1, 2], [5, 5], [7, 3]])
def test_places_out_of_order_or_range(places: list) -> None:
    codec, update = parse_codec("topk:0.02"), {"w": torch.randn(100)}
    sound = codec.encode(update)
    forged = Message({**sound.arrays, "places": torch.tensor(places, dtype=torch.int32)}, sound.about)
    with pytest.raises(UpdateError, match="places"):
        codec.decode(forged, update)
