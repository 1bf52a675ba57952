"""The promises about FLAN-T5-small, on the model itself with short sequences."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import edgeroof
import edgeroof.profiler.run
from edgeroof.profiler.capture import CaptureOptions
from edgeroof.profiler.costs import matmul, price
from edgeroof.profiler.recorder import OpRecorder
from edgeroof.workloads.client import ClientConfig, build_client_step

SHORT = {"model": "small", "batch_size": 1, "source_length": 48, "target_length": 16, "dialogues": 4}


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_matmul_flops_equal_those_of_torch(attention: str) -> None:
    step = build_client_step(ClientConfig(attention=attention, steps=1, **SHORT))
    with FlopCounterMode(display=False) as counter:
        step.run(step.batches[0])
    with OpRecorder(step.model) as recorder:
        step.run(step.batches[0])
    flops = sum(price(record).flops for record in recorder.records if record.name in matmul.RULES)
    assert flops == counter.get_total_flops() > 1e9


@pytest.fixture(scope="module", params=["adamw-fused", "adamw-foreach"])
def run(request: pytest.FixtureRequest) -> edgeroof.profiler.run.Run:
    return edgeroof.profile(options=CaptureOptions(steps=1, profiled_steps=1), optimizer=request.param, **SHORT)


def test_coverage(run) -> None:
    assert run.summary["ledger"]["priced_share"]["exact"] >= 0.97
    assert run.summary["ledger"]["linked_share"] >= 0.99
    assert run.summary["alignment"]["ok"]


def test_optimizer_bytes_per_parameter(run) -> None:
    optimizer = run.summary["optimizer"]
    assert optimizer["parameters"] == 76_961_152
    if run.summary["workload"]["optimizer"] == "adamw-fused":
        moved = {entry["op"]: entry["bytes_per_parameter"] for entry in optimizer["ops"]}
        assert moved["aten::_fused_adamw_"] == 28.0
        assert optimizer["passes"] == pytest.approx(1, abs=1e-4)
    else:
        assert optimizer["bytes_per_parameter"] == pytest.approx(80, abs=0.01)
        assert optimizer["passes"] == pytest.approx(7, abs=1.01)


def test_mfu_names_its_denominator(run) -> None:
    mfu = run.summary["metrics"]["mfu"]
    assert "peak" in mfu["denominator"]
    seconds = run.summary["metrics"]["step_time_ms"]["median"] / 1e3
    peak = run.summary["device"]["roofs"][-1]["peaks_gflops"]["vector"]["fp32"] * 1e9
    assert mfu["value"] == pytest.approx(mfu["model_flops"] / seconds / peak)


def test_torch_threads_are_in_the_report(run) -> None:
    assert run.summary["environment"]["torch_threads"] == torch.get_num_threads()
