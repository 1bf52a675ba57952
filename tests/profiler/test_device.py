"""Devices: files and their validation, scaling, fallbacks of peaks, detection from fake machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeroof.errors import DeviceError, UsageError
from edgeroof.profiler.detect import CudaInfo, cpu_device, detect_device
from edgeroof.profiler.device import Peak, Roof, detect, known_devices, load_device, template_path
from edgeroof.profiler.device_files import GIB, SHIPPED, user_folder

ORIN = CudaInfo("Orin", (8, 7), 16, int(61.4 * GIB), 4 * 1024**2, True)
AGX_MODEL = "NVIDIA Jetson AGX Orin Developer Kit"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return user_folder()


@pytest.fixture
def jetson(tmp_path: Path) -> Path:
    """An AGX Orin in 30 W mode, as Jetson Linux 36 shows it."""
    root = tmp_path / "root"
    write(root / "proc/device-tree/model", AGX_MODEL + "\0")
    write(root / "var/lib/nvpmodel/status", "pmode:0002\n")
    write(
        root / "etc/nvpmodel.conf",
        "# modes\n< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=2 NAME=MODE_30W >\nGPU MAX_FREQ 612000000\n",
    )
    gpu = root / "sys/class/devfreq/17000000.gpu"
    write(gpu / "max_freq", "612000000\n")
    write(gpu / "cur_freq", "306000000\n")
    write(root / "sys/kernel/nvpmodel_clk_cap/emc", "3199000000\n")
    write(root / "sys/devices/platform/gpu.0/tpc_pg_mask", "240\n")
    return root


# --- shipped files -------------------------------------------------------------------------------------------------


def test_shipped_devices_are_known_and_the_template_is_not() -> None:
    shipped = "a100 a100-pcie a100-pcie-40gb h100 h100-pcie h200 l4 orin p100-pcie-16gb p4 t4 v100-pcie-32gb"
    assert known_devices() == shipped.split()


@pytest.mark.parametrize(
    ("name", "fp32", "tf32", "bf16", "bandwidth", "sms", "l2_mib", "capability"),
    [
        ("orin", 5.3e12, 21.25e12, 42.5e12, 204.8e9, 16, 4, (8, 7)),
        ("a100", 19.5e12, 156e12, 312e12, 2039e9, 108, 40, (8, 0)),
        ("a100-pcie", 19.5e12, 156e12, 312e12, 1935e9, 108, 40, (8, 0)),
        ("h100", 67e12, 494e12, 989e12, 3352e9, 132, 50, (9, 0)),
        ("h200", 67e12, 494e12, 989e12, 4800e9, 132, 50, (9, 0)),
    ],
)
def test_shipped_figures_are_the_dense_ones(
    name: str,
    fp32: float,
    tf32: float,
    bf16: float,
    bandwidth: float,
    sms: int,
    l2_mib: int,
    capability: tuple[int, int],
) -> None:
    device = load_device(name)
    assert device.spec is not None
    peaks = device.spec.peaks
    assert peaks["vector"]["fp32"] == pytest.approx(fp32, rel=0.006)
    assert peaks["tensor"]["tf32"] == pytest.approx(tf32, rel=0.002)
    assert peaks["tensor"]["bf16"] == peaks["tensor"]["fp16"] == pytest.approx(bf16, rel=0.002)
    assert device.spec.bandwidth == bandwidth
    assert (device.sm_count, device.l2_bytes, device.compute_capability) == (sms, l2_mib * 1024**2, capability)


@pytest.mark.parametrize("name", ["orin", "a100", "a100-pcie", "h100", "h200"])
def test_every_figure_has_a_source(name: str) -> None:
    device = load_device(name)
    assert device.spec is not None
    for unit, rates in device.spec.peaks.items():
        for dtype in rates:
            assert device.sources[f"peaks.{unit}.{dtype}"]
    for figure in ("sm_count", "l2_mib", "memory_gib", "bandwidth_gbs", "launch_floor_us"):
        assert device.sources[f"figures.{figure}"]
    for mode in device.power_modes:
        assert "nvpmodel" in device.sources[f"power_modes.{mode}"]


def test_clocks_in_the_files_reproduce_the_bandwidth_and_the_vector_peak() -> None:
    bus_bits = {"orin": 256, "a100": 5120, "a100-pcie": 5120, "h100": 5120}
    cores_per_sm = {"orin": 128, "a100": 64, "a100-pcie": 64, "h100": 128, "h200": 128}
    from edgeroof.profiler.device_files import read_device_file

    for name in cores_per_sm:
        file = read_device_file(SHIPPED / f"{name}.toml")
        fp32 = file.peaks["vector"]["fp32"]
        assert fp32.at_mhz is not None
        assert fp32.flops_per_s == pytest.approx(file.sm_count * cores_per_sm[name] * 2 * fp32.at_mhz * 1e6, rel=0.002)
        if name in bus_bits:
            assert file.emc_mhz is not None
            assert file.bandwidth == pytest.approx(bus_bits[name] / 8 * 2 * file.emc_mhz * 1e6, rel=0.001)


# --- scaling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "gpu", "sms", "emc"),
    [("MAXN", 1300, 16, 3200), ("15W", 408, 6, 2133), ("30W", 612, 8, 3200), ("50W", 816, 16, 3200)],
)
def test_power_modes_scale_compute_by_clock_and_sms_and_memory_by_emc(
    mode: str, gpu: float, sms: int, emc: float
) -> None:
    full, scaled = load_device("orin", power_mode="MAXN"), load_device("orin", power_mode=mode)
    assert full.spec is not None
    assert scaled.spec is not None
    assert scaled.spec.peaks["vector"]["fp32"] == pytest.approx(sms * 128 * 2 * gpu * 1e6)
    ratio = scaled.spec.peaks["tensor"]["bf16"] / full.spec.peaks["tensor"]["bf16"]
    assert ratio == pytest.approx(gpu / 1300 * sms / 16)
    assert scaled.spec.bandwidth == pytest.approx(204.8e9 * emc / 3200)
    assert (scaled.power_mode, scaled.sm_count) == (mode, sms)


def test_nvpmodel_spelling_of_a_mode_is_understood() -> None:
    assert load_device("orin", power_mode="MODE_30W").spec == load_device("orin", power_mode="30w").spec


@given(gpu=st.floats(100, 2000), emc=st.floats(200, 4000))
def test_explicit_clocks_override_the_mode(gpu: float, emc: float) -> None:
    spec = load_device("orin", power_mode="15W", gpu_mhz=gpu, emc_mhz=emc).spec
    assert spec is not None
    assert spec.peaks["vector"]["fp32"] == pytest.approx(6 * 128 * 2 * gpu * 1e6)
    assert spec.bandwidth == pytest.approx(204.8e9 * emc / 3200)
    assert "given" in spec.note


def test_hopper_tensor_peaks_scale_from_their_own_clock() -> None:
    spec = load_device("h100", gpu_mhz=915).spec
    assert spec is not None
    assert spec.peaks["tensor"]["bf16"] == pytest.approx(989.4e12 / 2)
    assert spec.peaks["vector"]["fp32"] == pytest.approx(66.9e12 * 915 / 1980)


def test_the_default_mode_is_named_as_such() -> None:
    device = load_device("orin")
    assert device.power_mode == "MAXN"
    assert device.spec is not None
    assert "default of the file" in device.spec.note
    explicit = load_device("orin", power_mode="MAXN").spec
    assert explicit is not None
    assert "default" not in explicit.note


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "orin", "power_mode": "20W"}, "MAXN, 15W, 30W, 50W"),
        ({"name": "h100", "power_mode": "30W"}, "no power modes"),
        ({"name": "h200", "emc_mhz": 3000.0}, "emc_mhz"),
    ],
)
def test_impossible_settings_are_refused(arguments: dict, words: str) -> None:
    with pytest.raises(DeviceError, match=words):
        load_device(**arguments)


@pytest.mark.parametrize("clock", [0.0, -5.0, float("nan"), float("inf"), 1.3e9])
def test_clocks_that_make_no_sense_are_a_usage_error(clock: float) -> None:
    with pytest.raises(UsageError, match="MHz"):
        load_device("orin", gpu_mhz=clock)


# --- unknown and own devices ---------------------------------------------------------------------------------------


def test_unknown_device_lists_known_ones_a_guess_and_how_to_add_one(config: Path) -> None:
    with pytest.raises(DeviceError) as caught:
        load_device("orni")
    message = str(caught.value)
    for word in ("orni", "'orin'", "a100-pcie", "h200", "template.toml", str(config)):
        assert word in message


def filled_template() -> str:
    text = template_path().read_text()
    text = text.replace("value = 0", "value = 12").replace('title = ""', 'title = "My GPU"')
    return text.replace('datasheet = ""', 'datasheet = "Data sheet 1.0"').replace('names = [""]', 'names = ["My GPU*"]')


def test_template_refuses_to_load_until_filled_in_and_then_loads(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"sources\.datasheet is empty"):
        load_device(str(template_path()))
    own = tmp_path / "mine.toml"
    own.write_text(filled_template())
    device = load_device(str(own))
    assert (device.name, device.title, device.sm_count) == ("mine", "My GPU", 12)


def test_own_folder_adds_devices_and_wins_over_shipped_ones(config: Path) -> None:
    write(config / "mine.toml", filled_template())
    write(config / "h100.toml", filled_template())
    assert "mine" in known_devices()
    assert load_device("mine").title == load_device("h100").title == "My GPU"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("unified_memory = false", "unified_memory = false\ncolour = 1", "unknown key colour"),
        ("unified_memory = false", "unified_memory = 0", "unified_memory must be true or false"),
        ("[8, 6]", "[8]", "compute_capability"),
        ("[8, 6]", '"8.6"', "compute_capability must be a list"),
        ('kind = "cuda"', 'kind = "tpu"', "kind is 'tpu'"),
        ("sm_count = { value = 12", "sm_count = { value = 12.5", "figures.sm_count is 12.5, must be a whole"),
        ("sm_count = { value = 12", "sm_count = { value = true", "figures.sm_count.value must be a number"),
        ("sm_count = { value = 12", "sm_count = { value = nan", "figures.sm_count.value is nan"),
        (
            'sm_count = { value = 12, source = "datasheet" }',
            "sm_count = 12.5",
            "figures.sm_count is 12.5, must be a whole",
        ),
        ('l2_mib = { value = 12, source = "datasheet" }', "l2_mib = nan", "figures.l2_mib is nan"),
        ('l2_mib = { value = 12, source = "datasheet" }', "l2_mib = true", "figures.l2_mib must be a number"),
        ("sm_count = { value = 12", "sm_count = { value = -1", "figures.sm_count.value is -1"),
        ("sm_count = ", "smcount = ", "missing key figures.sm_count"),
        (
            'l2_mib = { value = 12, source = "datasheet" }',
            'l2_mib = "12"',
            "figures.l2_mib must be a number or a table",
        ),
        (
            'l2_mib = { value = 12, source = "datasheet" }',
            "l2_mib = { value = 12 }",
            "missing key figures.l2_mib.source",
        ),
        ('l2_mib = { value = 12, source = "datasheet"', 'l2_mib = { value = 12, source = "x"', "figures.l2_mib.source"),
        ("[peaks.vector]\nfp32", "[peaks.vector]\nfp33", "unknown key peaks.vector.fp33"),
        ("[peaks.vector]\nfp32", "[peaks.vector]\nfp64", "missing key peaks.vector.fp32"),
        ("[peaks.tensor]", "[peaks.matrix]", "unknown key peaks.matrix"),
        ("[figures]", "[figures", "not valid TOML"),
        (
            'launch_floor_us = { value = 12, source = "datasheet"',
            'launch_floor_us = { value = 12, source = "datasheet", origin = "assumed"',
            "missing key figures.launch_floor_us.how",
        ),
    ],
)
def test_a_wrong_file_names_itself_and_the_key(tmp_path: Path, old: str, new: str, words: str) -> None:
    text = filled_template()
    assert old in text
    own = tmp_path / "broken.toml"
    own.write_text(text.replace(old, new))
    with pytest.raises(DeviceError) as caught:
        load_device(str(own))
    assert words in str(caught.value)
    assert "broken.toml" in str(caught.value)


SHORT = """
title = "My GPU"
compute_capability = [8, 9]

