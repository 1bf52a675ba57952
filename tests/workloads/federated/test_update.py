"""Updates survive the wire bit by bit; what is damaged, hostile or for another model is refused by name."""

import json
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeroof.errors import UpdateError
from edgeroof.workloads.federated.update import Message, check_like, from_bytes, to_bytes

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.uint8, torch.int32, torch.int64]


def message() -> Message:
    return Message({"b.weight": torch.randn(3, 5), "a.bias": torch.arange(4, dtype=torch.int8)}, {"codec": "none"})


@given(
    shapes=st.lists(st.lists(st.integers(0, 4), max_size=3), max_size=5), dtype=st.sampled_from(DTYPES), note=st.text()
)
def test_round_trip(shapes: list, dtype: torch.dtype, note: str) -> None:
    arrays = {f"layer.{9 - i}": torch.randint(0, 100, shape).to(dtype) for i, shape in enumerate(shapes)}
    read = from_bytes(to_bytes(Message(arrays, {"note": note})))
    assert list(read.arrays) == list(arrays)
    assert dict(read.about) == {"note": note}
    for name, array in arrays.items():
        assert read.arrays[name].dtype == dtype
        assert torch.equal(read.arrays[name], array)


def test_equal_messages_have_equal_bytes() -> None:
    torch.manual_seed(0)
    one = to_bytes(message())
    torch.manual_seed(0)
    assert one == to_bytes(message())


@given(st.data())
def test_damage_is_an_update_error(data: st.DataObject) -> None:
    sound = bytearray(to_bytes(message()))
    for _ in range(data.draw(st.integers(1, 4))):
        sound[data.draw(st.integers(0, len(sound) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(sound[: data.draw(st.integers(0, len(sound)))])
    try:
        read = from_bytes(cut)
    except UpdateError:
        return
    assert set(read.arrays) <= {"b.weight", "a.bias"} or len(read.arrays) == 2


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"12345",
        struct.pack("<Q", 1 << 60) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 8) + b"\x80\x04notjs",
        struct.pack("<Q", 20) + json.dumps({"__metadata__": []}).encode(),
    ],
)
def test_what_is_no_message(data: bytes) -> None:
    with pytest.raises(UpdateError, match="damaged"):
        from_bytes(data)


def forged(header: str, size: int) -> bytes:
    return struct.pack("<Q", len(header.encode())) + header.encode() + bytes(size)


FACTS = {"__metadata__": {"edgeroof": json.dumps({"order": ["a", "b"], "about": {}})}}


@pytest.mark.parametrize(
    ("shapes", "offsets", "size"),
    [
        ([[2], [2]], [[0, 8], [4, 12]], 12),  # they overlap
        ([[2], [2]], [[0, 8], [0, 8]], 8),
        ([[2], [2]], [[0, 8], [12, 20]], 20),  # a hole
        ([[2], [2]], [[0, 8], [8, 16]], 12),  # the end is missing
        ([[2], [2]], [[0, 8], [8, 16]], 20),  # there is more behind
        ([[2], [-2]], [[0, 8], [8, 16]], 16),
        ([[2], [2**62, 4]], [[0, 8], [8, 8]], 8),  # a product of 2^64, which is 0 in 64 bits
        ([[2], [2**40]], [[0, 8], [8, 8 + 2**42]], 8),
    ],
)
def test_arrays_that_do_not_tile_their_bytes(shapes: list, offsets: list, size: int) -> None:
    entries = zip("ab", shapes, offsets)
    header = FACTS | {n: {"dtype": "F32", "shape": shape, "data_offsets": place} for n, shape, place in entries}
    with pytest.raises(UpdateError, match="damaged"):
        from_bytes(forged(json.dumps(header), size))


def test_the_forgery_is_sound_but_for_its_places() -> None:
    places = {"a": [0, 8], "b": [8, 16]}
    header = FACTS | {n: {"dtype": "F32", "shape": [2], "data_offsets": place} for n, place in places.items()}
    assert list(from_bytes(forged(json.dumps(header), 16)).arrays) == ["a", "b"]


OFFSETS = st.lists(st.integers(-8, 40) | st.sampled_from([2**31, 2**63, 2**64, 10**400]), min_size=2, max_size=2)
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "BF16", "I8", "BOOL", "F8_E4M3", "F4", "C64", "X", 3, None]),
        "shape": st.lists(st.integers(-2, 4) | st.sampled_from([2**32, 2**63, 1.5, None, "4"]), max_size=4),
        "data_offsets": OFFSETS,
    }
)


@given(
    entries=st.lists(st.tuples(st.sampled_from(["a", "b", "__metadata__", "é" * 9]), ENTRIES), max_size=4),
    order=st.lists(st.sampled_from(["a", "b", "c", 3, None, ["a"]]), max_size=4),
    size=st.integers(0, 40),
)
def test_forged_headers(entries: list, order: list, size: int) -> None:
    """Offsets that overlap, leave holes or lie outside, huge and negative shapes, doubled names, unknown types."""
    facts = {"__metadata__": {"edgeroof": json.dumps({"order": order, "about": {}})}}
    parts = [f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries]
    header = f"{{{', '.join([json.dumps(facts)[1:-1], *parts])}}}"
    try:
        read = from_bytes(forged(header, size))
    except UpdateError:
        return
    assert set(read.arrays) <= {"a", "b"}
    assert sum(array.numel() * array.element_size() for array in read.arrays.values()) == size


@pytest.mark.parametrize("nested", ["[" * 100_000, '{"a":' * 100_000, '{"__metadata__": {"edgeroof": "' + "[" * 90_000])
def test_deep_nesting(nested: str) -> None:
    with pytest.raises(UpdateError, match="damaged"):
        from_bytes(forged(nested, 0))


def test_giants_are_refused_before_they_are_read() -> None:
    data = to_bytes(message())
    with pytest.raises(UpdateError, match="at most 10 are expected"):
        from_bytes(data, most_bytes=10)


def test_updates_must_fit_the_model() -> None:
    weights = {"a": torch.zeros(2, 3), "b": torch.zeros(4)}
    check_like({"a": torch.ones(2, 3), "b": torch.ones(4)}, weights)
    wrong = {
        "b is missing": {"a": torch.ones(2, 3)},
        "c is not part": {**weights, "c": torch.ones(1)},
        r"a has shape \[3, 2\]": {"a": torch.ones(3, 2), "b": torch.ones(4)},
        "b is torch.float16": {"a": torch.ones(2, 3), "b": torch.ones(4).half()},
        "b holds values": {"a": torch.ones(2, 3), "b": torch.tensor([0.0, float("nan"), 0, 0])},
    }
    for reason, update in wrong.items():
        with pytest.raises(UpdateError, match=reason):
            check_like(update, weights)
