"""Devices, roofs and the doctor's findings in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..profiler.device import Device, Roof, known_devices, load_device
from ..profiler.doctor import Check
from .rich_parts import facts, heading, plain_table
from .text import binary_bytes, clean, count, number, si

_STATUS_STYLES = {"ok": "green", "warn": "yellow", "fail": "red", "absent": "bright_black"}


def render_devices(console: Console) -> None:
    """Print one line per device that has a file."""
    table = plain_table("device", "title", "bandwidth", "fp32", "tensor bf16", "memory", stretch="title")
    for name in known_devices():
        device = load_device(name)
        roof = device.roof
        table.add_row(
            Text(name, style="bold"),
            Text(clean(device.title)),
            si(roof.bandwidth, "B/s"),
            _peak(roof, "fp32", "vector"),
            _peak(roof, "bf16", "tensor"),
            binary_bytes(device.memory_bytes),
        )
    console.print(table)
    console.print("edgeroof devices NAME explains one, with its power modes and sources.", style="dim")


def render_device(name: str, console: Console) -> None:
    """Print everything a device file says: figures, peaks, power modes, and the source of each figure."""
    device = load_device(name)
    console.print(heading(device.title, f"{name}, {device.kind}"))
    rows = [
        ("active SMs", count(device.sm_count), ""),
        ("L2", binary_bytes(device.l2_bytes), ""),
        ("memory", binary_bytes(device.memory_bytes), "shared with the CPU" if device.unified_memory else ""),
        ("power mode", device.power_mode or "none described", ""),
    ]
    console.print(facts(rows))
    render_roofs(device, console)
    if device.power_modes:
        console.print(_power_modes(name, device))
    if device.sources:
        console.print(heading("sources"))
        for figure, source in device.sources.items():
            console.print(Text(f"{clean(figure)}  ", style="bold").append(clean(source), style="not bold dim"))


def render_roofs(device: Device, console: Console) -> None:
    """Print the roofs of a device, spec and measured side by side."""
    roofs = [roof for roof in (device.spec, device.measured) if roof is not None]
    pairs = dict.fromkeys((unit, dtype) for roof in roofs for unit, peaks in roof.peaks.items() for dtype in peaks)
    table = plain_table("roof", *(roof.source for roof in roofs), right=[roof.source for roof in roofs])
    table.add_row("bandwidth", *(si(roof.bandwidth, "B/s") for roof in roofs))
    for unit, dtype in pairs:
        table.add_row(f"{dtype} {unit}", *(_exact(roof, dtype, unit) for roof in roofs))
    table.add_row("launch floor", *(f"{number(roof.launch_floor_us)} µs" for roof in roofs))
    console.print(heading("roofs", device.title))
    console.print(table)
    for roof in roofs:
        if roof.note:
            console.print(Text(f"{roof.source}: {clean(roof.note)}", style="dim"))


def render_checks(checks: Sequence[Check], console: Console) -> None:
    """Print the doctor's findings; whatever is not well comes with what to do."""
    for check in checks:
        line = Text(f"{check.status:<7}", style=_STATUS_STYLES[check.status])
        line.append(f"{check.name}: ", style="bold default").append(check.detail, style="default")
        console.print(line)
        if check.remedy:
            console.print(Text(f"        → {check.remedy}", style="dim"))


def _power_modes(name: str, device: Device) -> Table:
    table = plain_table("power mode", "GPU MHz", "SMs", "memory MHz", "bandwidth", "fp32")
    for mode in device.power_modes.values():
        roof = load_device(name, power_mode=mode.name).roof
        table.add_row(
            Text(clean(mode.name)),
            number(mode.gpu_mhz),
            count(mode.sms),
            number(mode.emc_mhz),
            si(roof.bandwidth, "B/s"),
            _peak(roof, "fp32", "vector"),
        )
    return table


def _peak(roof: Roof, dtype: str, unit: str) -> str:
    peak = roof.peak(dtype, unit)
    return si(peak.flops_per_s, "FLOP/s") if peak else "unknown"


def _exact(roof: Roof, dtype: str, unit: str) -> str:
    rate = roof.peaks.get(unit, {}).get(dtype)
    return si(rate, "FLOP/s") if rate else "unknown"
