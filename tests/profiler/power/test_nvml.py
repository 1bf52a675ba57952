"""NVML, driven by a fake module with the quirks of real drivers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edgeroof.profiler.power.nvml import nvml_meter, probe


class NotSupportedError(Exception):
    def __str__(self) -> str:
        return "Not Supported"


class FakeNvml:
    """As ``pynvml``: methods named in ``missing`` raise NotSupported."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self, missing: tuple[str, ...] = (), name: Any = "NVIDIA H100 80GB HBM3") -> None:
        self.missing, self.name = missing, name
        self.energy_mj, self.power_mw = 1_000_000, 350_000
        self.opened: list[Any] = []

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml") and name in object.__getattribute__(self, "missing"):
            raise_it = NotSupportedError()

            def refuse(*args: object) -> None:
                raise raise_it

            return refuse
        return object.__getattribute__(self, name)

    def nvmlInit(self) -> None:  # noqa: N802
        pass

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        self.opened.append(index)
        return f"handle {index}"

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        self.opened.append(uuid)
        return f"handle {uuid}"

    def nvmlDeviceGetName(self, handle: str) -> Any:  # noqa: N802
        return self.name

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:  # noqa: N802
        return self.energy_mj

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:  # noqa: N802
        return self.power_mw

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: str) -> int:  # noqa: N802
        return 700_000

    def nvmlDeviceGetClockInfo(self, handle: str, kind: int) -> int:  # noqa: N802
        return {1: 1980, 2: 2619}[kind]

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(gpu=93)

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:  # noqa: N802
        return 55

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(used=12_000_000_000)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: str) -> int:  # noqa: N802
        return 4


ORIN = ("nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetPowerUsage", "nvmlDeviceGetEnforcedPowerLimit",
        "nvmlDeviceGetClockInfo", "nvmlDeviceGetUtilizationRates", "nvmlDeviceGetTemperature",
        "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetCurrentClocksThrottleReasons")  # fmt: skip


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_energy_counter_is_preferred_and_is_in_millijoules() -> None:
    nvml, clock = FakeNvml(), Clock()
    with nvml_meter(nvml=nvml, clock=clock, background=False) as meter:
        clock.now += 10
        nvml.energy_mj += 3_500_000
    assert meter.reading is not None
    assert (meter.reading.joules, meter.reading.mean_w) == (3500.0, 350.0)
    assert "energy counter" in meter.method
    assert meter.domain == "GPU board 0 (NVIDIA H100 80GB HBM3)"


def test_without_the_counter_power_in_milliwatts_is_integrated_and_the_averaging_is_named() -> None:
    nvml, clock = FakeNvml(missing=("nvmlDeviceGetTotalEnergyConsumption",)), Clock()
    with nvml_meter(nvml=nvml, clock=clock, background=False) as meter:
        clock.now += 10
        nvml.power_mw = 250_000
    assert meter.reading is not None
    assert meter.reading.joules == 3000.0
    assert "1 s average" in meter.method


def test_an_orin_gives_a_null_meter_with_both_reasons() -> None:
    meter = nvml_meter(nvml=FakeNvml(missing=ORIN, name="Orin"))
    assert not meter.available
    assert meter.reason == "NVML has neither energy (Not Supported) nor power (Not Supported) for Orin"


def test_a_failing_start_is_a_reason() -> None:
    meter = nvml_meter(nvml=FakeNvml(missing=("nvmlInit",)))
    assert (meter.available, meter.reason) == (False, "NVML: Not Supported")


def test_a_missing_gpu_is_a_reason() -> None:
    assert not nvml_meter(7, nvml=FakeNvml(missing=("nvmlDeviceGetHandleByIndex",))).available


def test_older_bindings_give_names_as_bytes() -> None:
    assert nvml_meter(nvml=FakeNvml(name=b"Tesla T4")).domain == "GPU board 0 (Tesla T4)"


@pytest.mark.parametrize(
    ("visible", "index", "opened"),
    [("", 1, 1), ("3,5", 1, 5), ("GPU-abc, GPU-def", 1, "GPU-def"), ("2", 1, 1)],
)
def test_devices_are_counted_as_cuda_counts_them(
    monkeypatch: pytest.MonkeyPatch, visible: str, index: int, opened: Any
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    nvml = FakeNvml()
    nvml_meter(index, nvml=nvml)
    assert nvml.opened == [opened]


def test_every_metric_is_probed_by_itself() -> None:
    metrics = {metric.name: metric for metric in probe(nvml=FakeNvml(missing=("nvmlDeviceGetPowerUsage",)))}
    assert metrics["power"].value is None
    assert metrics["power"].reason == "Not Supported"
    assert metrics["SM clock"].value == "1980 MHz"
    assert metrics["memory clock"].value == "2619 MHz"
    assert metrics["energy"].value == "1000.0 J since the driver was loaded"
    assert metrics["utilisation"].value == "93 %"


def test_an_orin_has_no_metric_but_every_reason() -> None:
    metrics = probe(nvml=FakeNvml(missing=ORIN, name="Orin"))
    assert len(metrics) >= 8
    assert {(metric.value, metric.reason) for metric in metrics} == {(None, "Not Supported")}


def test_a_function_unknown_to_an_old_binding_is_a_reason() -> None:
    nvml = FakeNvml()
    old = SimpleNamespace(
        **{name: getattr(nvml, name) for name in dir(nvml) if "Throttle" not in name and name[:2] != "__"}
    )
    metrics = {metric.name: metric for metric in probe(nvml=old)}
    assert metrics["throttling"].value is None
    assert "Throttle" in metrics["throttling"].reason
    assert metrics["power"].value == "350.0 W"
