"""A client step profiled on a real GPU."""

from pathlib import Path

import pytest

import edgeroof
import edgeroof.errors
import edgeroof.profiler.run
from edgeroof import api
from edgeroof.profiler.calibrate import calibrate
from edgeroof.profiler.capture import CaptureOptions
from edgeroof.profiler.device import detect

pytestmark = pytest.mark.gpu

SETTINGS = {"model": "small", "batch_size": 4, "source_length": 128, "target_length": 32}


@pytest.fixture(autouse=True, scope="module")
def needs_cuda() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine")


@pytest.fixture(scope="module")
def run(needs_cuda: None, tmp_path_factory: pytest.TempPathFactory) -> edgeroof.profiler.run.Run:
    folder = tmp_path_factory.mktemp("gpu") / "run"
    return edgeroof.profile(out=folder, options=CaptureOptions(steps=3), optimizer="adamw-fused", **SETTINGS)


def test_kernels_are_linked_and_priced(run) -> None:
    ledger = run.summary["ledger"]
    assert ledger["linked_share"] >= 0.99
    assert ledger["priced_share"]["exact"] >= 0.97
    assert run.summary["alignment"]["ok"]


def test_every_phase_has_kernels_and_times(run) -> None:
    phases = run.phases.set_index("phase")
    for name in ("forward", "loss", "backward", "optimizer"):
        assert phases.at[name, "kernels"] > 0, name
        assert phases.at[name, "device_ms"] > 0, name


def test_backward_kernels_know_their_module(run) -> None:
    products = run.kernels[(run.kernels["op"] == "aten::mm") & (run.kernels["phase"] == "backward")]
    assert (products["module"] != "").mean() > 0.95


def test_fused_adamw_moves_28_bytes_per_parameter(run) -> None:
    moved = {entry["op"]: entry["bytes_per_parameter"] for entry in run.summary["optimizer"]["ops"]}
    assert moved["aten::_fused_adamw_"] == pytest.approx(28.0)


def test_no_roof_is_beaten_by_much(run) -> None:
    """Large kernels cannot come from a cache; one far above its roof would be a wrong count."""
    large = run.kernels[run.kernels["bytes_read"] + run.kernels["bytes_written"] > 500e6]
    assert (large["roof_fraction"] < 1.15).all()


def test_phase_times_add_up_to_the_step(run) -> None:
    step_ms = run.summary["metrics"]["step_time_ms"]["median"]
    assert run.phases["device_ms"].sum() == pytest.approx(step_ms, rel=0.15)


def test_measured_roofs_stay_below_the_spec() -> None:
    device = calibrate(detect())
    if device.spec is None:
        pytest.skip(f"no data sheet for {device.title}")
    assert 0.5 < device.measured.bandwidth / device.spec.bandwidth < 1.05
    for unit, peaks in device.measured.peaks.items():
        for dtype, rate in peaks.items():
            spec = device.spec.peak(dtype, unit)
            assert spec is None or rate < 1.1 * spec.flops_per_s, (unit, dtype)


@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp16"])
def test_products_run_on_matrix_units(precision: str, tmp_path: Path) -> None:
    run = edgeroof.profile(out=tmp_path / "run", options=CaptureOptions(steps=1), precision=precision, **SETTINGS)
    products = run.kernels[run.kernels["op"].isin(["aten::mm", "aten::bmm", "aten::addmm"])]
    priced = products[products["flops"] > 0]
    assert (priced["unit"] == "tensor").mean() > 0.9
    assert set(priced["dtype"]) & {precision}


def test_a_wrong_device_name_is_refused() -> None:
    found = detect()
    other = "h100" if found.name != "h100" else "a100"
    if found.spec is None:
        pytest.skip("any description is believed for a GPU without a data sheet")
    with pytest.raises(edgeroof.errors.DeviceError, match="this machine is"):
        api.this_machine(other)
