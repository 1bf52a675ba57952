"""RAPL, from trees as Linux shows them, and the choice of a meter."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeroof.errors import UsageError
from edgeroof.profiler.power import find_meter
from edgeroof.profiler.power.rapl import find_zones, rapl_meter

RANGE_UJ = 262_143_328_850


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def zone(root: Path, folder: str, name: str, energy_uj: int = 0, range_uj: int = RANGE_UJ) -> Path:
    path = root / "sys/class/powercap" / folder
    path.mkdir(parents=True, exist_ok=True)
    (path / "name").write_text(name + "\n")
    (path / "energy_uj").write_text(f"{energy_uj}\n")
    (path / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return path


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """Two packages; one with core and DRAM; psys; the MMIO interface that repeats package 0."""
    zone(tmp_path, "intel-rapl:0", "package-0")
    zone(tmp_path, "intel-rapl:0:0", "core")
    zone(tmp_path, "intel-rapl:0:1", "dram")
    zone(tmp_path, "intel-rapl:1", "package-1")
    zone(tmp_path, "intel-rapl:2", "psys")
    zone(tmp_path, "intel-rapl-mmio:0", "package-0")
    return tmp_path


def test_packages_and_dram_are_summed_and_nothing_counts_twice(server: Path) -> None:
    assert list(find_zones(server)) == ["package-0", "package-0 dram", "package-1"]
    clock = Clock()
    with rapl_meter(server, clock=clock, background=False) as meter:
        clock.now += 10
        for folder, energy_uj in (("0", 500_000_000), ("0:0", 400_000_000), ("0:1", 50_000_000), ("1", 300_000_000)):
            (server / f"sys/class/powercap/intel-rapl:{folder}/energy_uj").write_text(str(energy_uj))
        (server / "sys/class/powercap/intel-rapl:2/energy_uj").write_text("999000000")
    assert meter.reading is not None
    assert (meter.reading.joules, meter.reading.mean_w) == (850.0, 85.0)
    assert meter.domain == "package-0 + package-0 dram + package-1"


@given(start=st.integers(0, RANGE_UJ - 1), used=st.integers(0, RANGE_UJ - 1))
def test_one_turn_of_the_counter_is_recovered(tmp_path_factory: pytest.TempPathFactory, start: int, used: int) -> None:
    root = tmp_path_factory.getbasetemp() / "wrap"
    path = zone(root, "intel-rapl:0", "package-0", start)
    with rapl_meter(root, background=False) as meter:
        (path / "energy_uj").write_text(str((start + used) % RANGE_UJ))
    assert meter.reading is not None
    assert meter.reading.joules == pytest.approx(used / 1e6, abs=1e-3)


def test_no_permission_is_a_reason_with_the_command_that_helps(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read anything, so the refusal is injected where the file is opened."""
    original = Path.read_text

    def refuse(path: Path, *args: object, **kwargs: object) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return original(path, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "read_text", refuse)
    meter = rapl_meter(server)
    assert not meter.available
    assert "no permission" in meter.reason
    assert "sudo chmod a+r" in meter.reason


def test_a_machine_without_rapl_is_a_reason(tmp_path: Path) -> None:
    assert "no CPU package" in rapl_meter(tmp_path).reason


def test_damaged_counters_are_a_reason(server: Path) -> None:
    (server / "sys/class/powercap/intel-rapl:1/energy_uj").write_text("n/a")
    assert not rapl_meter(server).available


def test_find_meter_takes_rapl_for_a_cpu(server: Path) -> None:
    assert find_meter("cpu", root=server).method == "RAPL energy counters"


def test_find_meter_collects_every_reason(tmp_path: Path) -> None:
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_text("NVIDIA Jetson Orin Nano\0")
    meter = find_meter("cpu", root=tmp_path)
    assert not meter.available
    assert "Jetson:" in meter.reason
    assert "RAPL:" in meter.reason


def test_an_unknown_kind_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="cuda or cpu"):
        find_meter("tpu")
