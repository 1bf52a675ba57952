"""Devices as the model sees them, and the clock that power leaves."""

import dataclasses

import numpy as np
import pytest

from edgeroof.errors import DeviceError
from edgeroof.profiler.detect import cpu_device
from edgeroof.profiler.device import known_devices, load_device
from edgeroof.profiler.projection.boards import known_power_limit
from edgeroof.profiler.projection.coefficients import load_coefficients
from edgeroof.profiler.projection.hardware import describe_hardware
from edgeroof.profiler.projection.power import held_clock_shares, node_of, sustained_clock_share

C = load_coefficients()

BARE = """
title = "A board by hand"
kind = "cuda"
compute_capability = [8, 9]
unified_memory = false
[sources]
me = "a guess"
[figures]
sm_count = { value = 58, source = "me" }
l2_mib = { value = 48, source = "me" }
memory_gib = { value = 24, source = "me" }
bandwidth_gbs = { value = 300, source = "me" }
launch_floor_us = { value = 2, source = "me" }
[peaks.vector]
fp32 = { value = 30.3, source = "me" }
"""


def test_every_shipped_device_can_be_described_and_its_clock_agrees_with_its_file():
    for name in known_devices():
        device = load_device(name)
        hardware = describe_hardware(device)
        assert 0.4e9 < hardware.clock_hz < 3e9, name
        assert hardware.power_w, name
        assert not hardware.assumed, name


def test_a_file_written_by_hand_still_projects_and_says_what_was_assumed(tmp_path):
    path = tmp_path / "board.toml"
    path.write_text(BARE)
    hardware = describe_hardware(load_device(str(path)))
    assert (hardware.lanes, hardware.node_nm, hardware.memory) == (128, 5, "gddr")
    assert hardware.clock_hz == pytest.approx(2.04e9, rel=0.01)
    assert any("power" in words for words in hardware.assumed)
    assert sustained_clock_share(hardware, C) == 1.0


def test_the_optional_figures_are_read(tmp_path):
    path = tmp_path / "board.toml"
    figures = 'power_w = { value = 72, source = "me" }\nprocess_nm = { value = 4, source = "me" }\n'
    text = BARE.replace("[peaks.vector]", figures + "[peaks.vector]")
    text = text.replace("[sources]", 'memory_kind = "hbm"\n[sources]')
    path.write_text(text)
    device = load_device(str(path))
    assert (device.power_w, device.process_nm, device.memory_kind) == (72, 4, "hbm")
    path.write_text(text.replace('"hbm"', '"tape"'))
    with pytest.raises(DeviceError, match="memory_kind"):
        load_device(str(path))


def test_a_cpu_is_refused():
    with pytest.raises(DeviceError, match="no GPU"):
        describe_hardware(cpu_device())


def test_small_boards_are_held_by_power_and_large_ones_are_not():
    shares = {
        name: sustained_clock_share(describe_hardware(load_device(name)), C) for name in ("t4", "l4", "a100", "h100")
    }
    assert 0.3 < shares["t4"] < 0.65
    assert 0.3 < shares["l4"] < 0.75
    assert shares["a100"] == shares["h100"] == 1.0


def test_the_share_rises_with_power_and_with_time_spent_waiting_for_memory():
    t4 = describe_hardware(load_device("t4"))
    by_power = [sustained_clock_share(dataclasses.replace(t4, power_w=watts), C) for watts in (55, 70, 90, 120)]
    assert by_power == sorted(by_power)
    by_memory = [sustained_clock_share(t4, C, 1.0, memory) for memory in (0.0, 0.3, 1.0)]
    assert by_memory == sorted(by_memory)
    assert by_memory[0] < by_memory[-1]


def test_only_flops_that_are_done_take_power():
    t4 = describe_hardware(load_device("t4"))
    assert sustained_clock_share(t4, C, busy=0.3) > sustained_clock_share(t4, C, busy=0.9)
    shares = held_clock_shares(t4, C, np.array([0.1, 0.5, 0.9]))
    assert list(shares) == sorted(shares, reverse=True)
    assert list(held_clock_shares(dataclasses.replace(t4, power_w=None), C, np.array([0.9]))) == [1.0]


def test_power_modes_bring_their_budget():
    orin = load_device("orin", power_mode="15W")
    assert orin.power_w == 15
    assert 0.5 < sustained_clock_share(describe_hardware(orin), C) <= 1.0


def test_the_nearest_node_is_taken():
    assert node_of(9) == node_of(8)
    assert node_of(3) == node_of(4)


def test_the_power_limit_of_some_boards_follows_from_their_name(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(BARE.replace("A board by hand", "NVIDIA L4 24GB"))
    hardware = describe_hardware(load_device(str(path)))
    assert hardware.power_w == 72
    assert any("72 W" in words for words in hardware.assumed)
    assert known_power_limit("NVIDIA L40S") == 350
    assert known_power_limit("Tesla T4", "x") == 70
    assert known_power_limit("NVIDIA H100 80GB", "a100") is None
