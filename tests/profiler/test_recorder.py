import pytest
import torch
from torch.utils.checkpoint import checkpoint

from edgeroof.profiler.phases import phase
from edgeroof.profiler.recorder import OpRecorder

from .tiny_t5 import tiny_t5, training_step


@pytest.fixture(scope="module")
def records():
    model = tiny_t5()
    step = training_step(model, torch.optim.AdamW(model.parameters(), fused=True))
    step()
    with OpRecorder(model) as recorder:
        step()
    return recorder.records


def test_every_phase_is_seen(records) -> None:
    assert {record.phase for record in records} == {"forward", "backward", "optimizer"}


def test_forward_ops_know_their_module(records) -> None:
    modules = {record.module for record in records if record.autograd == "forward"}
    assert "encoder.block.1.layer.0.SelfAttention.q" in modules
    assert "decoder.block.0.layer.1.EncDecAttention.o" in modules


def test_backward_products_belong_to_the_module_of_their_forward(records) -> None:
    forward = [record.module for record in records if record.name == "aten::mm" and record.autograd == "forward"]
    backward = [record.module for record in records if record.name == "aten::mm" and record.autograd == "backward"]
    assert all(module for module in backward)
    # Each forward product has two in backward: for its input and its weight (the input of the first has no gradient).
    for module in set(forward):
        assert 1 <= backward.count(module) / forward.count(module) <= 2


def test_optimizer_is_outside_autograd(records) -> None:
    assert {record.autograd for record in records if record.phase == "optimizer"} == {"none"}


def test_summed_gradients_are_accumulation() -> None:
    layer = torch.nn.Linear(4, 4)
    model = torch.nn.Sequential(layer)
    x = torch.ones(2, 4)
    model(x).sum().backward()
    with OpRecorder(model) as recorder, phase("backward"):
        model(x).sum().backward()
    added = [record for record in recorder.records if record.autograd == "accumulate"]
    assert {record.module for record in added} == {"0"}
    assert len(added) == 2


def test_recomputed_ops_are_told_apart() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.GELU())
    x = torch.ones(2, 4, requires_grad=True)
    with OpRecorder(model) as recorder:
        with phase("forward"):
            y = checkpoint(model, x, use_reentrant=False).sum()
        with phase("backward"):
            y.backward()
    recomputed = [record for record in recorder.records if record.autograd == "recompute"]
    assert [record.name for record in recomputed if record.name == "aten::addmm"] == ["aten::addmm"]
    assert recomputed[0].module == "0"


def test_hooks_are_gone_afterwards() -> None:
    model = tiny_t5()
    with pytest.raises(RuntimeError, match="mat1"), OpRecorder(model):
        model.lm_head(torch.ones(2, 3))
    assert all(not module._forward_pre_hooks and not module._forward_hooks for module in model.modules())


def test_keyword_arguments_stand_in_schema_order() -> None:
    a, b = torch.ones(3), torch.ones(3)
    with OpRecorder(torch.nn.Identity()) as recorder:
        torch.add(a, b, alpha=2)
    (record,) = recorder.records
    assert record.args[2] == 2
    assert record.args[0].shape == (3,)
