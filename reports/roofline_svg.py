"""The roofline of a run as a still picture: SVG that a notebook, a paper or a page can show as it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from . import figures
from .svg import style
from .svg_axes import Axis, log_axis, tick_text
from .text import clean, duration, percent, si

if TYPE_CHECKING:
    from ..profiler.run import Run

_WIDTH, _HEIGHT = 820, 500
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 24, 66, 74
_LARGEST_RADIUS, _SMALLEST_RADIUS = 24.0, 3.0
#: Labels of ceilings keep this distance, in pixels.
_LABEL_HEIGHT = 13
_POINT_STYLE = ".point{fill-opacity:.55}.roof{fill:none;stroke-width:1.4}.rim{paint-order:stroke;stroke-width:3}"


@dataclass(frozen=True)
class _Plane:
    """Where the picture has which intensity and which rate, and the ends of what it shows."""

    x: Axis
    y: Axis
    lowest: tuple[float, float]
    highest: tuple[float, float]


def roofline_svg(run: Run) -> str:
    """Draw the kernels of a run under the roof that they were judged by.

    A circle is a group of kernels that do the same in one phase, its area their time; kernels without arithmetic have
    no place in this plane and are named below it.
    """
    data = figures.roofline_points(run)
    roof = _roof_used(run, data["points"])
    plane = _plane(data["points"], roof)
    parts = [
        *_heading(run),
        *_frame(plane),
        *_watermark(run),
        *(_roof_lines(roof, plane) if roof else []),
        *_points(data["points"], plane),
        *(_roof_labels(roof, plane) if roof else []),
        *_not_drawn(data),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" role="img">\n<title>Roofline of {escape(title(run))}</title>\n'
        f"<style>{style()}{_POINT_STYLE}</style>\n"
        f'<rect class="ground" width="{_WIDTH}" height="{_HEIGHT}" rx="8"/>\n' + "\n".join(parts) + "\n</svg>\n"
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


def _plane(points: Sequence[Mapping[str, Any]], roof: Mapping[str, Any] | None) -> _Plane:
    """A plane that holds every point, every ridge with some of the flat roof, and every ceiling."""
    peaks = [ceiling["gflops"] for ceiling in roof["ceilings"]] if roof else []
    ridges = [peak / roof["bandwidth_gbs"] for peak in peaks] if roof else []
    intensities = [point["intensity"] for point in points] + [4 * ridge for ridge in ridges] or [0.1, 100.0]
    rates = [point["gflops"] for point in points] + peaks or [1.0, 1e3]
    lowest, highest = (min(intensities) / 2, min(rates) / 2), (max(intensities) * 2, max(rates) * 2)
    return _Plane(
        log_axis([lowest[0], highest[0]], _LEFT, _WIDTH - _RIGHT),
        log_axis([lowest[1], highest[1]], _HEIGHT - _BOTTOM, _TOP),
        lowest,
        highest,
    )


def _frame(plane: _Plane) -> list[str]:
    """Lines at the ticks, their values, and what the axes are."""
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for tick in plane.x.ticks:
        at = plane.x.place(tick)
        parts.append(f'<path class="grid-line" d="M{_n(at)} {bottom}V{_TOP}"/>')
        parts.append(_text(at, bottom + 16, tick_text(tick), "quiet", "middle"))
    for tick in plane.y.ticks:
        at = plane.y.place(tick)
        parts.append(f'<path class="grid-line" d="M{_LEFT} {_n(at)}H{right}"/>')
        parts.append(_text(_LEFT - 6, at + 4, tick_text(tick), "quiet", "end"))
    parts.append(_text((_LEFT + right) / 2, bottom + 32, "FLOP per byte", "ink", "middle"))
    turned = f"translate(16 {_n((_TOP + bottom) / 2)}) rotate(-90)"
    parts.append(f'<text class="ink" transform="{turned}" text-anchor="middle">GFLOP/s</text>')
    return parts


def _watermark(run: Run) -> list[str]:
    if run.summary["kind"] != "projected":
        return []
    large = "font-size:64px;font-weight:700;opacity:.16"
    place = f'x="{_WIDTH / 2:g}" y="{_HEIGHT / 2:g}"'
    return [f'<text class="mark" {place} text-anchor="middle" style="{large}">PROJECTED</text>']


def _roof_lines(roof: Mapping[str, Any], plane: _Plane) -> list[str]:
    """The slope of the bandwidth up to the highest ceiling, and each ceiling from its ridge on."""
    (x0, y0), (x1, y1) = _slope(roof, plane)
    lines = [f'<path class="roof ink-line" d="M{_n(x0)} {_n(y0)}L{_n(x1)} {_n(y1)}"/>']
    for ceiling in roof["ceilings"]:
        start = min(max(ceiling["gflops"] / roof["bandwidth_gbs"], plane.lowest[0]), plane.highest[0])
        at, height = plane.x.place(start), plane.y.place(ceiling["gflops"])
        lines.append(f'<path class="roof ink-line" d="M{_n(at)} {_n(height)}H{_WIDTH - _RIGHT}"/>')
    return lines


def _slope(roof: Mapping[str, Any], plane: _Plane) -> tuple[tuple[float, float], tuple[float, float]]:
    """Both ends of the slope, in pixels."""
    bandwidth = roof["bandwidth_gbs"]
    left = max(plane.lowest[0], plane.lowest[1] / bandwidth)
    ridge = max(ceiling["gflops"] for ceiling in roof["ceilings"]) / bandwidth
    return (
        (plane.x.place(left), plane.y.place(left * bandwidth)),
        (plane.x.place(ridge), plane.y.place(ridge * bandwidth)),
    )


def _roof_labels(roof: Mapping[str, Any], plane: _Plane) -> list[str]:
    """Names of the ceilings at their right end, kept apart, and of the bandwidth along its slope."""
    (x0, y0), (x1, y1) = _slope(roof, plane)
    angle = math.degrees(math.atan2(y1 - y0, x1 - x0))
    along = f"translate({_n(x0 + 0.3 * (x1 - x0))} {_n(y0 + 0.3 * (y1 - y0) - 7)}) rotate({angle:.1f})"
    labels = [_label(f'transform="{along}"', f"{si(1e9 * roof['bandwidth_gbs'], 'B/s')}, {roof['source']}")]
    lowest = -math.inf
    for ceiling in roof["ceilings"]:  # from the highest on
        lowest = max(plane.y.place(ceiling["gflops"]) - 5, lowest + _LABEL_HEIGHT)
        text = f"{ceiling['label']} {si(1e9 * ceiling['gflops'], 'FLOP/s')}, {roof['source']}"
        labels.append(_label(f'x="{_WIDTH - _RIGHT - 4}" y="{_n(lowest)}" text-anchor="end"', text))
    return labels


def _points(points: Sequence[Mapping[str, Any]], plane: _Plane) -> list[str]:
    """Circles, large ones first so that small ones lie on top."""
    longest = max((point["time_us"] for point in points), default=0.0)
    circles = []
    for point in sorted(points, key=lambda point: -point["time_us"]):
        radius = max(_LARGEST_RADIUS * math.sqrt(point["time_us"] / longest), _SMALLEST_RADIUS)
        place = f'cx="{_n(plane.x.place(point["intensity"]))}" cy="{_n(plane.y.place(point["gflops"]))}"'
        circles.append(
            f'<circle class="point {_ink(point["bound"])} {_ink(point["bound"])}-line" {place} r="{_n(radius)}">'
            f"<title>{escape(_describe(point))}</title></circle>"
        )
    return circles


def _ink(bound: str) -> str:
    """The class of a bound's colour."""
    return bound if bound in figures.BOUNDS else "unknown"


