from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
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


class Scale(torch.nn.Module):
    """Multiplies by a parameter, after an op that autograd knows nothing of."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.zeros(4)
        return torch.sigmoid(x * self.weight)


def backward_modules(records, name: str) -> list[str]:
    return [record.module for record in records if record.name == name and record.autograd == "backward"]


def test_an_op_without_gradient_does_not_claim_the_node_before_it() -> None:
    model = torch.nn.Sequential(Scale(), Scale(), Scale())
    with OpRecorder(model) as recorder:
        with phase("forward"):
            y = model(torch.ones(4))
        with phase("backward"):
            y.sum().backward()
    assert backward_modules(recorder.records, "aten::sigmoid_backward") == ["2", "1", "0"]
    # Each product has a gradient for its input and one for its weight; the first input needs none.
    assert backward_modules(recorder.records, "aten::mul") == ["2", "2", "1", "1", "0"]


def test_sums_of_gradients_inside_the_graph_are_accumulation() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Sigmoid())
    with OpRecorder(model) as recorder:
        with phase("forward"):
            y = model(torch.ones(2, 4))
            loss = (y * y.exp()).sum()
        with phase("backward"):
            loss.backward()
    sums = [record for record in recorder.records if record.name == "aten::add"]
    assert [record.autograd for record in sums] == ["accumulate"]


class Doubled(torch.autograd.Function):
    """An autograd function of a user's own, whose formula adds."""

    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> torch.Tensor:
        return grad + grad


def test_a_users_own_function_belongs_to_its_module() -> None:
    class Doubling(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return Doubled.apply(x)

    model = torch.nn.Sequential(torch.nn.Linear(4, 4), Doubling(), torch.nn.Sigmoid())
    with OpRecorder(model) as recorder:
        with phase("forward"):
            y = model(torch.ones(2, 4))
        with phase("backward"):
            y.sum().backward()
    assert backward_modules(recorder.records, "aten::add") == ["1"]


def test_the_gradient_that_backward_starts_from_is_of_no_module() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4))
    with OpRecorder(model) as recorder:
        for _ in range(2):  # two micro-batches
            with phase("forward"):
                loss = model(torch.ones(2, 4)).sum()
            with phase("backward"):
                loss.backward()
    assert backward_modules(recorder.records, "aten::ones_like") == ["", ""]
    accumulated = [record.module for record in recorder.records if record.autograd == "accumulate"]
    assert set(accumulated) == {"0"}


def on_thread(thread: ThreadPoolExecutor, recorder: OpRecorder, run: Callable[[], object]) -> None:
    """Run with the recorder's mode on another thread; autograd's numbers begin at zero on each."""

    def body() -> None:
        TorchDispatchMode.__enter__(recorder)
        try:
            run()
        finally:
            TorchDispatchMode.__exit__(recorder, None, None, None)

    thread.submit(body).result()


@pytest.mark.parametrize("reentrant", [False, True])
def test_backward_on_another_thread_keeps_its_modules_apart(reentrant: bool) -> None:
    """As on a GPU: recomputation makes nodes on the thread of backward, with numbers that the forward's bear too."""
    model = torch.nn.Sequential(*(torch.nn.Sequential(Scale(), Scale()) for _ in range(3)))
    kept: list[torch.Tensor] = []

    def forward() -> None:
        with phase("forward"):
            y = torch.ones(4, requires_grad=True)
            for block in model:
                y = checkpoint(block, y, use_reentrant=reentrant) if block is not model[1] else block(y)
            kept.append(y.exp())

    def backward() -> None:
        with phase("backward"):
            for y in kept:
                y.sum().backward()

    # Both threads live to the end, as autograd's do: numbers of a thread that ended may come back on another.
    with ThreadPoolExecutor(1) as host, ThreadPoolExecutor(1) as worker, OpRecorder(model) as recorder:
        on_thread(host, recorder, lambda: (forward(), forward()))
        on_thread(worker, recorder, backward)
    expected = ["2.1", "2.0", "1.1", "1.0", "0.1", "0.0"] * 2
    assert backward_modules(recorder.records, "aten::sigmoid_backward") == expected
    recomputed = [r.module for r in recorder.records if r.name == "aten::sigmoid" and r.autograd == "recompute"]
    assert recomputed == ["2.0", "2.1", "0.0", "0.1"] * 2


def test_adapters_injected_by_peft_have_names() -> None:
    peft = pytest.importorskip("peft", reason="LoRA needs the extra `lora`")
    model = peft.get_peft_model(tiny_t5(), peft.LoraConfig(r=4, target_modules=["q", "v"], lora_dropout=0.1))
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with OpRecorder(model) as recorder:
        training_step(model, torch.optim.AdamW(trainable, fused=True))()
    products = [record for record in recorder.records if record.name == "aten::mm"]
    for side in ("forward", "backward"):
        adapters = [record.module for record in products if record.autograd == side and "lora_" in record.module]
        assert any(".SelfAttention.q.lora_A.default" in module for module in adapters)
        assert any(".EncDecAttention.v.lora_B.default" in module for module in adapters)
