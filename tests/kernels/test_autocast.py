"""Autocast changes nothing inside of the operators and optimizers: their types are those of their arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from edgeroof.kernels import operator
from edgeroof.kernels.attention import attention
from edgeroof.kernels.cross_entropy import cross_entropy
from edgeroof.kernels.gated_gelu import gated_gelu
from edgeroof.kernels.linear_cross_entropy import linear_cross_entropy_op
from edgeroof.kernels.optim import FusedAdafactor, FusedAdamW
from edgeroof.kernels.rms_norm import add_rms_norm, rms_norm
from edgeroof.kernels.softmax import softmax

from .operator_cases import DEVICE, classes, normal, path  # noqa: F401

Run = Callable[..., Tensor]


def _linear(reduction: str) -> Run:
    """The operator itself: the function around it chooses autocast's type for its products, as it says."""
    options = (2, -100, 0.0, 0.0, reduction, [True, True, False], False)
    return lambda hidden, weight: linear_cross_entropy_op(hidden, weight, None, classes(4, 9), *options)[0].sum()


def _seed() -> Tensor:
    return torch.tensor([3], device=DEVICE)


OPERATORS: dict[str, tuple[Run, list[tuple[int, ...]]]] = {
    "softmax": (lambda scores, bias: softmax(scores, bias=bias), [(2, 2, 5, 7), (1, 2, 5, 7)]),
    "softmax, dropout": (lambda scores: softmax(scores, dropout=0.3, seed=_seed()), [(2, 2, 5, 7)]),
    "attention": (lambda q, k, v, table: attention(q, k, v, table=table), [(2, 2, 5, 8)] * 3 + [(8, 2)]),
    "attention, dropout": (lambda q, k, v: attention(q, k, v, dropout=0.3, seed=_seed()), [(2, 2, 5, 8)] * 3),
    "rms_norm": (rms_norm, [(4, 16), (16,)]),
    "add_rms_norm": (lambda *given: torch.cat(add_rms_norm(*given)), [(4, 16), (4, 16), (16,)]),
    "gated_gelu": (gated_gelu, [(4, 16), (4, 16)]),
    "cross_entropy": (lambda logits: cross_entropy(logits, classes(4, 9)), [(4, 9)]),
    "linear_cross_entropy": (_linear("mean"), [(4, 16), (9, 16)]),
    "linear_cross_entropy, not reduced": (_linear("none"), [(4, 16), (9, 16)]),
}


def evaluate(run: Run, shapes: list[tuple[int, ...]], autocast: bool) -> list[Tensor]:
    """Result and gradients, with the backward pass within autocast as well."""
    leaves = [normal(*shape, seed=seed).requires_grad_() for seed, shape in enumerate(shapes)]
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16, enabled=autocast):
        result = run(*leaves)
        result.backward(normal(*result.shape, seed=9))
    return [result.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("name", OPERATORS)
def test_operators(name: str) -> None:
    run, shapes = OPERATORS[name]
    torch.testing.assert_close(evaluate(run, shapes, True), evaluate(run, shapes, False), rtol=0, atol=0)


def test_autocast_is_off_inside_and_on_again_afterwards() -> None:
    def run(x: Tensor) -> Tensor:
        if torch.is_autocast_enabled(DEVICE.type):
            raise AssertionError
        if not x.numel():
            raise ValueError("empty")
        return x.clone()

    op = operator.define("test_autocast(Tensor x) -> Tensor", run, torch.empty_like)
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        op(normal(4))
        assert torch.is_autocast_enabled(DEVICE.type)
        with pytest.raises(ValueError, match="empty"):
            op(normal(0))
        assert torch.is_autocast_enabled(DEVICE.type)
    op(normal(4))
    assert not torch.is_autocast_enabled(DEVICE.type)


@pytest.mark.parametrize(
    ("make", "options"), [(FusedAdamW, {}), (FusedAdafactor, {"scale_parameter": True, "relative_step": False})]
)
def test_optimizers(make: Any, options: dict[str, Any]) -> None:
    stepped = []
    for autocast in (False, True):
        shapes, dtypes = ((40, 30), (9,)), (torch.float32, torch.bfloat16)
        params = [normal(*shape, dtype=dtype) for shape in shapes for dtype in dtypes]
        optimizer = make(params, lr=1e-3, max_grad_norm=1.0, **options)
        for seed, param in enumerate(params):
            param.grad = normal(*param.shape, dtype=param.dtype, seed=seed)
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16, enabled=autocast):
            optimizer.step()
        stepped.append(params)
    torch.testing.assert_close(*stepped, rtol=0, atol=0)
