"""Jetson rails, from trees as the boards show them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeroof.profiler.power import find_meter
from edgeroof.profiler.power.jetson import choose_rails, find_rails, jetson_meter


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def ina3221(folder: Path, *channels: tuple[int, str, int, int]) -> None:
    """A monitor with (channel, label, millivolts, milliamperes)."""
    write(folder / "name", "ina3221")
    for channel, label, millivolts, milliamperes in channels:
        write(folder / f"in{channel}_label", label)
        write(folder / f"in{channel}_input", str(millivolts))
        write(folder / f"curr{channel}_input", str(milliamperes))


@pytest.fixture
def agx_orin(tmp_path: Path) -> Path:
    """hwmon0 is something else; the second INA3221 has one connected channel, sums and shunt voltages to ignore."""
    hwmon = tmp_path / "sys/class/hwmon"
    write(hwmon / "hwmon0/name", "tmp451")
    ina3221(
        hwmon / "hwmon1", (1, "VDD_GPU_SOC", 4968, 1200), (2, "VDD_CPU_CV", 4968, 400), (3, "VIN_SYS_5V0", 4968, 800)
    )
    ina3221(hwmon / "hwmon2", (1, "NC", 0, 0), (2, "VDDQ_VDD2_1V8AO", 4968, 200))
    write(hwmon / "hwmon2/in7_label", "sum of shunt voltages")
    write(hwmon / "hwmon2/in7_input", "999999")
    write(tmp_path / "proc/device-tree/model", "NVIDIA Jetson AGX Orin Developer Kit\0")
    return tmp_path


@pytest.fixture
def orin_nx(tmp_path: Path) -> Path:
    ina3221(
        tmp_path / "sys/class/hwmon/hwmon1",
        (1, "VDD_IN", 5000, 2000),
        (2, "VDD_CPU_GPU_CV", 5000, 800),
        (3, "VDD_SOC", 5000, 500),
    )
    return tmp_path


def test_agx_orin_sums_its_four_rails_and_names_them(agx_orin: Path) -> None:
    clock = Clock()
    with jetson_meter(agx_orin, clock=clock, background=False, jtop_total_w=lambda: None) as meter:
        clock.now += 10
    reading = meter.reading
    assert reading is not None
    assert meter.domain == "VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0 + VDDQ_VDD2_1V8AO"
    assert reading.joules == pytest.approx(10 * 4.968 * (1.2 + 0.4 + 0.8 + 0.2))
    assert reading.parts["VDD_GPU_SOC"] == pytest.approx(10 * 4.968 * 1.2)
    assert "no rail measures the whole module" in reading.note


def test_a_module_input_rail_counts_alone(orin_nx: Path) -> None:
    clock = Clock()
    assert len(find_rails(orin_nx)) == 3
    with jetson_meter(orin_nx, clock=clock, background=False, jtop_total_w=lambda: None) as meter:
        clock.now += 10
    assert meter.domain == "VDD_IN"
    assert meter.reading is not None
    assert (meter.reading.joules, meter.reading.note) == (100.0, "")


def test_thor_gives_microwatts(tmp_path: Path) -> None:
    folder = tmp_path / "sys/class/hwmon/hwmon3"
    write(folder / "name", "ina238")
    write(folder / "label", "VDD_GPU")
    write(folder / "power1_input", "45300000")
    (rail,) = choose_rails(find_rails(tmp_path))
    assert (rail.name, rail.read_w()) == ("VDD_GPU", 45.3)


def test_monitors_below_the_i2c_driver_are_found_too(tmp_path: Path) -> None:
    ina3221(tmp_path / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3", (1, "VDD_GPU_SOC", 1000, 1000))
    assert [rail.name for rail in find_rails(tmp_path)] == ["VDD_GPU_SOC"]


def test_power_follows_the_files_while_sampling(orin_nx: Path) -> None:
    clock = Clock()
    with jetson_meter(orin_nx, clock=clock, background=False, jtop_total_w=lambda: None) as meter:
        clock.now += 6
        write(orin_nx / "sys/class/hwmon/hwmon1/curr1_input", "4000")
    assert meter.reading is not None
    assert meter.reading.mean_w == pytest.approx(15.0)


def test_jetson_stats_is_only_a_cross_check(orin_nx: Path) -> None:
    clock = Clock()
    with jetson_meter(orin_nx, clock=clock, background=False, jtop_total_w=lambda: 11.5) as meter:
        clock.now += 10
    assert meter.reading is not None
    assert meter.reading.joules == 100.0
    assert meter.reading.note == "right after the window the rails read 10.0 W and jetson-stats 11.5 W"


def test_no_monitor_is_a_reason(tmp_path: Path) -> None:
    meter = jetson_meter(tmp_path)
    assert not meter.available
    assert "no INA3221 or INA238" in meter.reason


def test_a_rail_that_cannot_be_read_is_a_reason(orin_nx: Path) -> None:
    write(orin_nx / "sys/class/hwmon/hwmon1/in1_input", "garbage")
    assert "cannot be read" in jetson_meter(orin_nx).reason


def test_on_a_jetson_the_rails_come_first_for_gpu_and_cpu(agx_orin: Path) -> None:
    for kind in ("cuda", "cpu"):
        assert find_meter(kind, root=agx_orin).domain.startswith("VDD_GPU_SOC + ")


def test_the_real_thread_samples_at_fifty_hertz_or_more(orin_nx: Path) -> None:
    import time

    with jetson_meter(orin_nx, jtop_total_w=lambda: None) as meter:
        time.sleep(1.0)
    assert meter.reading is not None
    assert meter.reading.samples / meter.reading.seconds >= 50
    assert meter.reading.mean_w == pytest.approx(10.0)
