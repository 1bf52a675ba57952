"""Calibration: a real one with tiny sizes, how a roof is made of measurements, and the cache."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from edgeroof.errors import CalibrationError
from edgeroof.profiler import calibrate as calibration
from edgeroof.profiler import calibrate_cpu, calibrate_cuda
from edgeroof.profiler.calibrate import cache_path, cached_roof, calibrate, read_record
from edgeroof.profiler.calibrate_patterns import PATTERNS, bandwidths, matmuls
from edgeroof.profiler.detect import cpu_device
from edgeroof.profiler.device import Device, Roof, load_device

MIB = 1024**2


def raw(gbs: float = 10.0, share: float = 1.0, fp32: float = 100.0) -> dict[str, Any]:
    """Measurements as a CPU gives them."""
    return {
        "bandwidth": [{"pattern": "copy", "gbs": gbs / 2}, {"pattern": "update", "gbs": gbs}],
        "matmul": [
            {"dtype": dtype, "shape": [2048, 512, 1024], "gflops": rate}
            for dtype, rate in (("fp32", fp32), ("fp32", fp32 / 2), ("fp64", 50.0), ("bf16", 20.0), ("fp16", 30.0))
        ],
        "multiply_add": [{"elements": 4096, "gflops": 8.0}],
        "launch_floor_us": 0.8,
        "cpu_share": share,
    }


@pytest.fixture
def cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return cpu_device()


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Replaces the measurement; each call takes the next of these, the last one again and again."""
    results: list[dict[str, Any]] = [raw()]

    def next_result(device: Device, report: calibration.Progress, quick: bool) -> tuple[Roof, dict[str, Any]]:
        result = results.pop(0) if len(results) > 1 else results[0]
        return calibrate_cpu.assemble(result), result

    monkeypatch.setattr(calibration, "_measure", next_result)
    return results


def test_a_real_calibration_of_this_cpu(cpu: Device) -> None:
    progress: list[tuple[str, float]] = []
    device = calibrate(cpu, quick=True, on_progress=lambda text, done: progress.append((text, done)))
    roof = device.roof
    assert roof.source == "measured"
    assert 1e8 < roof.bandwidth < 1e13
    assert 1e8 < roof.peaks["vector"]["fp32"] < 1e15
    assert set(roof.peaks["tensor"]) == {"bf16", "fp16"}
    assert 0.05 < roof.launch_floor_us < 1000
    shares = [done for _, done in progress]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert not cache_path(cpu).exists()


def test_patterns_count_every_read_and_write_once() -> None:
    """Each pattern's passes are checked against what it does to the three arrays."""
    passes = {pattern.name: pattern.passes for pattern in PATTERNS}
    assert passes == {"copy": 1 + 1, "triad": 2 + 1, "read": 2, "update": 3 * (1 + 1)}
    streams = bandwidths("cpu", 4096, lambda run: (run(), 1e-6)[1])
    assert {s["pattern"]: s["bytes"] for s in streams} == {name: n * 4096 for name, n in passes.items()}
    assert streams[0]["gbs"] == pytest.approx(2 * 4096 / 1e-6 / 1e9)


def test_slow_layouts_are_left_out_after_the_probes() -> None:
    """A product that would blow the budget is skipped, judged by the rate of its own layout."""
    calls: list[bool] = []

    def timer(run: Any) -> float:
        transposed = not run.__closure__[2].cell_contents.is_contiguous()
        calls.append(transposed)
        return 1e-3 if transposed else 1.0

    shapes = ((16, 16, 16), (32, 32, 32), (256, 256, 256))
    found = matmuls("cpu", "bf16", shapes, timer, budget_s=60.0, rounds=1)
    layouts = {(tuple(product["shape"]), product["transposed_weight"]) for product in found}
    assert ((256, 256, 256), True) in layouts
    assert ((256, 256, 256), False) not in layouts
    assert ((32, 32, 32), False) in layouts


def test_the_roof_is_the_best_of_everything_and_its_note_says_what_won() -> None:
    roof = calibrate_cpu.assemble(raw())
    assert roof.bandwidth == 10e9
    assert roof.peaks == {"vector": {"fp32": 100e9, "fp64": 50e9}, "tensor": {"bf16": 20e9, "fp16": 30e9}}
    assert "update pattern" in roof.note
    assert "copy 5.0" in roof.note
    assert "fp32 100 GFLOP/s (2048x512x1024)" in roof.note
    assert "other programs" not in roof.note


def test_a_multiply_add_loop_that_beats_the_products_is_the_vector_roof() -> None:
    fast = raw(fp32=5.0)
    assert calibrate_cpu.assemble(fast).peaks["vector"]["fp32"] == 8e9


def test_cuda_roofs_list_tensor_and_vector_rates() -> None:
    measurements = raw() | {"launch_floor_method": "CUDA graph of 200 kernels"}
    measurements["matmul"].append({"dtype": "tf32", "shape": [1, 2, 3], "gflops": 700.0})
    roof = calibrate_cuda.assemble(measurements)
    assert roof.peaks["vector"] == {"fp32": 100e9, "fp64": 50e9}
    assert roof.peaks["tensor"] == {"fp64": 50e9, "tf32": 700e9, "fp16": 30e9, "bf16": 20e9}
    assert "CUDA graph" in roof.note


