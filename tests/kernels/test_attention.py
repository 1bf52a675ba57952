"""Fused attention against float64 and PyTorch, in Triton's interpreter and in torch's path."""

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.library import opcheck
from torch.utils.checkpoint import checkpoint

from edgeroof.errors import UsageError
from edgeroof.kernels import attention_launch
from edgeroof.kernels.attention import attention, attention_backward_op, attention_op, register_costs
from edgeroof.kernels.attention_launch import Form
from edgeroof.kernels.attention_position import buckets_by_distance, position_bias, table_gradient
from edgeroof.kernels.reference import attention_reference, position_bias_reference
from edgeroof.profiler.costs import price
from edgeroof.profiler.recorder import OpRecorder

from .operator_cases import DEVICE, check_errors, normal, path  # noqa: F401

pytestmark = pytest.mark.usefixtures("path")


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest tiles there are, so that short sequences cross their borders."""
    for name in ("forward_form", "query_form", "key_form"):
        monkeypatch.setattr(attention_launch, name, lambda dtype: Form(16, 16, 1, 2))


def qkv(
    batches: int, heads: int, queries: int, keys: int, dim: int, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """As projections make them: heads side by side in memory."""
    lengths = (queries, keys, keys)
    spreads = (dim**-0.5, 1.0, 1.0)
    return [
        normal(batches, length, heads, dim, dtype=dtype, seed=seed, spread=spread).transpose(1, 2)
        for seed, (length, spread) in enumerate(zip(lengths, spreads))
    ]


def seed_of(number: int = 1) -> Tensor:
    return torch.tensor([number], device=DEVICE)


def evaluate(run: Any, inputs: list[Tensor], table: Tensor | None, given: Tensor) -> list[Tensor]:
    """Result and gradients of queries, keys, values and the table."""
    leaves = [one.detach().requires_grad_() for one in (*inputs, table) if one is not None]
    output = run(*leaves[:3], leaves[3] if table is not None else None)
    return [output.detach(), *torch.autograd.grad(output, leaves, given.to(output.dtype))]


def eager(
    query: Tensor, key: Tensor, value: Tensor, table: Tensor | None, *, bias: Any, mask: Tensor | None,
    factors: Tensor | None,
) -> Tensor:  # fmt: skip
    """What transformers computes, with rows without anything zero as ours."""
    scores = query @ key.mT
    if table is not None:
        scores = scores + bias(table).to(scores.dtype)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    hidden = (scores == -torch.inf).all(-1, keepdim=True)
    probs = torch.softmax(scores.masked_fill(hidden, 0.0), -1).masked_fill(hidden, 0.0).to(query.dtype)
    if factors is not None:
        probs = probs * factors.to(probs.dtype)
    return (probs @ value).transpose(1, 2)


def dropped(inputs: list[Tensor], dropout: float, **drops: Any) -> Tensor:
    """What dropout multiplies probabilities by, read off averages of unit vectors with equal probabilities."""
    batches, heads, queries, keys = *inputs[0].shape[:3], inputs[1].shape[2]
    zeros = torch.zeros(batches, heads, queries, 64, device=DEVICE)
    columns = []
    for first in range(0, keys, 64):
        values = torch.eye(keys, device=DEVICE)[:, first : first + 64]
        values = torch.nn.functional.pad(values, (0, 64 - values.shape[1])).expand(batches, heads, keys, 64)
        found = attention(zeros, torch.zeros_like(values), values, dropout=dropout, **drops)
        columns.append(found.transpose(1, 2)[..., : keys - first])
    return (torch.cat(columns, -1) != 0).double() / (1 - dropout)


def check(
    inputs: list[Tensor], table: Tensor | None = None, mask: Tensor | None = None, dropout: float = 0.0,
    bidirectional: bool = True, causal: bool = False, offset: int = 0, max_distance: int = 20,
) -> None:  # fmt: skip
    """Result and gradients follow the rule for errors."""
    queries, keys = inputs[0].shape[2], inputs[1].shape[2]
    given = normal(inputs[0].shape[0], queries, *inputs[0].shape[1::2], dtype=inputs[0].dtype, seed=7)
    drops = {"dropout": dropout, "seed": seed_of()} if dropout else {}
    places = {"bidirectional": bidirectional, "max_distance": max_distance, "offset": offset}

    def ours(query: Tensor, key: Tensor, value: Tensor, table: Tensor | None) -> Tensor:
        return attention(query, key, value, table=table, mask=mask, causal=causal, **places, **drops)

    factors = dropped(inputs, **drops) if dropout else None
    bias = partial(position_bias_reference, queries=queries, keys=keys, **places)
    hides = torch.ones(queries, keys, dtype=torch.bool, device=DEVICE).tril(offset) if causal else None
    both = mask
    if hides is not None:
        both = (
            hides
            if mask is None
            else mask & hides
            if mask.dtype == torch.bool
            else mask.masked_fill(~hides, -torch.inf)
        )
    found = evaluate(ours, inputs, table, given)
    theirs = evaluate(partial(eager, bias=bias, mask=both, factors=factors), inputs, table, given)
    wide = None if table is None else table.double()

    def truth(query: Tensor, key: Tensor, value: Tensor, table: Tensor | None) -> Tensor:
        added = None if table is None else bias(table)
        return attention_reference(
            query, key, value, bias=added, mask=mask, causal=causal, offset=offset, factors=factors
        )

    exact = evaluate(truth, [one.double() for one in inputs], wide, given)
    check_errors(found, theirs, exact, flash_errors(inputs, given, exact[0])[: len(exact)])
    assert [one.dtype for one in found] == [one.dtype for one in theirs]
    assert found[0].is_contiguous()


def flash_errors(inputs: list[Tensor], given: Tensor, out: Tensor) -> list[float]:
    """What gradients are off by in PyTorch's own flash attention, whose ``Σ p dp`` of a row is of rounded results.

    Of the result, queries, keys, values and the table, with roundings taken to be independent.
    """
    half_a_unit = torch.finfo(inputs[0].dtype).eps / 2
    rows = (given.double() * out).norm(dim=-1) * half_a_unit
    of_queries, of_keys = (float(one.abs().max()) for one in inputs[:2])
    query, key = float(rows.max()) * of_keys, float(rows.norm(dim=1).max()) * of_queries
    return [0.0, query, key, 0.0, float(rows.norm(dim=(0, 1)).max())]


def table_of(heads: int, buckets: int = 32, dtype: torch.dtype = torch.float32) -> Tensor:
    return normal(buckets, heads, seed=5, dtype=dtype)


def padding(batches: int, keys: int, hidden: int | None = None) -> Tensor:
    """Boolean mask [B, 1, 1, K]: later batches are shorter, and one is hidden altogether."""
    length = torch.arange(keys, 0, -max(1, keys // batches))[:batches].view(-1, 1, 1, 1)
    mask = torch.arange(keys) < length
    if hidden is not None:
        mask[hidden] = False
    return mask.to(DEVICE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_types(dtype: torch.dtype) -> None:
    check(qkv(2, 1, 37, 70, 16, dtype), table_of(1), padding(2, 70), dropout=0.25)


def test_t5s_head_width_and_buckets() -> None:
    check(qkv(1, 2, 40, 150, 64, torch.bfloat16), table_of(2), padding(1, 150), max_distance=128)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (1, 40), (16, 32), (17, 15), (40, 9)])
def test_lengths(queries: int, keys: int) -> None:
    check(qkv(2, 1, queries, keys, 8), table_of(1), dropout=0.2)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("dim", [1, 24, 64, 65])
def test_head_widths(dim: int) -> None:
    check(qkv(1, 2, 5, 20, dim), table_of(2))


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("kind", ["none", "bool", "hidden", "rows", "added", "infinite", "lowest"])
def test_masks(kind: str) -> None:
    lowest = torch.finfo(torch.float32).min
    corner = torch.ones(18, 40, device=DEVICE).tril(3) > 0  # the first rows see little, and one of them nothing
    corner[2] = False
    mask = {
        "none": None,
        "bool": padding(3, 40),
        "hidden": padding(3, 40, hidden=1),
        "rows": corner[None, None],
        "added": normal(3, 1, 18, 40, seed=2),
        "infinite": torch.where(corner, 0.0, -torch.inf)[None, None],
        "lowest": torch.where(corner, 0.0, lowest)[None, None],
    }[kind]
    check(qkv(3, 1, 18, 40, 8), table_of(1), mask)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("table", [False, True])
def test_lowest_numbers_of_a_wider_mask_stay_finite(dtype: torch.dtype, table: bool) -> None:
    """Rows that have them everywhere are even in both passes, while true infinities leave zeros."""
    mask = torch.zeros(3, 1, 5, 7, device=DEVICE)
    mask[0, :, :, 4:] = mask[1] = torch.finfo(torch.float32).min
    mask[2] = -torch.inf
    inputs = qkv(3, 1, 5, 7, 8, dtype)
    check(inputs, table_of(1) if table else None, mask)
    found = attention(*inputs, mask=mask)
    even = inputs[2].float().mean(2).expand(-1, 5, -1)[1]
    torch.testing.assert_close(found[1, :, 0].float(), even, rtol=1e-2, atol=1e-2)
    assert not found[2].any()


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize(("queries", "offset", "bidirectional"), [(35, 0, False), (5, 30, False), (20, -3, True)])
def test_causal(queries: int, offset: int, bidirectional: bool) -> None:
    """With queries at the beginning, the end, and some that see no key at all."""
    mask = padding(2, 35) if bidirectional else None
    check(qkv(2, 1, queries, 35, 8), table_of(1), mask, bidirectional=bidirectional, causal=True, offset=offset)


@pytest.mark.usefixtures("small_tiles")
def test_causal_without_a_bias() -> None:
    check(qkv(2, 1, 18, 18, 8), None, padding(2, 18), causal=True, dropout=0.1)


@pytest.mark.usefixtures("small_tiles")
def test_tables() -> None:
    """Few buckets, bf16 weights, distances far beyond the last bucket."""
    check(qkv(1, 2, 20, 40, 8), table_of(2, buckets=4), max_distance=3)
    check(qkv(1, 2, 20, 40, 8, torch.bfloat16), table_of(2, buckets=8, dtype=torch.bfloat16), max_distance=9)
    check(qkv(1, 2, 20, 40, 8), table_of(2, buckets=7), max_distance=9, bidirectional=False)


def test_buckets_are_those_of_transformers() -> None:
    modeling = pytest.importorskip("transformers.models.t5.modeling_t5")
    for number, furthest, bidirectional in ((32, 128, True), (32, 128, False), (8, 20, True), (6, 50, False)):
        theirs = modeling.T5Attention._relative_position_bucket(
            torch.arange(-furthest - 9, furthest + 10), bidirectional, number, furthest
        )
        found = buckets_by_distance(number, furthest, bidirectional, torch.device("cpu"))
        assert torch.equal(found.long(), theirs[9:-9])
        assert theirs[:9].eq(found[0]).all()
        assert theirs[-9:].eq(found[-1]).all()


@pytest.mark.parametrize(("bidirectional", "furthest"), [(True, 128), (False, 128), (True, 20)])
def test_the_bias_of_torchs_path_and_its_gradient(bidirectional: bool, furthest: int) -> None:
    table = table_of(3).double().requires_grad_()
    buckets = buckets_by_distance(32, furthest, bidirectional, DEVICE)
    places = {"bidirectional": bidirectional, "max_distance": furthest, "offset": 11}
    exact = position_bias_reference(table, 40, 300, **places)
    torch.testing.assert_close(position_bias(table, buckets, 40, 300, 11), exact)
    slope = normal(3, 40, 300, dtype=torch.float64)
    (expected,) = torch.autograd.grad(exact, table, slope[None])
    torch.testing.assert_close(table_gradient(slope, buckets, 32, 11), expected)


@given(data=st.data())
@settings(max_examples=6)
def test_any_shape_and_strides(data: st.DataObject) -> None:
    batches, heads = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 2))
    queries, keys, dim = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 70)), data.draw(st.integers(1, 20))
    dtype = data.draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
    step = data.draw(st.integers(1, 2))
    inputs = qkv(batches, heads, queries, keys, 2 * dim + 1, dtype)
    inputs = [one[..., 1 : 1 + step * dim : step] for one in inputs]
    table = table_of(heads) if data.draw(st.booleans()) else None
    mask = None
    if data.draw(st.booleans()):
        mask = normal(data.draw(st.sampled_from([1, batches])), 1, data.draw(st.sampled_from([1, queries])), keys)
        mask = mask > -1 if data.draw(st.booleans()) else mask
    causal = data.draw(st.booleans())
    check(inputs, table, mask, data.draw(st.sampled_from([0.0, 0.3])), causal=causal, offset=keys - queries)


def test_the_gradient_of_the_table_is_the_same_each_time() -> None:
    inputs, given = qkv(3, 1, 20, 40, 8), normal(3, 20, 1, 8)
    runs = [evaluate(lambda q, k, v, t: attention(q, k, v, table=t), inputs, table_of(1), given)[4] for _ in range(2)]
    assert torch.equal(*runs)


def test_empty_tensors() -> None:
    for shape in ((0, 2, 3, 8, 4), (2, 0, 3, 8, 4), (2, 2, 0, 8, 4), (2, 2, 3, 0, 4)):
        inputs = qkv(*shape)
        given = normal(shape[0], shape[2], shape[1], shape[4])
        found = evaluate(lambda q, k, v, t: attention(q, k, v, table=t, dropout=0.5), inputs, table_of(shape[1]), given)
        assert [one.shape for one in found] == [given.shape, *(one.shape for one in inputs), (32, shape[1])]
        assert not any(one.any() for one in found)


def test_float64_takes_torchs_path_and_passes_gradcheck() -> None:
    inputs = [one.detach().double().requires_grad_() for one in qkv(2, 2, 3, 5, 4)]
    table = table_of(2, buckets=4).double().requires_grad_()
    for dropout in (0.0, 0.4):
        drops = {"dropout": dropout, "seed": seed_of() if dropout else None}
        assert torch.autograd.gradcheck(
            lambda q, k, v, t, drops=drops: attention(
                q, k, v, table=t, mask=padding(2, 5, hidden=1), max_distance=3, **drops
            ),
            (*inputs, table),
        )


# -------------------------------------------------------------------- dropout


def test_dropout_drops_its_share_everywhere() -> None:
    kept = dropped(qkv(2, 2, 40, 72, 32), 0.3, seed=seed_of()) != 0
    deviation = (0.3 * 0.7) ** 0.5
    for dims in ((0, 1, 2), (0, 1, 3), (1, 2, 3), (0, 2, 3), (0, 1, 2, 3)):
        share = 1 - kept.double().mean(dims)
        assert ((share - 0.3).abs() < 5 * deviation / (kept.numel() / share.numel()) ** 0.5).all()
    flat = kept.double().flatten() - 0.7
    for lag in (1, 2, 8, 72, 40 * 72):  # neighbours in every dimension are independent
        assert abs((flat[lag:] * flat[:-lag]).mean()) < 5 * deviation**2 / flat.numel() ** 0.5


def test_a_seed_replays_and_another_does_not() -> None:
    inputs = qkv(1, 2, 20, 40, 8)
    first, again, other = (attention(*inputs, dropout=0.5, seed=seed_of(number)) for number in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.manual_seed(0)
    drawn = attention(*inputs, dropout=0.5)
    assert not torch.equal(drawn, attention(*inputs, dropout=0.5))
    torch.manual_seed(0)
    assert torch.equal(drawn, attention(*inputs, dropout=0.5))


def test_the_extremes_of_dropout() -> None:
    inputs, given = qkv(1, 2, 20, 40, 8), normal(1, 20, 2, 8)
    found = evaluate(lambda q, k, v, t: attention(q, k, v, table=t, dropout=1.0), inputs, table_of(2), given)
    assert not any(one.any() for one in found)
    plain = attention(*inputs)
    torch.testing.assert_close(attention(*inputs, dropout=0.0, seed=seed_of()), plain)


def test_checkpoint_replays_dropout() -> None:
    inputs, given = qkv(2, 1, 6, 20, 8), normal(2, 6, 1, 8)

    def run(q: Tensor, k: Tensor, v: Tensor, t: Tensor) -> Tensor:
        return attention(q * 2, k, v, table=t, dropout=0.5)

    torch.manual_seed(3)
    plain = evaluate(run, inputs, table_of(1), given)
    torch.manual_seed(3)
    again = evaluate(partial(checkpoint, run, use_reentrant=False), inputs, table_of(1), given)
    torch.testing.assert_close(again, plain, rtol=0, atol=0)


# -------------------------------------------------------------------- the operator


def seen(run: Any) -> list:
    register_costs()
    with OpRecorder(torch.nn.Module()) as recorder:
        run()
    return [record for record in recorder.records if record.name.startswith("edgeroof::")]


def test_costs() -> None:
    inputs = [one.requires_grad_() for one in qkv(3, 2, 5, 40, 8, torch.bfloat16)]
    table = table_of(2).requires_grad_()
    given = normal(3, 5, 2, 8, dtype=torch.bfloat16)
    forward, backward = seen(lambda: attention(*inputs, table=table, mask=padding(3, 40), dropout=0.1).backward(given))
    assert (forward.name, backward.name) == ("edgeroof::attention", "edgeroof::attention_backward")
    query, key, small = 2 * 3 * 2 * 5 * 8, 2 * 3 * 2 * 40 * 8, 4 * 32 * 2 + 3 * 40 + 8
    kept = forward.outputs[1].nbytes
    assert kept in (0, 4 * 2 * 3 * 2 * 5)
    cost = price(forward)
    assert (cost.bytes_read, cost.bytes_written) == (query + 2 * key + small, query + kept)
    assert (cost.flops, cost.unit, cost.dtype) == (4 * 3 * 2 * 5 * 40 * 8, "tensor", "bf16")
    cost = price(backward)
    assert cost.bytes_read == 3 * query + 2 * key + small + kept
    assert cost.bytes_written == query + 2 * key + 4 * 32 * 2
    assert cost.flops == 10 * 3 * 2 * 5 * 40 * 8


def test_a_frozen_table_gets_no_gradient() -> None:
    inputs = [one.requires_grad_() for one in qkv(2, 2, 5, 40, 8)]
    records = seen(lambda: attention(*inputs, table=table_of(2)).sum().backward())
    assert records[1].outputs[3].numel == 0
    with torch.no_grad():
        assert len(seen(lambda: attention(*inputs))) == 1


def test_opcheck(path: str) -> None:  # noqa: F811
    inputs = [one.requires_grad_() for one in qkv(1, 1, 5, 12, 4)]
    settings = (False, 0, True, 20)
    table, mask = table_of(1).requires_grad_(), padding(1, 12)
    opcheck(attention_op, (*inputs, table, mask, seed_of(), 0.2, *settings))
    with torch.no_grad():
        saved = attention_op(*inputs, table_of(1), None, None, 0.0, *settings)
    given = (normal(1, 5, 1, 4), *(one.detach() for one in inputs), table_of(1), None, None, *saved)
    for wanted in (True, False) if path == "torch" else (True,):
        opcheck(attention_backward_op, (*given, 0.0, *settings, wanted))


def test_fake_tensors() -> None:
    with FakeTensorMode():
        inputs = [
            torch.empty(4, 512, 12, 64, device=DEVICE, dtype=torch.bfloat16).transpose(1, 2).requires_grad_()
            for _ in range(3)
        ]
        table = torch.empty(32, 12, device=DEVICE, requires_grad=True)
        output = attention(*inputs, table=table, dropout=0.1)
        output.sum().backward()
        assert (output.shape, output.dtype) == ((4, 512, 12, 64), torch.bfloat16)
        assert all(one.grad.stride() == one.stride() for one in inputs)
        assert (table.grad.shape, table.grad.dtype) == (table.shape, torch.float32)


def test_compiled() -> None:
    compiled = torch.compile(
        lambda q, k, v, t: attention(q * 2, k, v, table=t, mask=padding(2, 40)), backend="aot_eager"
    )
    inputs, given = qkv(2, 2, 6, 40, 8), normal(2, 6, 2, 8)
    plain = evaluate(
        lambda q, k, v, t: attention(q * 2, k, v, table=t, mask=padding(2, 40)), inputs, table_of(2), given
    )
    torch.testing.assert_close(evaluate(compiled, inputs, table_of(2), given), plain)


def test_a_second_derivative_is_refused() -> None:
    query, key, value = qkv(1, 1, 3, 5, 4)
    with pytest.raises(UsageError, match="second derivative"):
        torch.autograd.grad(attention(query.requires_grad_(), key, value).sum(), query, create_graph=True)


def test_arguments_that_make_no_sense() -> None:
    query, key, value = qkv(2, 2, 3, 40, 8)
    mask, table = normal(2, 1, 3, 40), table_of(2)
    for wrong, match in (
        ({"query": query[0]}, r"\[B, H, Q, D\]"),
        ({"query": query.long()}, "floating"),
        ({"key": key[:, :1]}, "do not fit"),
        ({"value": value[:, :, :3]}, "do not fit"),
        ({"value": value.double()}, "values are torch.float64"),
        ({"table": table[:, :1]}, "a table of 2 heads"),
        ({"table": table.long()}, "a table of 2 heads"),
        ({"table": table[:3]}, "no room"),
        ({"table": table, "max_distance": 8}, "no room"),
        ({"mask": mask[0]}, "mask of shape"),
        ({"mask": mask.long()}, "boolean"),
        ({"mask": mask.requires_grad_()}, "no gradient"),
        ({"dropout": 1.5}, "between 0 and 1"),
        ({"dropout": 0.5, "seed": torch.zeros(2, dtype=torch.int64)}, "seed is one int64"),
    ):
        with pytest.raises(UsageError, match=match):
            attention(**{"query": query, "key": key, "value": value, **wrong})


# -------------------------------------------------------------------- launches


@pytest.mark.parametrize("path", ["triton"], indirect=True)
def test_heads_may_begin_beyond_32_bits(path: str) -> None:  # noqa: F811
    """Untouched memory between the batches costs nothing."""
    stride = 2**31 + 16
    inputs = []
    for one in qkv(2, 1, 5, 5, 8, torch.bfloat16):
        far = torch.empty(stride + 40, dtype=torch.bfloat16, device=DEVICE).as_strided((2, 1, 5, 8), (stride, 0, 8, 1))
        inputs.append(far.copy_(one))
    check(inputs, table_of(1))


def test_rows_that_are_not_contiguous_or_span_too_much_are_copied() -> None:
    one = torch.empty(2, 2, 3, 4, device=DEVICE)
    assert attention_launch.rows_of(one) is one
    assert attention_launch.rows_of(one[..., ::2]).is_contiguous()
    far = torch.empty(1, device="meta").as_strided((1, 1, 3, 4), (1, 1, 2**30, 1))
    assert attention_launch.rows_of(far).is_contiguous()
