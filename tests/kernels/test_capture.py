"""Steps under CUDA-graph capture, as far as no GPU is needed: a host that says it is capturing, and replays by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from edgeroof.kernels.optim import FusedAdafactor, adamw_triton, engine, fused, plan, pointers
from edgeroof.kernels.optim.errors import OptimizerError
from edgeroof.kernels.optim.pointers import CapturableUpload, Upload
from edgeroof.kernels.support import on_device

from .optim_cases import DEVICE, SMALL, make_params, needs_triton, set_grads, train, truth, ulp, worst
from .optim_cases import fused as make_fused

pytestmark = [needs_triton, pytest.mark.skipif(DEVICE.type == "cuda", reason="a GPU captures for real, see tests/gpu")]

Capturing = Callable[[bool], None]


@pytest.fixture
def capturing(monkeypatch: pytest.MonkeyPatch) -> Capturing:
    """Switches capture on and off."""

    def switch(on: bool) -> None:
        for module in (pointers, engine, plan, fused):
            monkeypatch.setattr(module, "is_capturing", lambda device: on)

    return switch


def table_of(optimizer: Any) -> pointers.PointerTable:
    (bucket,) = optimizer._plan.engine.buckets
    return bucket.pointers


def replay(optimizer: Any) -> None:
    """What a replay does to the pointer table: the captured copy runs again."""
    upload = table_of(optimizer)._upload
    upload.device_tensor.copy_(upload._in_graphs[-1])


class Seen(TorchDispatchMode):
    """Names of the ops that a piece of code dispatches."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("options", [{}, {"max_grad_norm": 1.0}, {"state_dtype": "int8"}])
def test_a_captured_step_allocates_nothing_and_asks_the_device_nothing(
    monkeypatch: pytest.MonkeyPatch, capturing: Capturing, options: dict
) -> None:
    params = make_params(SMALL[:2])
    optimizer = make_fused(params, "triton", **options)
    train(optimizer, params, 2)
    for kernel in ("launch_prepare", "launch_update"):
        monkeypatch.setattr(adamw_triton.AdamWBucket, kernel, lambda *args, **kwargs: None)
    monkeypatch.setattr(engine._BucketNorm, "launch", lambda self: None)
    monkeypatch.setattr(Upload, "_buffer", lambda self, host: pytest.fail("pinned memory under capture"))
    capturing(True)
    with Seen() as seen:
        optimizer.step()
    assert seen.names.count("aten::copy_") == 1  # of the table, out of memory that was pinned before
    assert {name for name in seen.names if name.startswith("aten::")} <= {"aten::copy_", "aten::detach"}


def test_a_rate_on_the_device_is_read_there(monkeypatch: pytest.MonkeyPatch, capturing: Capturing) -> None:
    """A CUDA tensor would be asked for its value by ``float``; here the device only says that it is one."""
    copied = []
    optimizer = make_fused(make_params(SMALL[:1]), "triton", lr=torch.tensor(1e-2))
    train(optimizer, optimizer.param_groups[0]["params"], 1)
    made = optimizer._plan.engine
    monkeypatch.setattr(made, "device", _Says(made.device))
    monkeypatch.setattr(made, "set_hyperparameters", lambda hyper, rates: copied.append((hyper[0, 0], rates)))
    optimizer.refresh_hyperparameters()
    ((rate, rates),) = copied
    assert rate == 0.0
    assert rates == [(0, optimizer.param_groups[0]["lr"])]


class _Says:
    """A CPU that says it is a GPU."""

    type = "cuda"

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __eq__(self, other: object) -> bool:
        return other == self._device

    __hash__ = None  # type: ignore[assignment]


def test_eager_steps_after_a_replay_use_their_own_gradients(capturing: Capturing) -> None:
    params = make_params(SMALL[:2])
    values = truth(params, 4)
    optimizer = make_fused(params, "triton")
    train(optimizer, params, 1)
    capturing(True)
    set_grads(params, 1)
    captured = [param.grad for param in params]
    optimizer.step()
    capturing(False)
    for step in (2, 3):
        for param in params:
            param.grad = None
        set_grads(params, step)
        replay(optimizer)  # brings the captured gradients' addresses back
        optimizer.step()
    assert worst(params, values) <= 4 * ulp(params)
    assert captured[0] is not params[0].grad


