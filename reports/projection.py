"""What a projected run says besides its kernels: intervals, memory, power modes, and how all of it was obtained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .document import Bar, Bars, Block, Facts, Paragraph, Part, Section, Table
from .text import binary_bytes, count, duration, known, number, percent

#: Order and names of the parts of a memory footprint, with the style of their bar.
_MEMORY = (
    ("weights", "memory"),
    ("gradients", "compute"),
    ("states", "communication"),
    ("activations", "latency"),
    ("temporaries", "inefficient"),
    ("workspace", "unknown"),
)
#: Bounds of a step as bars show them.
_BOUNDS = ("memory", "compute", "latency", "inefficient", "communication", "unknown")


def projection_section(projection: Mapping[str, Any] | None) -> Section | None:
    """The section of the terminal report; ``None`` when the run is no projection."""
    blocks = projection_blocks(projection)
    return Section("Projection", blocks, lead="does it fit, how long, and how sure is that?") if blocks else None


def projection_blocks(projection: Mapping[str, Any] | None) -> tuple[Block, ...]:
    """What the ``projection`` entry of ``run.json`` says, as blocks; none when there is no such entry."""
    if not projection:
        return ()
    blocks: list[Block] = [_verdict(projection), _times(projection)]
    if projection.get("memory"):
        blocks.append(_memory(projection["memory"]))
    if projection.get("power_modes"):
        blocks += _power_modes(projection["power_modes"])
    blocks += [Paragraph(text, "quiet") for text in (projection["method"], projection["interval"])]
    blocks += [Paragraph(f"Assumed: {text}.", "quiet") for text in projection.get("assumed") or ()]
    return tuple(blocks)


def interval_text(estimate: Mapping[str, Any]) -> str:
    """``85.0 ms (72.1 to 101)`` from an estimate in milliseconds."""
    value, low, high = (estimate.get(key) for key in ("value", "low", "high"))
    text = duration(None if value is None else value * 1e3)
    if low is None or high is None or not (known(low) and known(high)):
        return text
    return f"{text} ({duration(low * 1e3)} to {duration(high * 1e3)})"


def fit_text(memory: Mapping[str, Any]) -> str:
    """``fits: 12.3 of 57.2 GiB``."""
    verdict = "fits" if memory["fits"] else "DOES NOT FIT"
    return f"{verdict}: {binary_bytes(memory['total'])} of {binary_bytes(memory['room'])}"


def _verdict(projection: Mapping[str, Any]) -> Block:
    rows = [("step time", interval_text(projection["step_time_ms"]), "projected, 90 % interval")]
    memory = projection.get("memory")
    if memory:
        rows.append(("memory", fit_text(memory), f"{binary_bytes(memory['reserved'])} are left to the system"))
        if memory.get("largest_batch") is not None:
            more = " or more" if memory.get("capped") else ""
            rows.append(("largest batch", f"{count(memory['largest_batch'])}{more}", "that fits"))
    return Facts(tuple(rows))


def _times(projection: Mapping[str, Any]) -> Block:
    rows = tuple((entry["phase"] or "no phase", interval_text(entry)) for entry in projection["phases"])
    return Table("Projected time of each phase, with gaps between kernels", ("phase", "#time (90 % interval)"), rows)


def _memory(memory: Mapping[str, Any]) -> Block:
    parts = memory["parts"]
    shown = [Part(name, parts[name] / 2**30, style) for name, style in _MEMORY if parts.get(name)]
    bars = (
        Bar("at its peak", tuple(shown), binary_bytes(memory["total"])),
        Bar("there is", (Part("room", memory["room"] / 2**30, "quiet"),), binary_bytes(memory["room"])),
    )
    legend = tuple((style, name) for name, style in _MEMORY if parts.get(name))
    return Bars("Memory of the step at its peak", bars, "GiB", legend)


def _power_modes(modes: list[Mapping[str, Any]]) -> list[Block]:
    bars = tuple(
        Bar(
            mode["mode"] + (" *" if mode["chosen"] else ""),
            bound_parts(mode["bounds"], mode["step_time_ms"]["value"]),
            interval_text(mode["step_time_ms"]),
            f"GPU {number(mode['gpu_mhz'])} MHz, memory {number(mode['emc_mhz'])} MHz",
        )
        for mode in modes
    )
    used = [bound for bound in _BOUNDS if any(mode["bounds"].get(bound) for mode in modes)]
    figure = Bars(
        "Step time in each power mode, by what holds it; * is the mode of this report", bars, "ms",
        tuple((bound, bound) for bound in used),
    )  # fmt: skip
    rows = tuple(
        (
            mode["mode"],
            interval_text(mode["step_time_ms"]),
            number(mode.get("tokens_per_s")),
            _energy(mode.get("energy_j")),
        )
        for mode in modes
    )
    table = Table(
        "Power modes: energy lies between idle and the mode's limit, so it is a range",
        ("mode", "#step time (90 % interval)", "#tokens/s", "#J a step"),
        rows,
    )
    return [figure, table]


def bound_parts(bounds: Mapping[str, float], step_ms: float) -> tuple[Part, ...]:
    """Parts of a bar of ``step_ms`` milliseconds from shares by bound; what no kernel fills is idle."""
    parts = [Part(bound, bounds[bound] * step_ms, bound) for bound in _BOUNDS if bounds.get(bound)]
    idle = step_ms - sum(part.value for part in parts)
    return (*parts, Part("idle", idle, "idle")) if idle > 0.005 * step_ms else tuple(parts)


def _energy(energy: Mapping[str, float] | None) -> str:
    if not energy:
        return number(None)
    return f"{number(energy['low'])} to {number(energy['high'])}"


def shares_text(bounds: Mapping[str, float]) -> str:
    """``memory 61 %, compute 30 %`` of the largest shares."""
    largest = sorted(((share, bound) for bound, share in bounds.items() if share >= 0.05), reverse=True)
    return ", ".join(f"{bound} {percent(share)}" for share, bound in largest)
