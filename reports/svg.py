"""Figures of a report as SVG files that stand alone: titled, described, readable in light and in dark.

An image cannot see the theme of the page around it, so every figure brings its own ground. Series differ in colour, in
the shape of their points and, where nothing was measured, in dashes; bars carry their values as text.
"""

from __future__ import annotations

from xml.sax.saxutils import escape

from .document import Bar, Bars, Figure, Flag, Heatmap, Kind, Line, Lines, Part, Point, board_line, origin
from .svg_axes import Axis, linear_axis, log_axis, tick_text
from .text import clean, known, number

WIDTH = 760
_FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans','DejaVu Sans',sans-serif"
#: Colours by class, on light and on dark ground; bounds as in theme.css; told apart by colour-blind readers too.
PALETTE = {
    "ground": ("#ffffff", "#1c2024"), "ink": ("#1b1f24", "#e7e9ea"), "quiet": ("#59626d", "#a0a9b2"),
    "grid": ("#dfe0dc", "#343a41"), "mark": ("#8a5000", "#f0b836"), "measured": ("#0f6a53", "#3cbf9a"),
    "s0": ("#2a6fbb", "#5aa2ec"), "s1": ("#c2561a", "#f2935c"), "s2": ("#16866a", "#3cbf9a"),
    "s3": ("#8450b8", "#b68ae6"), "s4": ("#9a7400", "#f0b836"), "s5": ("#cf3f52", "#f2737f"),
    "memory": ("#2469b5", "#5aa2ec"), "compute": ("#12795f", "#3cbf9a"), "latency": ("#b98100", "#f0b836"),
    "inefficient": ("#c23248", "#f2737f"), "communication": ("#8450b8", "#b68ae6"), "unknown": ("#69717b", "#858d96"),
    "good": ("#16866a", "#3cbf9a"), "fair": ("#d99a00", "#f0b836"), "idle": ("#d5d9dd", "#3a424a"),
    "phase": ("#aab4bf", "#4a535d"), "low": ("#b2182b", "#d6604d"), "high": ("#2166ac", "#4393c3"),
}  # fmt: skip
_SERIES = 6
_CHARACTER = 7.0  # width of one at 12 px, on average and a little more
_ROW = 30


def figure_svg(figure: Figure, document_kind: Kind) -> str:
    """A figure as a whole SVG document.

    Args:
        figure: what to draw.
        document_kind: of the report it belongs to, for figures that have no mark of their own.
    """
    mark = origin(figure, document_kind)
    if isinstance(figure, Lines):
        body, height = _lines(figure)
    elif isinstance(figure, Bars):
        body, height = _bars(figure)
    else:
        body, height = _heatmap(figure)
    title, head = clean(figure.caption), _head(figure.caption, mark)
    told = clean(f"{mark}. {description(figure)} {board_line(figure)}".rstrip())
    top = 16 + 18 * len(_wrapped(figure.caption)) + 24
    foot, room = _foot(figure, top + height)
    height += room
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + height}" width="{WIDTH}" '
        f'height="{top + height}" role="img" aria-labelledby="title description">\n'
        f'<title id="title">{escape(title)}</title>\n'
        f'<desc id="description">{escape(told)}</desc>\n'
        f"<style>{style()}</style>\n"
        f'<rect class="ground" width="{WIDTH}" height="{top + height}" rx="8"/>\n'
        f'{head}<g transform="translate(0 {top})">\n{body}</g>\n{foot}</svg>\n'
    )


def description(figure: Figure) -> str:
    """What a figure shows, in words, for those who cannot see it."""
    if isinstance(figure, Lines):
        lines = [
            f"{line.name}: " + ", ".join(f"{number(p.y)} at {number(p.x)}" for p in line.points) + "."
            for line in figure.lines
        ]
        flags = [f"{flag.text}." for flag in figure.flags]
        return " ".join([f"{figure.y_title} over {figure.x_title}.", *lines, *flags])
    if isinstance(figure, Bars):
        return " ".join(f"{bar.name}: {bar.text} ({_parts_text(bar, figure.unit)})." for bar in figure.bars)
    return " ".join(
        f"{name}: " + ", ".join(f"{column} {text}" for column, text in zip(figure.columns, texts)) + "."
        for name, texts in zip(figure.rows, figure.texts)
    )