def test_hyperparameters_are_never_part_of_a_graph(capturing: Capturing) -> None:
    params = make_params(SMALL[:1])
    optimizer = make_fused(params, "triton", lr=1e-2)
    train(optimizer, params, 1)
    optimizer.param_groups[0]["lr"] = 0.0
    capturing(True)
    with pytest.raises(OptimizerError, match="refresh_hyperparameters"):
        optimizer.step()
    capturing(False)
    optimizer.refresh_hyperparameters()
    capturing(True)
    before = params[0].detach().clone()
    optimizer.step()
    assert torch.equal(params[0], before)


def test_adafactor_refreshes_its_hyperparameters_too() -> None:
    params = make_params([(3,)])
    optimizer = FusedAdafactor(params, lr=1e-2, relative_step=False, backend="triton")
    train(optimizer, params, 1)
    optimizer.param_groups[0]["lr"] = 0.5
    optimizer.refresh_hyperparameters()
    assert float(optimizer._plan.engine._hyper.device_tensor[0, 0]) == 0.5


def test_every_capture_needs_an_eager_step_before(capturing: Capturing) -> None:
    params = make_params(SMALL[:1])
    optimizer = make_fused(params, "triton")
    set_grads(params, 0)
    capturing(True)
    with pytest.raises(OptimizerError, match="must run once"):
        optimizer.step()
    capturing(False)
    optimizer.step()
    capturing(True)
    optimizer.step()
    with pytest.raises(OptimizerError, match="more than one step is captured"):
        optimizer.step()
    capturing(False)
    optimizer.step()
    capturing(True)
    optimizer.step()
    assert len(table_of(optimizer)._upload._in_graphs) == 2


def test_what_a_graph_uses_outlives_a_new_plan(capturing: Capturing) -> None:
    params = make_params(SMALL[:2])
    optimizer = make_fused(params[:1], "triton")
    train(optimizer, params[:1], 1)
    capturing(True)
    optimizer.step()
    capturing(False)
    first = optimizer._plan.engine
    optimizer.add_param_group({"params": params[1:]})
    train(optimizer, params, 1, first=1)
    assert optimizer._plan.engine is not first
    assert optimizer._captured is first


class _Queue:
    """A device tensor whose copies happen later."""

    device = DEVICE

    def __init__(self) -> None:
        self.sources: list[torch.Tensor] = []

    def copy_(self, source: torch.Tensor, non_blocking: bool) -> None:
        assert non_blocking
        self.sources.append(source)


@pytest.mark.parametrize("kind", [Upload, CapturableUpload])
def test_the_host_never_writes_what_a_copy_still_reads(kind: type[Upload], capturing: Capturing) -> None:
    host = np.array([1, 2])
    upload = kind(host, DEVICE)
    upload.device_tensor = _Queue()  # type: ignore[assignment]
    upload.write(host)
    host[:] = 3, 4
    upload.write(host)
    if isinstance(upload, CapturableUpload):
        capturing(True)
        upload.write(host)
        capturing(False)
        upload.replenish()
        host[:] = 5, 6
        upload.write(host)
    expected = [[1, 2], [3, 4]] + ([[3, 4], [5, 6]] if kind is CapturableUpload else [])
    assert [source.tolist() for source in upload.device_tensor.sources] == expected  # type: ignore[attr-defined]


def test_launches_and_questions_go_to_the_parameters_device(monkeypatch: pytest.MonkeyPatch) -> None:
    entered = []

    class Guard:
        def __init__(self, device: torch.device) -> None:
            self._device = device

        def __enter__(self) -> None:
            entered.append(self._device)

        def __exit__(self, *exc_info: object) -> None:
            pass

    second = torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "device", Guard)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: bool(entered))
    assert pointers.is_capturing(second)
    assert not pointers.is_capturing(torch.device("cpu"))
    with on_device(second):
        pass
    assert entered == [second, second]
    with on_device(torch.device("cuda", 0)):
        assert entered == [second, second]


def test_gpus_beyond_one_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "uses_triton", lambda param, backend: True)
    params = [*make_params([(3,)]), torch.nn.Parameter(torch.zeros(3, device="meta"))]
    for param in params:
        param.grad = torch.zeros_like(param)
    with pytest.raises(OptimizerError, match="on 2 GPUs; give each of them an optimizer of its own"):
        make_fused(params, "auto").step()
