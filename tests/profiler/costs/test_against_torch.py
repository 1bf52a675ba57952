"""FLOPs against PyTorch's own counter, bytes against what the optimizers' arithmetic says, on a real step."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from edgeroof.profiler.costs import matmul, price
from edgeroof.profiler.ops import OpRecord
from edgeroof.profiler.recorder import OpRecorder

from ..tiny_t5 import tiny_t5, training_step


def recorded(model: torch.nn.Module, run) -> list[OpRecord]:
    with OpRecorder(model) as recorder:
        run()
    return recorder.records


def matmul_flops(records: list[OpRecord]) -> float:
    return sum(price(record).flops for record in records if record.name in matmul.RULES)


def counted_flops(run) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_matmul_flops_of_a_training_step(attention: str) -> None:
    model = tiny_t5(attention)
    step = training_step(model, torch.optim.AdamW(model.parameters()))
    assert matmul_flops(recorded(model, step)) == counted_flops(step) > 0


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("conv2d", lambda x: F.conv2d(x, torch.ones(6, 4, 3, 3), stride=2, padding=1)),
        ("grouped", lambda x: F.conv2d(x, torch.ones(8, 1, 3, 3), groups=4)),
        ("transposed", lambda x: F.conv_transpose2d(x, torch.ones(4, 6, 3, 3), stride=2)),
        ("baddbmm", lambda x: torch.baddbmm(torch.ones(2, 16, 5), x[:, 0], torch.ones(2, 16, 5))),
        ("mv", lambda x: x[0, 0] @ torch.ones(16)),
    ],
)
def test_matmul_family_agrees_with_torch(name: str, run) -> None:
    x = torch.ones(2, 4, 16, 16)
    expected = counted_flops(lambda: run(x))
    if name == "mv":
        expected = 2 * 16 * 16  # torch's counter does not know matrix-vector products
    assert matmul_flops(recorded(torch.nn.Identity(), lambda: run(x))) == expected


def test_convolution_backward_agrees_with_torch() -> None:
    x, weight = torch.ones(2, 4, 16, 16, requires_grad=True), torch.ones(6, 4, 3, 3, requires_grad=True)

    def run() -> None:
        F.conv2d(x, weight).sum().backward()

    assert matmul_flops(recorded(torch.nn.Identity(), run)) == counted_flops(run)


def test_fused_attention_agrees_with_torch_forward_and_backward() -> None:
    """PyTorch's counter leaves out the CPU's fused attention; its formulas serve all the same."""
    shape = (2, 4, 16, 8)
    query = torch.ones(shape, requires_grad=True)

    def run() -> None:
        F.scaled_dot_product_attention(query, query, query).sum().backward()

    forward, backward = (
        price(record) for record in recorded(torch.nn.Identity(), run) if "scaled_dot_product" in record.name
    )
    assert forward.flops == sdpa_flop_count(shape, shape, shape)
    assert backward.flops == sdpa_backward_flop_count(shape, shape, shape, shape)


def optimizer_bytes_per_parameter(settings: dict, kind=torch.optim.AdamW) -> dict[str, float]:
    model = tiny_t5()
    step = training_step(model, kind(model.parameters(), **settings))
    step()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    totals: dict[str, float] = {}
    for record in recorded(model, step):
        if record.phase == "optimizer":
            totals[record.name] = totals.get(record.name, 0.0) + price(record).bytes / parameters
    return totals


def test_fused_adamw_moves_exactly_28_bytes_per_parameter() -> None:
    assert optimizer_bytes_per_parameter({"fused": True})["aten::_fused_adamw_"] == 28.0


def test_foreach_adamw_moves_what_its_passes_move() -> None:
    totals = optimizer_bytes_per_parameter({"foreach": True})
    passes = {
        "aten::_foreach_mul_": 16,  # p *= 1 - lr·wd, v *= beta2: two passes that read and write one tensor
        "aten::_foreach_lerp_": 12,  # m += (g - m)(1 - beta1)
        "aten::_foreach_addcmul_": 12,  # v += (1 - beta2) g²
        "aten::_foreach_sqrt": 8,
        "aten::_foreach_div_": 8,
        "aten::_foreach_addcdiv_": 16,  # p += m / denominator
    }
    for name, expected in passes.items():
        assert totals[name] == pytest.approx(expected, abs=1e-9), name
    assert sum(totals.values()) == pytest.approx(80, abs=0.1)


def test_fused_sgd_with_momentum_moves_20_bytes_per_parameter() -> None:
    totals = optimizer_bytes_per_parameter({"fused": True, "momentum": 0.9, "lr": 0.1}, torch.optim.SGD)
    assert totals["aten::_fused_sgd_"] == 20.0


def test_every_op_of_a_step_is_priced() -> None:
    for attention in ("eager", "sdpa"):
        model = tiny_t5(attention)
        step = training_step(model, torch.optim.AdamW(model.parameters(), fused=True))
        assert [record.name for record in recorded(model, step) if price(record) is None] == []