def _parts_text(bar: Bar, unit: str) -> str:
    return ", ".join(
        f"{part.label} {number(part.value)} {unit}".strip() for part in bar.parts if part.value > 0 and _visible(part)
    )


def _visible(part: Part) -> bool:
    return part.style != "blank"


def style() -> str:
    """The style sheet of a picture: a class to fill with each colour, and with ``-line`` one to draw with it."""

    def rules(dark: int) -> str:
        inks = {name: colours[dark] for name, colours in PALETTE.items()}
        return "".join(f".{name}{{fill:{ink}}}.{name}-line{{stroke:{ink}}}" for name, ink in inks.items())

    general = (
        f"text{{font:12px {_FONT}}}.caption{{font-size:14px;font-weight:600}}.tag{{font-size:11px;font-weight:700;"
        "letter-spacing:.05em}.line{fill:none;stroke-width:2}.dashed{stroke-dasharray:7 4}.band{fill-opacity:.13}"
        ".edge{stroke-width:1}.whisker{stroke-width:1.2}.flag{stroke-width:1.5;stroke-dasharray:2 3}"
    )
    return f"{general}{rules(0)}@media (prefers-color-scheme:dark){{{rules(1)}}}"


def _head(caption: str, mark: str) -> str:
    lines = _wrapped(caption)
    drawn = "".join(_text(18, 26 + 18 * place, line, "ink caption") for place, line in enumerate(lines))
    tag = "tag measured" if mark.startswith("measured") else "tag mark"
    return drawn + _text(18, 26 + 18 * len(lines), mark.upper(), tag)


def _foot(figure: Figure, top: float) -> tuple[str, float]:
    """What only the device itself can tell, below the figure, and how much room that takes."""
    lines = _wrapped(board_line(figure), 112) if figure.board else []
    drawn = "".join(_text(18, top + 8 + 16 * place, line, "mark") for place, line in enumerate(lines))
    return drawn, 16 * len(lines) + 6 if lines else 0


def _wrapped(text: str, width: int = 96) -> list[str]:
    lines = [""]
    for word in clean(text).split():
        joined = f"{lines[-1]} {word}".strip()
        if len(joined) <= width or not lines[-1]:
            lines[-1] = joined
        else:
            lines.append(word)
    return lines


def _text(x: float, y: float, text: str, style: str = "quiet", anchor: str = "start", more: str = "") -> str:
    place = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}"{place}{more}>{escape(clean(text))}</text>\n'


def _lines(figure: Lines) -> tuple[str, float]:
    legend, used = _legend(
        [(f"s{place % _SERIES}", _line_name(line), place) for place, line in enumerate(figure.lines)]
    )
    top, bottom = used + 14.0, used + 290.0
    points = [point for line in figure.lines for point in line.points]
    ys = [value for p in points for value in (p.y, p.low, p.high)]
    x = (log_axis if figure.x_log else linear_axis)([p.x for p in points], 66.0, WIDTH - 24.0)
    y = (log_axis if figure.y_log else linear_axis)(ys, bottom, top)
    drawn = "".join(
        _series(line, place, x, y, figure.joined if line.joined is None else line.joined)
        for place, line in reversed(list(enumerate(figure.lines)))
    )
    flags = "".join(_flag(flag, place, x, top, bottom) for place, flag in enumerate(figure.flags))
    return legend + _axes(figure, x, y, top, bottom) + flags + drawn, bottom + 50


def _flag(flag: Flag, place: int, x: Axis, top: float, bottom: float) -> str:
    """A named line at a place on the x axis; names stand above each other there, to the left where there is no room."""
    at, style = x.place(flag.x), f"s{flag.line % _SERIES}"
    left = at + 8 + _CHARACTER * len(flag.text) > WIDTH - 24
    line = f'<line class="flag {style}-line" x1="{at:.1f}" x2="{at:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>\n'
    return line + _text(at + (-6 if left else 6), bottom - 8 - 15 * place, flag.text, "ink", "end" if left else "start")


