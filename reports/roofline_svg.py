"""The roofline of a run as a still picture: SVG that a notebook, a paper or a page can show as it is."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import figures
from .text import clean, duration, percent, si

if TYPE_CHECKING:
    from ..profiler.run import Run

#: Ink of each bound, as in the HTML report, and the order of the legend.
COLOURS = {
    "memory": "#2469b5", "compute": "#12795f", "latency": "#b98100", "inefficient": "#c23248",
    "communication": "#8450b8", "unknown": "#69717b",
}  # fmt: skip
_INK, _QUIET, _LINE = "#1b1f24", "#59626d", "#dfe0dc"
_WIDTH, _HEIGHT = 820, 500
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 24, 66, 74
_LARGEST_RADIUS, _SMALLEST_RADIUS = 24.0, 3.0
#: Labels of roofs keep this distance, in pixels.
_LABEL_HEIGHT = 13


@dataclass(frozen=True)
class _Axis:
    """A logarithmic axis from ``start`` to ``end``, in pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = math.log10(value / self.low) / math.log10(self.high / self.low)
        return self.start + share * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """The powers of ten on it."""
        return [10.0**power for power in range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)]


def roofline_svg(run: Run) -> str:
    """Draw the kernels of a run under the roof that they were judged by.

    A circle is a group of kernels that do the same in one phase, its area their time; kernels without arithmetic have
    no place in this plane and are named below it.
    """
    data = figures.roofline_points(run)
    roof = _roof_used(run, data["points"])
    x, y = _axes(data["points"], roof)
    parts = [
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        *_heading(run),
        *_frame(x, y),
        *_watermark(run),
        *(_roof_lines(roof, x, y) if roof else []),
        *_points(data["points"], x, y),
        *(_roof_labels(roof, x, y) if roof else []),
        *_not_drawn(data),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" role="img" font-family="system-ui, sans-serif" font-size="12">\n'
        f"<title>Roofline of {html.escape(title(run))}</title>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def title(run: Run) -> str:
    """The run's title, which says whether it was measured or projected."""
    text, kind = clean(run.summary["title"]), clean(run.summary["kind"])
    return text if kind in text else f"{text} ({kind})"


def _roof_used(run: Run, points: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The roof, with those of its ceilings that the run's kernels have; ``None`` where none is known."""
    device = run.summary["device"]
    roofs = {roof["source"]: roof for roof in figures.roof_lines(device, figures.used_peaks(points))}
    roof = roofs.get(device.get("roof_used") or "") or next(iter(roofs.values()), None)
    return roof if roof and roof["bandwidth_gbs"] and roof["ceilings"] else None


def _axes(points: Sequence[Mapping[str, Any]], roof: Mapping[str, Any] | None) -> tuple[_Axis, _Axis]:
    """Axes that hold every point, every ridge with some of the flat roof, and every ceiling."""
    peaks = [ceiling["gflops"] for ceiling in roof["ceilings"]] if roof else []
    ridges = [peak / roof["bandwidth_gbs"] for peak in peaks] if roof else []
    return (
        _Axis(*_range([point["intensity"] for point in points] + [4 * r for r in ridges]), _LEFT, _WIDTH - _RIGHT),
        _Axis(*_range([point["gflops"] for point in points] + peaks), _HEIGHT - _BOTTOM, _TOP),
    )


def _range(values: Iterable[float]) -> tuple[float, float]:
    positive = [value for value in values if value and value > 0] or [1.0, 100.0]
    return min(positive) / 2, max(*positive, 10 * min(positive)) * 2


def _frame(x: _Axis, y: _Axis) -> list[str]:
    parts = []
    for tick in x.ticks:
        parts.append(f'<path d="M{_n(x(tick))} {_n(y.start)}V{_n(y.end)}" stroke="{_LINE}"/>')
        parts.append(_text(x(tick), y.start + 16, f"{tick:g}", _QUIET, "middle"))
    for tick in y.ticks:
        parts.append(f'<path d="M{_n(x.start)} {_n(y(tick))}H{_n(x.end)}" stroke="{_LINE}"/>')
        parts.append(_text(x.start - 6, y(tick) + 4, f"{tick:g}", _QUIET, "end"))
    middle = (y.start + y.end) / 2
    parts.append(_text((x.start + x.end) / 2, y.start + 32, "FLOP per byte", _INK, "middle"))
    parts.append(
        f'<text transform="translate(16 {_n(middle)}) rotate(-90)" text-anchor="middle" fill="{_INK}">GFLOP/s</text>'
    )
    return parts


def _watermark(run: Run) -> list[str]:
    if run.summary["kind"] != "projected":
        return []
    centre = f'x="{_WIDTH / 2:g}" y="{_HEIGHT / 2:g}"'
    return [
        f'<text {centre} text-anchor="middle" font-size="64" font-weight="700" fill="#b36b00" opacity="0.16">'
        "PROJECTED</text>"
    ]


def _roof_lines(roof: Mapping[str, Any], x: _Axis, y: _Axis) -> list[str]:
    """The slope of the bandwidth up to the highest ceiling, and each ceiling from its ridge on."""
    style = f'fill="none" stroke="{_INK}" stroke-width="1.4"'
    (x0, y0), (x1, y1) = _slope(roof, x, y)
    lines = [f'<path d="M{_n(x0)} {_n(y0)}L{_n(x1)} {_n(y1)}" {style}/>']
    for ceiling in roof["ceilings"]:
        start = min(max(ceiling["gflops"] / roof["bandwidth_gbs"], x.low), x.high)
        lines.append(f'<path d="M{_n(x(start))} {_n(y(ceiling["gflops"]))}H{_n(x.end)}" {style}/>')
    return lines


def _slope(roof: Mapping[str, Any], x: _Axis, y: _Axis) -> tuple[tuple[float, float], tuple[float, float]]:
    """Both ends of the slope, in pixels."""
    bandwidth = roof["bandwidth_gbs"]
    left = max(x.low, y.low / bandwidth)
    ridge = min(max(ceiling["gflops"] for ceiling in roof["ceilings"]) / bandwidth, x.high)
    return (x(left), y(left * bandwidth)), (x(ridge), y(ridge * bandwidth))


def _roof_labels(roof: Mapping[str, Any], x: _Axis, y: _Axis) -> list[str]:
    """Names of the ceilings at their right end, kept apart, and of the bandwidth along its slope."""
    (x0, y0), (x1, y1) = _slope(roof, x, y)
    angle = math.degrees(math.atan2(y1 - y0, x1 - x0))
    along = f"translate({_n(x0 + 0.3 * (x1 - x0))} {_n(y0 + 0.3 * (y1 - y0) - 7)}) rotate({angle:.1f})"
    labels = [_label(f'transform="{along}"', f"{si(1e9 * roof['bandwidth_gbs'], 'B/s')}, {roof['source']}")]
    lowest = -math.inf
    for ceiling in roof["ceilings"]:  # from the highest on
        lowest = max(y(ceiling["gflops"]) - 5, lowest + _LABEL_HEIGHT)
        text = f"{ceiling['label']} {si(1e9 * ceiling['gflops'], 'FLOP/s')}, {roof['source']}"
        labels.append(_label(f'x="{_n(x.end - 4)}" y="{_n(lowest)}" text-anchor="end"', text))
    return labels


def _points(points: Sequence[Mapping[str, Any]], x: _Axis, y: _Axis) -> list[str]:
    """Circles, large ones first so that small ones lie on top."""
    longest = max((point["time_us"] for point in points), default=0.0)
    circles = []
    for point in sorted(points, key=lambda point: -point["time_us"]):
        radius = max(_LARGEST_RADIUS * math.sqrt(point["time_us"] / longest), _SMALLEST_RADIUS)
        colour = COLOURS.get(point["bound"], COLOURS["unknown"])
        circles.append(
            f'<circle cx="{_n(x(point["intensity"]))}" cy="{_n(y(point["gflops"]))}" r="{_n(radius)}" '
            f'fill="{colour}" fill-opacity="0.55" stroke="{colour}"><title>{html.escape(_describe(point))}</title>'
            "</circle>"
        )
    return circles


def _describe(point: Mapping[str, Any]) -> str:
    roof = point["roof_fraction"]
    reached = f", {percent(roof)} of its roof" if roof is not None else ""
    return clean(
        f"{point['op']} in {point['phase'] or 'no phase'}: {duration(point['time_us'])} a step, "
        f"{point['bound']}{reached}, {si(1e9 * point['gflops'], 'FLOP/s')}, {point['shapes']}"
    )


def _heading(run: Run) -> list[str]:
    """What is drawn, and the share of kernel time that each bound holds."""
    style = f'font-size="15" font-weight="600" fill="{_INK}"'
    parts = [f'<text x="{_LEFT}" y="22" {style}>{html.escape(title(run))}</text>']
    at = float(_LEFT)
    for entry in figures.bound_shares(run):
        text = f"{entry['bound']} {percent(entry['share'])}"
        colour = COLOURS.get(entry["bound"], COLOURS["unknown"])
        parts.append(f'<circle cx="{_n(at + 5)}" cy="42" r="5" fill="{colour}"/>')
        parts.append(_text(at + 14, 46, text, _INK))
        at += 26 + 6.4 * len(text)
    return parts


def _not_drawn(data: Mapping[str, Any]) -> list[str]:
    """What has no place in the plane."""
    told = [
        f"{duration(sum(group['time_us'] for group in data[kind]))} {what}"
        for kind, what in (("movement", "without arithmetic"), ("unpriced", "without a known cost"))
        if data[kind]
    ]
    if data["hidden"]["groups"]:
        told.append(f"{duration(data['hidden']['time_us'])} in small groups")
    text = f"Not drawn, of the kernel time of a step: {', '.join(told)}"
    return [_text(_LEFT, _HEIGHT - 12, text, _QUIET)] if told else []


def _label(attributes: str, text: str) -> str:
    """A text with a white rim, to be read over lines and circles."""
    rim = f'fill="{_INK}" stroke="#ffffff" stroke-width="3" paint-order="stroke"'
    return f"<text {attributes} {rim}>{html.escape(clean(text))}</text>"


def _text(x: float, y: float, text: str, colour: str, anchor: str = "start") -> str:
    return f'<text x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}" fill="{colour}">{html.escape(clean(text))}</text>'


def _n(value: float) -> str:
    """A coordinate, to a tenth of a pixel."""
    return f"{value:.1f}"
