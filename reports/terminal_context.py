"""The second half of the terminal report: the optimizer step, the metrics, and how far to trust all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from .figures import finite
from .rich_parts import Prose, ascii_only, bar, bound_text, facts, heading, op_name, plain_table, roof_text
from .text import binary_bytes, clean, count, duration, number, percent, shorten, si

if TYPE_CHECKING:
    from ..profiler.run import Run

_PRICED = {
    "exact": "priced exactly",
    "inferred": "priced from recorded shapes",
    "counter": "priced by hardware counters",
    "estimated": "priced by estimate",
    "unknown": "cost unknown",
}
_FILES = (
    ("report.html", "the interactive report"),
    ("trace.json.gz", "opens in Perfetto"),
    ("run.json", "this summary"),
    ("kernels.parquet", "every kernel"),
    ("ops.parquet", "every op"),
    ("phases.parquet", "phases"),
)


def context_sections(run: Run, console: Console) -> Iterator[RenderableType]:
    """Optimizer, metrics, ledger, alignment, warnings, device and files."""
    plain = ascii_only(console)
    yield _optimizer(run.summary.get("optimizer") or {}, plain)
    yield Group(heading("Metrics"), _metrics(run.summary.get("metrics")))
    yield _ledger(run.summary.get("ledger") or {}, plain)
    yield _alignment(run.summary.get("alignment"))
    warnings = run.summary.get("warnings") or []
    if warnings:
        yield Group(heading("Warnings"), *[Prose(warning, "yellow", "! ") for warning in warnings])
    yield _device(run.summary.get("device") or {})
    if run.path is not None:
        yield _files(Path(run.path))


def key_figures(metrics: dict[str, Any] | None) -> str:
    """The handful of metrics that belong beside the answer, in one line."""
    if not metrics:
        return ""
    parts = [f"{_ms(metrics['step_time_ms'], 'median')} a step"] if metrics.get("step_time_ms") else []
    if finite((metrics.get("mfu") or {}).get("value")) is not None:
        parts.append(f"MFU {percent(finite(metrics['mfu'].get('value')))}")
    if metrics.get("tokens_per_s"):
        parts.append(f"{number(finite(metrics['tokens_per_s'].get('non_padding')))} tokens/s")
    if (metrics.get("power") or {}).get("available"):
        parts.append(f"{number(finite(metrics['power'].get('tokens_per_s_per_w')))} tokens/s/W")
    if metrics.get("peak_memory"):
        parts.append(binary_bytes(finite(metrics["peak_memory"].get("bytes"))))
    return " · ".join(parts)


def _optimizer(optimizer: dict[str, Any], plain: bool) -> RenderableType:
    if not optimizer.get("found"):
        reason = clean(optimizer.get("reason") or "no optimizer step was found")
        return Group(heading("Optimizer step"), Text(reason, style="dim"))
    per_parameter = finite(optimizer.get("bytes_per_parameter"))
    floor = finite(optimizer.get("floor_bytes_per_parameter"))
    spent = finite(optimizer.get("dur_us"))
    story = Text.assemble((duration(spent), "bold"), f", {percent(finite(optimizer.get('share')))} of kernel time.")
    if per_parameter is not None:
        story.append(" It moves ")
        story.append(f"{number(per_parameter)} bytes per parameter", style="bold")
        if floor is not None:
            story.append(f" where {clean(optimizer.get('floor_name') or 'the floor')} needs {number(floor)}")
        if finite(optimizer.get("passes")) is not None:
            story.append(f"; its ops go over all parameters {number(finite(optimizer['passes']))} times")
        story.append(".")
    else:
        story.append(" What it moves per parameter is not known.")
    table = plain_table("op", "×", "time", "bytes/param", "roof", "bound", right=("×", "time", "bytes/param", "roof"))
    for op in optimizer.get("ops") or []:
        table.add_row(
            Text(shorten(op_name(op["op"]), 34)),
            count(finite(op.get("kernels"))),
            duration(finite(op.get("dur_us"))),
            number(finite(op.get("bytes_per_parameter"))),
            roof_text(finite(op.get("roof_fraction")) or None),
            bound_text(op.get("bound") or "unknown"),
        )
    return Group(heading("Optimizer step", "opt.step()"), story, *_optimizer_times(optimizer, plain), Text(""), table)


def _optimizer_times(optimizer: dict[str, Any], plain: bool) -> Iterator[Text]:
    labels = (("now", "dur_us"), ("at the roof", "time_at_roof_us"), ("at the floor", "time_at_floor_us"))
    times = [(label, key, finite(optimizer.get(key))) for label, key in labels]
    longest = max((value for _, _, value in times if value is not None), default=0.0)
    for label, key, value in times:
        if value and longest:
            style = "cyan" if key == "dur_us" else "green"
            yield Text.assemble(
                f"{label:<13}", bar(value / longest, 30, style, ascii_only=plain), f" {duration(value)}"
            )


def _metrics(metrics: dict[str, Any] | None) -> RenderableType:
    if not metrics:
        return Text("Not known: an imported trace has no bare steps to take them from.", style="dim")
    return facts([*_speed_facts(metrics), *_resource_facts(metrics)])


def _speed_facts(metrics: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    step = metrics.get("step_time_ms")
    if step:
        samples = len(step.get("samples") or [])
        spread = f"p25 {_ms(step, 'p25')}, p75 {_ms(step, 'p75')}, min {_ms(step, 'min')}, max {_ms(step, 'max')}"
        yield (
            "step time",
            _ms(step, "median"),
            f"{spread} over {samples} steps" if samples > 1 else "no repetitions: no spread",
        )
    yield from _utilisation_facts(metrics.get("mfu") or {}, metrics.get("hfu") or {})
    tokens = metrics.get("tokens_per_s")
    if tokens:
        yield (
            "tokens/s",
            number(finite(tokens.get("non_padding"))),
            f"non-padding; {number(finite(tokens.get('padded')))} with padding",
        )


def _utilisation_facts(mfu: dict[str, Any], hfu: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    if finite(mfu.get("value")) is None:
        yield "MFU", "not known", mfu.get("reason") or ""
        return
    flops = f"{si(finite(mfu.get('model_flops')), 'FLOP')} a step without recomputation"
    yield "MFU", percent(finite(mfu["value"])), f"{flops}, of {mfu.get('denominator') or 'an unnamed peak'}"
    if finite(hfu.get("value")) is not None:
        flops = si(finite(hfu.get("hardware_flops")), "FLOP")
        yield "HFU", percent(finite(hfu["value"])), f"{flops} a step with recomputation"


def _resource_facts(metrics: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    memory = metrics.get("peak_memory")
    if memory:
        yield "peak memory", binary_bytes(finite(memory.get("bytes"))), clean(memory.get("what") or "")
    power = metrics.get("power") or {}
    if power.get("available"):
        yield (
            "power",
            f"{number(finite(power.get('mean_w')))} W",
            f"{power.get('domain', '')}; {power.get('method', '')}",
        )
        yield (
            "energy",
            f"{number(finite(power.get('energy_per_step_j')))} J",
            f"a step. {power.get('note', '')}".rstrip(),
        )
        yield "tokens/s/W", number(finite(power.get("tokens_per_s_per_w"))), "non-padding"
    else:
        yield "power", "not known", clean(power.get("reason") or "no energy meter was read")


def _ms(step: dict[str, Any], key: str) -> str:
    value = finite(step.get(key))
    return duration(None if value is None else value * 1e3)


def _ledger(ledger: dict[str, Any], plain: bool) -> RenderableType:
    table = plain_table("coverage", "share", "", right=("share",))
    priced = ledger.get("priced_share") or {}
    rows = [("linked to an op", ledger.get("linked_share"), "cyan")]
    for name, share in priced.items():
        if share:
            rows.append((_PRICED.get(name, clean(name)), share, "red" if name == "unknown" else "green"))
    if ledger.get("communication_share"):
        rows.append(("communication", ledger["communication_share"], "magenta"))
    for name, share, style in rows:
        table.add_row(Text(name), percent(finite(share)), bar(finite(share), 30, style, ascii_only=plain))
    note = f"{count(finite(ledger.get('kernels')))} kernels, {duration(finite(ledger.get('kernel_us')))} a step"
    notes = [_unknown_op(entry) for entry in (ledger.get("unknown_ops") or [])[:8]]
    if notes:
        notes.insert(0, Text("Ops without a cost model:", style="dim"))
    return Group(heading("Coverage ledger", note), table, *notes)


def _unknown_op(entry: dict[str, Any]) -> Text:
    time = f"{duration(finite(entry.get('dur_us')))}, {percent(finite(entry.get('share')))}"
    return Text(f"  {shorten(clean(entry['op']), 44)}  {time}, × {count(finite(entry.get('kernels')))}", style="dim")


def _alignment(alignment: dict[str, Any] | None) -> RenderableType:
    if not alignment:
        return Group(heading("Alignment"), Text("Not applicable: there was one pass only.", style="dim"))
    good = bool(alignment.get("ok"))
    message = clean(alignment.get("message") or "")
    lines = [Text.assemble(("matched: " if good else "MISMATCH: ", "bold green" if good else "bold red"), message)]
    if not good:
        lines += [Text(_matched(step), style="dim") for step in (alignment.get("steps") or [])[:5]]
    return Group(heading("Alignment", "recorded pass against profiled pass"), *lines)


def _matched(step: dict[str, Any]) -> str:
    matched, profiled, recorded = (count(finite(step.get(key))) for key in ("matched", "profiled", "recorded"))
    return f"  step {step.get('step')}: {matched} of {profiled} profiled ops found among {recorded} recorded ones"


def _device(device: dict[str, Any]) -> RenderableType:
    about = [clean(device.get("title") or device.get("name") or "unknown device")]
    about += [f"power mode {clean(device['power_mode'])}"] if device.get("power_mode") else []
    about += [f"{device['sm_count']} SMs"] if device.get("sm_count") else []
    about += [binary_bytes(finite(device["memory_bytes"]))] if device.get("memory_bytes") else []
    about += ["memory shared with the host"] if device.get("unified_memory") else []
    roofs = device.get("roofs") or []
    if not roofs:
        return Group(
            heading("Device and roofs", " · ".join(about)), Text("No roofs are known for this device.", style="dim")
        )
    titles = [_roof_title(roof, device) for roof in roofs]
    table = plain_table("roof", *titles, *(["of spec"] if len(roofs) == 2 else []), right=(*titles, "of spec"))
    for label, values, show in _roof_rows(roofs):
        first, last = values[0], values[-1]
        ratio = [percent(last / first) if first and last and label != "launch floor" else ""]
        table.add_row(label, *(show(value) for value in values), *(ratio if len(roofs) == 2 else []))
    notes = [Prose(f"{roof['source']}: {roof['note']}", "dim") for roof in roofs if roof.get("note")]
    return Group(heading("Device and roofs", " · ".join(about)), table, *notes)


def _roof_title(roof: dict[str, Any], device: dict[str, Any]) -> str:
    source = clean(roof.get("source") or "roof")
    return f"{source}, used" if roof.get("source") == device.get("roof_used") else source


def _roof_rows(roofs: list[dict[str, Any]]) -> Iterator[tuple[str, list[float | None], Callable[[float | None], str]]]:
    """Each quantity of the roofs: its name, its value on every roof, and how to write it."""
    yield "bandwidth", [finite(roof.get("bandwidth_gbs")) for roof in roofs], lambda value: f"{number(value, 4)} GB/s"
    pairs = [
        (unit, dtype) for roof in roofs for unit, peaks in (roof.get("peaks_gflops") or {}).items() for dtype in peaks
    ]
    for unit, dtype in dict.fromkeys(pairs):
        values = [finite(((roof.get("peaks_gflops") or {}).get(unit) or {}).get(dtype)) for roof in roofs]
        yield (
            f"{clean(dtype)} {clean(unit)}",
            values,
            lambda value: si(None if value is None else value * 1e9, "FLOP/s"),
        )
    yield "launch floor", [finite(roof.get("launch_floor_us")) for roof in roofs], duration


def _files(path: Path) -> RenderableType:
    found = [(name, "", remark) for name, remark in _FILES if (path / name).exists()]
    return Group(heading("Files", str(path)), facts(found)) if found else heading("Files", str(path))