def _line_name(line: Line) -> str:
    return line.name if line.kind == "measured" else f"{line.name} ({line.kind})"


def _axes(figure: Lines, x: Axis, y: Axis, top: float, bottom: float) -> str:
    left, right, drawn, labelled = 66.0, WIDTH - 24.0, "", -100.0
    for tick in y.ticks:
        at = y.place(tick)
        drawn += f'<line class="grid-line" x1="{left}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>\n'
        drawn += _text(left - 7, at + 4, tick_text(tick), "quiet", "end")
    for tick in _x_ticks(figure, x):
        at = x.place(tick)
        drawn += f'<line class="grid-line" x1="{at:.1f}" x2="{at:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>\n'
        if at - labelled >= 34:
            drawn += _text(at, bottom + 17, tick_text(tick), "quiet", "middle")
            labelled = at
    middle = (top + bottom) / 2
    drawn += _text((left + right) / 2, bottom + 37, figure.x_title, "ink", "middle")
    return drawn + _text(0, 0, figure.y_title, "ink", "middle", f' transform="translate(16 {middle:.1f}) rotate(-90)"')


def _x_ticks(figure: Lines, x: Axis) -> tuple[float, ...]:
    """The values that were chosen where there are few, as of batch sizes; else those of the axis."""
    values = sorted({point.x for line in figure.lines for point in line.points})
    return tuple(values) if figure.x_log and len(values) <= 8 else x.ticks


def _series(line: Line, place: int, x: Axis, y: Axis, joined: bool) -> str:
    style = f"s{place % _SERIES}"
    dashed = "" if line.kind == "measured" else " dashed"
    shown = [point for point in line.points if known(point.x) and known(point.y)]
    banded = [point for point in shown if point.low is not None and point.high is not None]
    drawn = ""
    if joined and len(banded) > 1:
        upper = [f"{x.place(p.x):.1f},{y.place(p.high):.1f}" for p in banded if p.high is not None]
        lower = [f"{x.place(p.x):.1f},{y.place(p.low):.1f}" for p in reversed(banded) if p.low is not None]
        drawn += f'<polygon class="band {style}" points="{" ".join([*upper, *lower])}"/>\n'
    if joined and len(shown) > 1:
        path = " ".join(f"{x.place(p.x):.1f},{y.place(p.y):.1f}" for p in shown)
        drawn += f'<polyline class="line {style}-line{dashed}" style="fill:none" points="{path}"/>\n'
    for point in shown:
        if point.low is not None and point.high is not None and (not joined or len(banded) == 1):
            at = x.place(point.x)
            ends = f'y1="{y.place(point.low):.1f}" y2="{y.place(point.high):.1f}"'
            drawn += f'<line class="whisker {style}-line" x1="{at:.1f}" x2="{at:.1f}" {ends}/>\n'
        drawn += _marker(place, x.place(point.x), y.place(point.y), f"{line.name}: {_point_text(point)}")
    return drawn


def _point_text(point: Point) -> str:
    interval = "" if point.low is None else f" ({number(point.low)} to {number(point.high)})"
    return f"{number(point.y)}{interval} at {number(point.x)}"


def _marker(place: int, x: float, y: float, title: str = "") -> str:
    """A point; every series has a shape of its own."""
    style, told = f"s{place % _SERIES}", f"<title>{escape(clean(title))}</title>" if title else ""
    corners = {
        1: ((-4, -4), (4, -4), (4, 4), (-4, 4)),
        2: ((0, -5), (5, 4), (-5, 4)),
        3: ((0, -5.5), (5.5, 0), (0, 5.5), (-5.5, 0)),
        4: ((-5, -4), (5, -4), (0, 5)),
        5: ((-1.5, -5), (1.5, -5), (1.5, -1.5), (5, -1.5), (5, 1.5), (1.5, 1.5), (1.5, 5), (-1.5, 5), (-1.5, 1.5),
            (-5, 1.5), (-5, -1.5), (-1.5, -1.5)),
    }.get(place % _SERIES)  # fmt: skip
    if corners is None:
        return f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="4">{told}</circle>\n'
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon class="{style}" points="{points}">{told}</polygon>\n'