def _describe(point: Mapping[str, Any]) -> str:
    roof = point["roof_fraction"]
    reached = f", {percent(roof)} of its roof" if roof is not None else ""
    return clean(
        f"{point['op']} in {point['phase'] or 'no phase'}: {duration(point['time_us'])} a step, "
        f"{point['bound']}{reached}, {si(1e9 * point['gflops'], 'FLOP/s')}, {point['shapes']}"
    )


def _heading(run: Run) -> list[str]:
    """What is drawn, and the share of kernel time that each bound holds."""
    parts = [f'<text class="ink caption" x="{_LEFT}" y="22">{escape(title(run))}</text>']
    at = float(_LEFT)
    for entry in figures.bound_shares(run):
        text = f"{entry['bound']} {percent(entry['share'])}"
        parts.append(f'<circle class="{_ink(entry["bound"])}" cx="{_n(at + 5)}" cy="42" r="5"/>')
        parts.append(_text(at + 14, 46, text, "ink"))
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
    return [_text(_LEFT, _HEIGHT - 12, text, "quiet")] if told else []


def _label(attributes: str, text: str) -> str:
    """A text with a rim of the ground, to be read over lines and circles."""
    return f'<text class="ink ground-line rim" {attributes}>{escape(clean(text))}</text>'


def _text(x: float, y: float, text: str, ink: str, anchor: str = "start") -> str:
    return f'<text class="{ink}" x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}">{escape(clean(text))}</text>'


def _n(value: float) -> str:
    """A coordinate, to a tenth of a pixel."""
    return f"{value:.1f}"
