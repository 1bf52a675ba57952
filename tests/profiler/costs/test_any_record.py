"""Whatever a trace claims was recorded, a price is a price or nothing: never an exception, never a negative number."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeroof.profiler import costs
from edgeroof.profiler.ops import OpRecord, TensorMeta


@st.composite
def metas(draw) -> TensorMeta:
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=5)))
    stride = tuple(draw(st.integers(0, 5)) for _ in shape) if draw(st.booleans()) else None
    dtype = draw(st.sampled_from(["fp32", "bf16", "fp64", "int64", "bool", "a type of tomorrow"]))
    return TensorMeta(shape, dtype, stride, draw(st.integers(0, 2)))


plain = st.none() | st.booleans() | st.integers(-3, 9) | st.floats() | st.sampled_from(["True", "sum", ""])
arguments = metas() | plain | st.lists(metas() | plain, max_size=3).map(tuple)
RULES = sorted(costs._RULES)


@pytest.mark.parametrize("part", range(4))
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_record_raises(part: int, data) -> None:
    name = data.draw(st.sampled_from(RULES[part::4]))
    record = OpRecord(
        name,
        tuple(data.draw(st.lists(arguments, max_size=14))),
        tuple(data.draw(st.lists(metas(), max_size=3))),
        tuple(data.draw(st.lists(st.integers(0, 15), max_size=2))),
    )
    cost = costs.price(record)
    assert cost is None or min(cost.flops, cost.bytes_read, cost.bytes_written) >= 0


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("aten::convolution", [(), ()]),
        ("aten::convolution_backward", [(3,), (), (2, 2)]),
        ("aten::_scaled_dot_product_flash_attention", [(2, 2, 2, 2, 2)] * 3),
        ("aten::_amp_update_scale_", []),
    ],
)
def test_shapes_that_cannot_be_have_no_price(name: str, shapes: list[tuple[int, ...]]) -> None:
    args = tuple(TensorMeta(shape, "fp32") for shape in shapes)
    assert costs.price(OpRecord(name, args, (TensorMeta((2,), "fp32"),))) is None