def _legend(entries: list[tuple[str, str, int | None]]) -> tuple[str, float]:
    """Entries of style, name and, for lines, place; and how much room they take."""
    drawn, x, y = "", 18.0, 6.0
    for style, name, place in entries:
        width = 26 + _CHARACTER * len(name)
        if x + width > WIDTH - 18 and x > 18:
            x, y = 18.0, y + 19
        swatch = f'<rect class="{style}" x="{x:.1f}" y="{y - 9:.1f}" width="11" height="11" rx="2"/>\n'
        drawn += swatch if place is None else _marker(place, x + 5.5, y - 3.5)
        drawn += _text(x + 17, y + 1, name)
        x += width
    return drawn, y + 4


def _bars(figure: Bars) -> tuple[str, float]:
    legend, used = _legend([(_part_class(style), name, None) for style, name in figure.legend])
    y = used + 10 if figure.legend else 0.0
    name_room = min(230.0, 24 + _CHARACTER * max((max(len(b.name), len(b.note)) for b in figure.bars), default=0))
    text_room = min(230.0, 16 + _CHARACTER * max((len(b.text) for b in figure.bars), default=0))
    longest = max((sum(part.value for part in bar.parts) for bar in figure.bars), default=0.0) or 1.0
    scale = (WIDTH - name_room - text_room - 24) / longest
    drawn = legend if figure.legend else ""
    for bar in figure.bars:
        drawn += _bar(bar, figure.unit, name_room, y, scale)
        y += _ROW + (12 if bar.note else 0)
    return drawn, y + 14


def _bar(bar: Bar, unit: str, left: float, y: float, scale: float) -> str:
    drawn = _text(18, y + 16, bar.name, "ink")
    if bar.note:
        drawn += _text(18, y + 31, bar.note)
    x = left
    for part in bar.parts:
        width = max(0.0, part.value * scale)
        if _visible(part) and width > 0:
            title = escape(clean(f"{part.label}: {number(part.value)} {unit}".strip()))
            drawn += (
                f'<rect class="{_part_class(part.style)} ground-line edge" x="{x:.1f}" y="{y:.1f}" '
                f'width="{max(width, 0.8):.1f}" height="22"><title>{title}</title></rect>\n'
            )
            if width > _CHARACTER * len(part.label) + 8:
                style = "ink" if part.style in ("phase", "idle", "quiet") else "ground"
                drawn += _text(x + width / 2, y + 15, part.label, style, "middle")
        x += width
    return drawn + _text(x + 8, y + 15, bar.text, "ink")


def _part_class(style: str) -> str:
    return style if style in PALETTE and style not in ("quiet", "ink", "ground", "grid") else "phase"


def _heatmap(figure: Heatmap) -> tuple[str, float]:
    name_room = min(250.0, 26 + _CHARACTER * max((len(name) for name in figure.rows), default=0))
    cell = (WIDTH - name_room - 18) / max(1, len(figure.columns))
    drawn = "".join(
        _text(name_room + cell * (place + 0.5), 12, name, "ink", "middle") for place, name in enumerate(figure.columns)
    )
    y = 20.0
    for name, shades, texts in zip(figure.rows, figure.shades, figure.texts):
        drawn += _text(18, y + 18, name, "ink")
        for place, (shade, text) in enumerate(zip(shades, texts)):
            drawn += _cell(name_room + cell * place, y, cell, shade, text)
        y += 28
    return drawn, y + 14


def _cell(x: float, y: float, width: float, shade: float | None, text: str) -> str:
    """A cell: the darker of either hue, the further from the middle; the number stands in it."""
    colour = "grid" if shade is None else "low" if shade < 0.5 else "high"
    strength = 0.0 if shade is None else min(1.0, abs(min(max(shade, 0.0), 1.0) - 0.5) * 2) * 0.45
    box = f'x="{x + 1:.1f}" y="{y:.1f}" width="{width - 2:.1f}" height="26" rx="2"'
    return f'<rect class="{colour}" fill-opacity="{strength:.2f}" {box}/>\n' + _text(
        x + width / 2, y + 17, text, "ink", "middle"
    )
