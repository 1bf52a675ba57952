"""Experiment 3: which phases, ops and kernels take a step's time, and what different timers make of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..profiler.timing import CLOSURE_PHASES
from ..reports.document import Bar, Bars, Block, Paragraph, Part, Section, Table
from ..reports.projection import interval_text
from ..reports.text import count, duration, percent, shorten
from .marks import MEASURED, PROJECTED

Data = Mapping[str, Any]

#: Colours of phases in bars.
_STYLES = {"forward": "s0", "loss": "s3", "backward": "s2", "optimizer": "s1"}
_TRUE, _HOST, _CLOSURE = "device-true", "host timer, no sync", "around opt.step(closure)"
_NOTES = (
    "Device-true is what the device spends on each phase. A timer on the host that never waits sees when kernels were "
    "issued; what is still queued at the end of the step lands on the last phase. A timer around opt.step(closure) "
    "books forward, loss and backward as the optimizer.",
    "For projected devices both other timers are simulated: 18 µs of the host for a launch on a Jetson and 6 µs on a "
    "server, 1,024 launches in the queue, all assumed. On a CPU host and device are one, so the first two agree.",
)

_BOARD = "what a launch takes there, how far its host runs ahead, and so what these timers say"
_BOARD_BESIDE = "how far such timers err where host and device are two; here they are one"


def breakdown_section(data: Data) -> Section:
    """The section of experiment 3."""
    title = "3. Where the time of a step goes"
    entries = [*(data["breakdown"] or ()), *([data["here"]] if data["here"] else [])]
    if not entries:
        return Section(title, (Paragraph("Not run: edgeroof paper --only breakdown"),))
    blocks: list[Block] = [Paragraph(_answer(entry)) for entry in entries]
    for entry in entries:
        blocks += [timer_bars(entry), _ops(entry), _kernels(entry)]
    blocks += [modes for entry in entries for modes in _power_modes(entry)]
    blocks += [Paragraph(note, "quiet") for note in _NOTES]
    blocks += [
        Paragraph(f"Assumed for {entry['title']}: {text}.", "quiet") for entry in entries for text in entry["assumed"]
    ]
    return Section(title, tuple(blocks), lead="projected for both devices, measured on the machine at hand")


def _mark(entry: Data) -> str:
    return PROJECTED if entry["kind"] == "projected" else MEASURED


def _place(entry: Data) -> str:
    return str(entry["device"]) if entry["kind"] == "projected" else "this machine"


def _workload(entry: Data) -> str:
    work = entry["workload"]
    return f"{work['model']}, batch {work['batch_size']}, {work['precision']}"


def _answer(entry: Data) -> str:
    total = sum(entry["phases"].values()) or 1.0
    first = max(entry["phases"].items(), key=lambda item: item[1])
    bound, share = max(entry["bounds"].items(), key=lambda item: item[1])
    top = entry["ops"][0]
    return (
        f"{entry['title']} ({_workload(entry)}, {_mark(entry)}): {interval_text(entry['step_ms'])} a step; most of it "
        f"in {first[0]} ({percent(first[1] / total)}), {percent(entry['phases'].get('optimizer', 0.0) / total)} in the "
        f"optimizer. {percent(share)} of kernel time is {_held(bound)}; the first op is {top['op']} in {top['phase']} "
        f"with {percent(top['share'])}."
    )


def _held(bound: str) -> str:
    return f"held by {bound}" if bound in ("memory", "compute", "latency", "communication") else bound


def timer_bars(entry: Data) -> Bars:
    """The shares of phases by three timers."""
    simulated = entry["kind"] == "projected"
    timers = [(_TRUE, _mark(entry), entry["phases"]), (_HOST, "simulated" if simulated else MEASURED, entry["host_ms"])]
    closure = closure_phases(entry)
    timers.append((_CLOSURE, "simulated" if simulated else MEASURED, closure))
    used = [phase for phase in _STYLES if any(phases.get(phase) for _, _, phases in timers)]
    bars = tuple(Bar(name, _parts(phases), _optimizer_text(phases), note) for name, note, phases in timers)
    mark = "projected; other timers simulated" if simulated else MEASURED
    caption = f"Phases by three timers: {_place(entry)}, {_workload(entry)}"
    legend = (*((_STYLES[phase], phase) for phase in used), ("phase", "other phases"))
    return Bars(caption, bars, "%", legend, mark=mark, board=_BOARD if simulated else _BOARD_BESIDE)


def closure_phases(entry: Data) -> dict[str, float]:
    """Phases as a timer around ``opt.step(closure)`` books them, in ms: all that runs inside is the optimizer's."""
    measured = entry.get("closure_ms")
    inside = (
        measured["optimizer"]
        if measured and measured.get("optimizer")
        else sum(ms for phase, ms in entry["phases"].items() if phase in CLOSURE_PHASES)
    )
    outside = {phase: ms for phase, ms in entry["phases"].items() if phase not in CLOSURE_PHASES}
    return {**outside, "optimizer": inside}


def _parts(phases: Mapping[str, float]) -> tuple[Part, ...]:
    total = sum(phases.values()) or 1.0
    order = [*(phase for phase in _STYLES if phase in phases), *(phase for phase in phases if phase not in _STYLES)]
    return tuple(Part(phase or "none", 100 * phases[phase] / total, _STYLES.get(phase, "phase")) for phase in order)


def _optimizer_text(phases: Mapping[str, float]) -> str:
    return f"optimizer {percent(phases.get('optimizer', 0.0) / (sum(phases.values()) or 1.0))}"


def _ops(entry: Data) -> Table:
    rows = tuple(
        (row["op"], row["phase"], duration(row["time_us"]), percent(row["share"]), count(row["kernels"]), row["bound"])
        for row in entry["ops"]
    )
    heads = ("op", "phase", "#time", "#share", "#kernels", "held by")
    return Table(f"Ops with most time: {_place(entry)}", heads, rows, mark=_mark(entry))


def _kernels(entry: Data) -> Table:
    rows = tuple(
        (
            row["op"],
            row["phase"],
            shorten(row["shapes"], 60),
            duration(row["time_us"]),
            percent(row["share"]),
            row["bound"],
        )
        for row in entry["kernels"][:_SHOWN]
    )
    heads = ("kernel of", "phase", "shapes", "#time", "#share", "held by")
    return Table(f"Kernels of equal shapes with most time: {_place(entry)}", heads, rows, mark=_mark(entry))


#: Kernels that are listed.
_SHOWN = 6


def _power_modes(entry: Data) -> Iterator[Table]:
    modes: Sequence[Data] = entry["power_modes"]
    if len(modes) < 2:
        return
    rows = tuple(
        (
            mode["mode"],
            interval_text(mode["step_time_ms"]),
            *(percent(mode["bounds"].get(bound, 0.0)) for bound in ("memory", "compute")),
            f"{mode['energy_j']['low']:.3g} to {mode['energy_j']['high']:.3g}" if mode["energy_j"] else "–",
        )
        for mode in modes
    )
    heads = ("power mode", "#step (90 % interval)", "#held by memory", "#held by compute", "#J a step, as a range")
    yield Table(f"The same step in each power mode: {_place(entry)}", heads, rows, mark=PROJECTED)