def test_second_calibration_comes_from_the_cache_and_force_measures_again(
    cpu: Device, measured: list[dict[str, Any]]
) -> None:
    measured[:] = [raw(gbs=10.0), raw(gbs=20.0)]
    assert calibrate(cpu).roof.bandwidth == 10e9
    assert calibrate(cpu).roof.bandwidth == 10e9
    assert calibrate(cpu, force=True).roof.bandwidth == 20e9
    cached = cached_roof(cpu)
    assert cached is not None
    assert cached.bandwidth == 20e9
    record = read_record(cpu)
    assert record is not None
    assert record["raw"] == raw(gbs=20.0)


def test_another_machine_or_setting_has_its_own_roofs(
    cpu: Device, measured: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrate(cpu)
    assert cached_roof(dataclasses.replace(cpu, title="another CPU")) is None
    assert cached_roof(dataclasses.replace(cpu, cores=99)) is None
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    assert cached_roof(cpu) is None


def test_a_roof_measured_on_a_busy_machine_is_measured_again_and_the_higher_figures_stay(
    cpu: Device, measured: list[dict[str, Any]]
) -> None:
    measured[:] = [raw(gbs=4.0, share=0.5, fp32=90.0), raw(gbs=9.0, share=0.6, fp32=60.0), raw(gbs=8.0), raw(gbs=99.0)]
    first = calibrate(cpu).roof
    assert "other programs took 50 %" in first.note
    second = calibrate(cpu).roof
    assert (second.bandwidth, second.peaks["vector"]["fp32"]) == (9e9, 90e9)
    third = calibrate(cpu).roof
    assert (third.bandwidth, third.peaks["vector"]["fp32"]) == (9e9, 100e9)
    assert calibrate(cpu).roof == third


def test_a_machine_that_is_always_busy_is_not_measured_for_ever(cpu: Device, measured: list[dict[str, Any]]) -> None:
    measured[:] = [raw(gbs=float(number), share=0.1) for number in range(1, 9)]
    assert [calibrate(cpu).roof.bandwidth / 1e9 for _ in range(5)] == [1.0, 2.0, 3.0, 3.0, 3.0]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: "\x00\xff",
        lambda text: text.replace('"version": 1', '"version": 0'),
        lambda text: text.replace('"bandwidth": 10000000000.0', '"bandwidth": -1'),
        lambda text: text.replace('"bandwidth": 10000000000.0', '"bandwidth": "fast"'),
        lambda text: text.replace('"peaks"', '"beaks"'),
        lambda text: text.replace('"fp32": 100000000000.0', '"fp32": NaN'),
        lambda text: text.replace('"contended": false', '"contended": "no"'),
    ],
)
def test_a_damaged_cache_is_measured_anew(cpu: Device, measured: list[dict[str, Any]], damage: Any) -> None:
    calibrate(cpu)
    path = cache_path(cpu)
    text = path.read_text()
    assert damage(text) != text
    path.write_text(damage(text))
    assert cached_roof(cpu) is None
    assert calibrate(cpu).roof.bandwidth == 10e9
    assert json.loads(path.read_text())["roof"]["bandwidth"] == 10e9


def test_a_cache_that_cannot_be_written_does_not_lose_the_measurement(
    cpu: Device, measured: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert calibrate(cpu).roof.bandwidth == 10e9


def test_an_interrupt_leaves_no_half_written_cache(
    cpu: Device, measured: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(calibration.json, "dump", interrupt)
    with pytest.raises(KeyboardInterrupt):
        calibrate(cpu)
    assert list(cache_path(cpu).parent.iterdir()) == []


def test_only_this_machines_device_can_be_calibrated(cpu: Device) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU, so the refusal reads differently")
    with pytest.raises(CalibrationError, match="no CUDA device"):
        calibrate(load_device("orin"))


@pytest.mark.parametrize(
    ("llc_mib", "free_gib", "expected_mib"), [(32, 20, 128), (4, 20, 64), (512, 100, 1024), (None, 20, 128)]
)
def test_cpu_arrays_are_well_beyond_the_cache(llc_mib: int | None, free_gib: int, expected_mib: int) -> None:
    cache = llc_mib * MIB if llc_mib else None
    assert calibrate_cpu.array_bytes(cache, free_gib * 1024 * MIB) == expected_mib * MIB


def test_too_little_memory_is_said_not_measured() -> None:
    with pytest.raises(CalibrationError, match="too little"):
        calibrate_cpu.array_bytes(32 * MIB, 100 * MIB)
    with pytest.raises(CalibrationError, match="too little"):
        calibrate_cuda.array_bytes(50 * MIB, 400 * MIB)


def test_unified_memory_is_judged_by_mem_available(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a Jetson mem_get_info leaves out what the page cache would give back."""
    monkeypatch.setattr(calibrate_cuda, "available_memory", lambda: 12345)
    assert calibrate_cuda.free_memory(load_device("orin")) == 12345


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_real_calibration_of_this_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeroof.profiler.device import detect

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    roof = calibrate(detect(), quick=True).roof
    assert roof.bandwidth > 1e9
    assert roof.peaks["vector"]["fp32"] > 1e9
    assert 0.1 < roof.launch_floor_us < 1000
