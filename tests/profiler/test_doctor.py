"""The doctor: what it says on fake machines, and that nothing makes it raise."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgeroof.profiler import doctor
from edgeroof.profiler.doctor import Check, Surroundings, examine


class NoDriver:
    """NVML without a driver."""

    @staticmethod
    def nvmlInit() -> None:  # noqa: N802
        raise RuntimeError("NVML Shared Library Not Found")


def run(check: object, **around: object) -> list[Check]:
    return doctor._run(check, Surroundings(**{"nvml": NoDriver, **around}))  # type: ignore[arg-type]


def cuda_torch(version: str = "12.6", available: bool = True) -> SimpleNamespace:
    cuda = SimpleNamespace(is_available=lambda: available)
    return SimpleNamespace(cuda=cuda, version=SimpleNamespace(cuda=version))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def jetson(root: Path) -> Path:
    write(root / "proc/device-tree/model", "NVIDIA Jetson AGX Orin Developer Kit\0")
    return root


def test_every_line_that_is_not_ok_has_a_remedy_on_this_machine() -> None:
    lines = examine()
    names = {line.name for line in lines}
    assert {"python", "torch", "CUPTI", "RAPL", "nvtx", "transformers", "triton", "peft", "disk", "cache"} <= names
    assert all(line.remedy for line in lines if line.status != "ok")
    assert all(line.detail for line in lines)


def test_a_check_that_breaks_is_a_line_and_the_others_still_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def check_the_moon(around: Surroundings) -> list[Check]:
        raise OSError("no moon")

    monkeypatch.setattr(doctor, "CHECKS", (check_the_moon, doctor.check_python))
    broken, python = examine()
    assert (broken.name, broken.status) == ("the moon", "fail")
    assert "no moon" in broken.detail
    assert python.status == "ok"


@pytest.mark.parametrize(
    ("cuda", "is_root", "status", "words"),
    [("12.6", False, "fail", "refused"), ("13.0", False, "fail", "crash"), ("12.6", True, "ok", "root")],
)
def test_tracing_on_a_jetson_needs_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cuda: str, is_root: bool, status: str, words: str
) -> None:
    monkeypatch.setattr(doctor, "_import", lambda name: cuda_torch(cuda))
    (line,) = run(doctor.check_cupti, root=jetson(tmp_path), is_root=is_root)
    assert line.status == status
    assert words in line.detail


@pytest.mark.parametrize(("setting", "is_root", "status"), [(1, False, "warn"), (1, True, "ok"), (0, False, "ok")])
def test_counters_kept_for_administrators_are_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: int, is_root: bool, status: str
) -> None:
    monkeypatch.setattr(doctor, "_import", lambda name: cuda_torch())
    write(tmp_path / "proc/driver/nvidia/params", f"EnableMSI: 1\nRmProfilingAdminOnly: {setting}\n")
    (line,) = run(doctor.check_cupti, root=tmp_path, is_root=is_root)
    assert line.status == status
    assert ("NVreg_RestrictProfilingToAdminUsers=0" in line.remedy) == (status == "warn")


def test_cupti_without_a_gpu_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_import", lambda name: None)
    (line,) = run(doctor.check_cupti)
    assert line.status == "absent"


def test_a_jetson_whose_pytorch_sees_no_gpu_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    line = run(doctor.check_torch, root=jetson(tmp_path))[-1]
    assert line.status == "fail"
    assert "NVIDIA's PyTorch wheel" in line.remedy


def test_a_loaded_driver_without_cuda_in_pytorch_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    write(tmp_path / "proc/driver/nvidia/version", "NVRM version: 550\n")
    assert run(doctor.check_torch, root=tmp_path)[-1].status == "fail"


def test_nvml_without_a_driver_is_absent_with_its_reason() -> None:
    (line,) = run(doctor.check_nvml)
    assert (line.name, line.status) == ("NVML", "absent")
    assert "Shared Library" in line.detail


def test_rails_are_listed_one_by_one_with_their_role(tmp_path: Path) -> None:
    folder = jetson(tmp_path) / "sys/class/hwmon/hwmon1"
    write(folder / "name", "ina3221\n")
    for channel, label in enumerate(("VDD_IN", "VDD_CPU_GPU_CV"), start=1):
        write(folder / f"in{channel}_label", label + "\n")
        write(folder / f"in{channel}_input", "5000\n")
        write(folder / f"curr{channel}_input", "1000\n")
    total, part = run(doctor.check_jetson_rails, root=tmp_path)
    assert (total.name, total.detail) == ("rail VDD_IN", "5.00 W, counted")
    assert part.detail == "5.00 W, part of a counted rail"


def test_a_jetson_without_rails_fails_and_another_machine_lacks_them(tmp_path: Path) -> None:
    assert run(doctor.check_jetson_rails, root=tmp_path)[0].status == "absent"
    assert run(doctor.check_jetson_rails, root=jetson(tmp_path))[0].status == "fail"


@pytest.mark.parametrize(("free", "status"), [(1e12, "ok"), (1e9, "warn"), (1e7, "fail")])
def test_disk_space_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, status: str) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1e13, 0, int(free)))
    (line,) = run(doctor.check_disk, run_folder=tmp_path)
    assert line.status == status
    assert str(tmp_path) in line.detail


def test_a_cache_that_cannot_be_written_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (line,) = run(doctor.check_cache)
    assert line.status == "warn"
    assert "XDG_CACHE_HOME" in line.remedy


def test_a_missing_needed_package_fails_and_an_optional_one_is_absent() -> None:
    assert doctor._package("no_such_package", True, "get it").status == "fail"
    assert doctor._package("no_such_package", False, "get it").status == "absent"


def test_a_package_whose_import_breaks_is_not_ok(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "edgeroof_broken_package.py", "raise OSError('libfoo.so not found')")
    monkeypatch.syspath_prepend(tmp_path)
    line = doctor._package("edgeroof_broken_package", True, "pip install it")
    assert line.status == "fail"
    assert "libfoo.so" in line.detail


def test_what_a_container_hides_of_a_board_is_told(tmp_path: Path) -> None:
    """Docker hides the device tree; the file that says "Jetson" all the same is mounted."""
    write(tmp_path / "etc/nv_tegra_release", "# R36")
    model, mode = run(doctor.check_board, root=tmp_path)
    assert (model.status, mode.status) == ("warn", "warn")
    assert "systempaths=unconfined" in model.remedy
    assert "/var/lib/nvpmodel" in mode.remedy
    write(jetson(tmp_path) / "var/lib/nvpmodel/status", "pmode:0002")
    assert [line.detail for line in run(doctor.check_board, root=tmp_path)] == [
        "NVIDIA Jetson AGX Orin Developer Kit",
        "number 2",
    ]
    assert [line.status for line in run(doctor.check_board, root=tmp_path / "a PC")] == ["absent"]