[figures]
sm_count = 128
l2_mib = 72
memory_gib = 24
bandwidth_gbs = 1008
gpu_mhz = 2520
power_w = 450

[peaks.vector]
fp32 = 82.6
"""


def test_bare_numbers_are_enough_and_say_that_no_source_was_named(tmp_path: Path) -> None:
    own = tmp_path / "mine.toml"
    own.write_text(SHORT)
    device = load_device(str(own))
    assert (device.sm_count, device.l2_bytes, device.power_w) == (128, 72 << 20, 450)
    assert (device.kind, device.unified_memory) == ("cuda", False)
    assert device.roof.peak("fp32", "vector") == Peak(82.6e12, "fp32", "vector")
    assert load_device(str(own), gpu_mhz=1260).roof.peak("fp32", "vector") == Peak(41.3e12, "fp32", "vector")
    assert "without a source" in device.sources["figures.l2_mib"]
    assert "without a source" in device.sources["peaks.vector.fp32"]
    assert device.sources["figures.launch_floor_us"].startswith("assumed: 2")


def test_all_missing_figures_are_named_at_once(tmp_path: Path) -> None:
    own = tmp_path / "mine.toml"
    own.write_text(SHORT.replace("l2_mib = 72\nmemory_gib = 24\n", ""))
    with pytest.raises(DeviceError, match=r"missing key figures\.l2_mib, figures\.memory_gib"):
        load_device(str(own))


def test_shipped_files_name_a_source_for_every_figure() -> None:
    for name in known_devices():
        unnamed = [key for key, source in load_device(name).sources.items() if "without a source" in source]
        assert not unnamed, (name, unnamed)


@pytest.mark.parametrize("value", ["1e300", "1e-320", "9" * 400, "9" * 6000, "inf", "nan", "-1"])
@pytest.mark.parametrize("key", ["l2_mib = 72", "memory_gib = 24", "gpu_mhz = 2520", "fp32 = 82.6"])
def test_figures_that_cannot_be_true_are_refused(key: str, value: str, tmp_path: Path) -> None:
    own = tmp_path / "mine.toml"
    own.write_text(SHORT.replace(key, f"{key.partition(' ')[0]} = {value}"))
    with pytest.raises(DeviceError, match=r"mine\.toml"):
        load_device(str(own))


@given(st.text(max_size=200))
def test_any_text_is_a_device_or_a_device_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    own = tmp_path_factory.getbasetemp() / "any.toml"
    own.write_text(text, encoding="utf-8", errors="replace")
    with pytest.raises(DeviceError, match=r"any\.toml"):
        load_device(str(own))


def test_a_folder_or_a_missing_file_is_a_device_error(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    for name in ("folder.toml", "missing.toml"):
        with pytest.raises(DeviceError, match="cannot read"):
            load_device(str(tmp_path / name))


# --- peaks ---------------------------------------------------------------------------------------------------------

ROOF = Roof("spec", 1e9, {"vector": {"fp32": 2.0, "fp64": 1.0}, "tensor": {"tf32": 8.0, "bf16": 16.0}}, 1.0)


@pytest.mark.parametrize(
    ("dtype", "unit", "expected"),
    [
        ("bf16", "tensor", Peak(16.0, "bf16", "tensor")),
        ("fp32", "tensor", Peak(2.0, "fp32", "vector")),
        ("fp64", "tensor", Peak(1.0, "fp64", "vector")),
        ("fp16", "tensor", Peak(2.0, "fp32", "vector")),
        ("tf32", "vector", Peak(2.0, "fp32", "vector")),
        ("bf16", "vector", Peak(2.0, "fp32", "vector")),
        ("int64", "vector", Peak(2.0, "fp32", "vector")),
        ("bool", "vector", Peak(2.0, "fp32", "vector")),
        ("complex128", "vector", Peak(1.0, "fp64", "vector")),
        ("fp32", "none", None),
        ("strange", "vector", None),
    ],
)
def test_peak_falls_back_as_documented(dtype: str, unit: str, expected: Peak | None) -> None:
    assert ROOF.peak(dtype, unit) == expected


def test_a_missing_fp64_peak_is_not_replaced_by_fp32() -> None:
    assert load_device("orin").roof.peak("fp64", "vector") is None


def test_measured_roof_is_preferred_and_both_are_described() -> None:
    import dataclasses

    measured = dataclasses.replace(ROOF, source="measured")
    device = dataclasses.replace(load_device("h100"), measured=measured)
    assert device.roof is measured
    described = json.loads(json.dumps(device.describe()))
    assert [roof["source"] for roof in described["roofs"]] == ["spec", "measured"]
    assert described["roof_used"] == "measured"
    assert described["roofs"][0]["bandwidth_gbs"] == 3352.0
    assert described["roofs"][0]["peaks_gflops"]["tensor"]["bf16"] == 989.4e3


def test_a_device_without_roofs_says_what_to_do() -> None:
    with pytest.raises(DeviceError, match="edgeroof calibrate"):
        _ = cpu_device().roof


# --- detection -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "capability", "sms", "memory_bytes", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", (9, 0), 132, 85018279936, "h100"),
        ("NVIDIA H200", (9, 0), 132, int(139.8 * GIB), "h200"),
        ("NVIDIA A100-SXM4-80GB", (8, 0), 108, int(79.2 * GIB), "a100"),
        ("NVIDIA A100 80GB PCIe", (8, 0), 108, int(79.2 * GIB), "a100-pcie"),
    ],
)
def test_known_gpus_are_matched(
    tmp_path: Path, name: str, capability: tuple[int, int], sms: int, memory_bytes: int, expected: str
) -> None:
    device = detect_device(root=tmp_path, cuda=lambda: CudaInfo(name, capability, sms, memory_bytes, None, False))
    assert device.name == expected
    assert device.spec is not None
    assert device.memory_bytes == memory_bytes


@pytest.mark.parametrize(
    ("name", "capability", "sms", "memory_gib"),
    [
        ("NVIDIA A100-SXM4-40GB", (8, 0), 108, 39.4),  # other bandwidth
        ("NVIDIA H100 NVL", (9, 0), 132, 93.6),  # other memory
        ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", (9, 0), 60, 39.5),  # a slice
        ("NVIDIA H100 80GB HBM3", (9, 0), 60, 79.2),  # a slice by SMs only
        ("NVIDIA GH200 480GB", (9, 0), 132, 94.5),
        ("NVIDIA GeForce RTX 4090", (8, 9), 128, 23.6),
        ("Orin", (8, 7), 8, 7.4),  # an Orin Nano
    ],
)
def test_other_gpus_are_never_taken_for_known_ones(
    tmp_path: Path, name: str, capability: tuple[int, int], sms: int, memory_gib: float
) -> None:
    info = CudaInfo(name, capability, sms, int(memory_gib * GIB), 123, False)
    device = detect_device(root=tmp_path, cuda=lambda: info)
    assert (device.spec, device.title, device.sm_count, device.kind) == (None, name, sms, "cuda")
    with pytest.raises(DeviceError):
        _ = device.roof


def test_orin_takes_mode_and_clocks_from_the_board(jetson: Path) -> None:
    info = CudaInfo("Orin", (8, 7), 8, ORIN.memory_bytes, None, True)
    device = detect_device(root=jetson, cuda=lambda: info)
    assert (device.name, device.power_mode, device.sm_count, device.unified_memory) == ("orin", "30W", 8, True)
    assert device.spec is not None
    assert device.spec.peaks["vector"]["fp32"] == pytest.approx(8 * 128 * 2 * 612e6)
    assert device.spec.bandwidth == pytest.approx(204.8e9 * 3199 / 3200)
    assert "612 MHz (read)" in device.spec.note


def test_gated_tpcs_count_even_if_cuda_reports_all_sms(jetson: Path) -> None:
    assert detect_device(root=jetson, cuda=lambda: ORIN).sm_count == 8


def test_older_jetson_paths_and_no_cap_values(jetson: Path) -> None:
    """Jetson Linux 35: ga10b, the other EMC cap, where 0 means no cap; the EMC maximum only root may read."""
    for path in ("17000000.gpu/max_freq", "17000000.gpu/cur_freq"):
        (jetson / "sys/class/devfreq" / path).unlink()
    (jetson / "sys/class/devfreq/17000000.gpu").rmdir()
    (jetson / "sys/kernel/nvpmodel_clk_cap/emc").unlink()
    write(jetson / "sys/class/devfreq/17000000.ga10b/max_freq", "1300500000\n")
    write(jetson / "sys/kernel/nvpmodel_emc_cap/emc_iso_cap", "0\n")
    write(jetson / "var/lib/nvpmodel/status", "pmode:0000\n")
    write(jetson / "sys/devices/platform/gpu.0/tpc_pg_mask", "0\n")
    device = detect_device(root=jetson, cuda=lambda: ORIN)
    assert (device.power_mode, device.sm_count) == ("MAXN", 16)
    assert device.spec is not None
    assert device.spec.bandwidth == 204.8e9
    assert device.spec.peaks["vector"]["fp32"] == pytest.approx(16 * 128 * 2 * 1300.5e6)


def test_a_mode_the_file_does_not_describe_is_named_not_guessed(jetson: Path) -> None:
    write(jetson / "etc/nvpmodel.conf", "< POWER_MODEL ID=2 NAME=MY_MODE >\n")
    device = detect_device(root=jetson, cuda=lambda: ORIN)
    assert device.power_mode == "MY_MODE"
    assert device.spec is not None
    assert "MY_MODE, not described in orin.toml" in device.spec.note
    assert device.spec.peaks["vector"]["fp32"] == pytest.approx(8 * 128 * 2 * 612e6)


def test_an_unreadable_mode_says_so(tmp_path: Path) -> None:
    write(tmp_path / "proc/device-tree/model", AGX_MODEL)
    device = detect_device(root=tmp_path, cuda=lambda: ORIN)
    assert device.power_mode is None
    assert device.spec is not None
    assert "could not be read" in device.spec.note


def test_two_files_that_match_are_an_error(config: Path, tmp_path: Path) -> None:
    write(config / "my-h100.toml", (SHIPPED / "h100.toml").read_text())
    info = CudaInfo("NVIDIA H100 80GB HBM3", (9, 0), 132, 85018279936, None, False)
    with pytest.raises(DeviceError, match=r"my-h100\.toml"):
        detect_device(root=tmp_path, cuda=lambda: info)


def test_cpu_is_described_from_proc_and_sys(tmp_path: Path) -> None:
    write(tmp_path / "proc/cpuinfo", "processor\t: 0\nmodel\t\t: 1\nmodel name\t: Some CPU 9000\n")
    write(tmp_path / "proc/meminfo", "MemTotal:       24682416 kB\nMemAvailable:   20000000 kB\n")
    for index, (level, size, kind) in enumerate(
        [(1, "32K", "Data"), (1, "32K", "Instruction"), (2, "512K", "Unified"), (3, "32M", "Unified")]
    ):
        folder = tmp_path / f"sys/devices/system/cpu/cpu0/cache/index{index}"
        write(folder / "level", f"{level}\n")
        write(folder / "size", f"{size}\n")
        write(folder / "type", f"{kind}\n")
    device = detect_device(root=tmp_path, cuda=lambda: None)
    assert (device.name, device.kind, device.title) == ("cpu", "cpu", "Some CPU 9000")
    assert (device.l2_bytes, device.llc_bytes, device.memory_bytes) == (512 * 1024, 32 * 1024**2, 24682416 * 1024)
    assert device.spec is None
    assert device.cores


def test_hyper_threads_of_a_core_count_once(tmp_path: Path) -> None:
    for cpu in os.sched_getaffinity(0):
        write(tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", "0-63\n")
    assert cpu_device(tmp_path).cores == 1


def test_this_machine_is_detected() -> None:
    device = detect()
    assert device.title
    assert load_device("cpu").name == "cpu"
    assert load_device("auto").title == device.title


def test_clocks_cannot_be_given_for_a_cpu() -> None:
    with pytest.raises(DeviceError, match="no device file"):
        load_device("cpu", gpu_mhz=1000)


def test_listing_and_loading_devices_does_not_import_torch() -> None:
    code = (
        "import sys; from edgeroof.profiler.device import known_devices, load_device; "
        "[load_device(name) for name in known_devices()]; load_device('cpu'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd="/").returncode == 0
