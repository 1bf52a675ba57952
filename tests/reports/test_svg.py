"""Figures as SVG files: well-formed, titled, described, marked, and safe whatever the names are."""

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeroof.reports.document import Bar, Bars, Figure, Flag, Heatmap, Line, Lines, Part, Point
from edgeroof.reports.svg import figure_svg
from edgeroof.reports.svg_axes import linear_axis, log_axis, tick_text

from .sample_document import HOSTILE

LINES = Lines(
    "MFU over batch sizes", "batch", "MFU, %",
    (
        Line("small", (Point(1, 5.0, 4.0, 7.0), Point(8, 9.0, 7.0, 12.0)), "projected"),
        Line("base", (Point(1, 6.0), Point(8, 11.0)), "measured"),
    ),
    x_log=True, mark="projected",
)  # fmt: skip
BARS = Bars(
    "Phases", (Bar("true", (Part("forward", 40, "s0"), Part("optimizer", 60, "s1")), "100 ms", "measured"),), "%"
)
GRID = Heatmap("G", ("all weights",), ("lte", "10g"), ((0.1, None),), (("0.03", "–"),))


def read(figure: Figure, kind: str = "simulated") -> ET.Element:
    return ET.fromstring(figure_svg(figure, kind))


def texts(root: ET.Element) -> list[str]:
    return [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("figure", [LINES, BARS, GRID], ids=["lines", "bars", "heatmap"])
def test_a_figure_stands_alone(figure: Figure) -> None:
    root = read(figure)
    assert root.get("role") == "img"
    title, description = root[0], root[1]
    assert title.text == figure.caption
    assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    assert any(character.isdigit() for character in description.text)
    assert "prefers-color-scheme:dark" in root[2].text
    assert "http" not in figure_svg(figure, "measured").replace("http://www.w3.org/2000/svg", "")


def test_it_says_where_its_numbers_come_from() -> None:
    assert "PROJECTED" in texts(read(LINES))  # its own mark
    assert "SIMULATED" in texts(read(BARS))  # that of its document
    assert read(LINES)[1].text.startswith("projected.")


@pytest.mark.parametrize("figure", [LINES, BARS, GRID], ids=["lines", "bars", "heatmap"])
def test_it_says_what_only_a_board_can_tell(figure: Figure) -> None:
    root, plain = read(replace(figure, board=f"the power it draws {HOSTILE}, " + "and more " * 20)), read(figure)
    assert "Only a board can tell: the power it draws" in root[1].text
    feet = [e for e in root.iter("{http://www.w3.org/2000/svg}text") if e.get("class") == "mark"]
    assert feet[0].text.startswith("Only a board can tell: the power it draws")
    assert len(feet) > 1
    assert all(float(foot.get("y")) < float(root.get("height")) for foot in feet)
    assert float(feet[0].get("y")) > float(plain.get("height")) - 16
    assert "board" not in plain[1].text


def test_a_named_place_on_the_axis_is_a_line() -> None:
    figure = replace(LINES, flags=(Flag(8, "knee at 8"), Flag(1, "knee of base at 1", 1)))
    root = read(figure)
    flags = [e for e in root.iter("{http://www.w3.org/2000/svg}line") if "flag" in e.get("class")]
    marks = [float(e.get("cx")) for e in root.iter("{http://www.w3.org/2000/svg}circle")]
    assert float(flags[0].get("x1")) == max(marks)
    assert {"knee at 8", "knee of base at 1"} <= set(texts(root))
    assert "knee at 8." in root[1].text


def test_what_was_not_measured_is_dashed() -> None:
    lines = [e.get("class") for e in read(LINES).iter("{http://www.w3.org/2000/svg}polyline")]
    assert sorted("dashed" in name for name in lines) == [False, True]


def test_intervals_are_drawn() -> None:
    assert len(list(read(LINES).iter("{http://www.w3.org/2000/svg}polygon"))) > 1
    single = Lines("x", "x", "y", (Line("one", (Point(1, 5.0, 4.0, 7.0),)),))
    (whisker,) = [e for e in read(single).iter() if "whisker" in e.get("class", "")]
    assert float(whisker.get("y1")) > float(whisker.get("y2"))


def test_the_same_values_lie_where_they_should() -> None:
    root = read(
        Lines(
            "x",
            "x",
            "y",
            (
                Line(
                    "one",
                    (Point(1, 1.0), Point(2, 2.0), Point(3, 4.0)),
                ),
            ),
        )
    )
    (path,) = root.iter("{http://www.w3.org/2000/svg}polyline")
    (x1, y1), (x2, y2), (x3, y3) = (map(float, pair.split(",")) for pair in path.get("points").split())
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.2)
    assert y2 - y3 == pytest.approx(2 * (y1 - y2), abs=0.3)


def test_names_cannot_break_out() -> None:
    hostile = f"{HOSTILE}\x1b[31m&\"'"
    for figure in (
        Lines(hostile, hostile, hostile, (Line(hostile, (Point(1, 1),)),), mark=hostile),
        Bars(
            hostile, (Bar(hostile, (Part(hostile, 1.0, hostile),), hostile, hostile),), hostile, ((hostile, hostile),)
        ),
        Heatmap(hostile, (hostile,), (hostile,), ((0.5,),), ((hostile,),)),
    ):
        root = read(figure)  # parses
        assert not list(root.iter("{http://www.w3.org/2000/svg}script"))
        assert "\x1b" not in figure_svg(figure, "mixed")


@pytest.mark.parametrize("figure", [Lines("none", "x", "y", ()), Bars("none", ()), Heatmap("none", (), (), (), ())])
def test_nothing_to_draw_is_no_error(figure: Figure) -> None:
    assert read(figure)[0].text == "none"


def test_values_that_are_none_are_left_out() -> None:
    root = read(Lines("x", "x", "y", (Line("one", (Point(1, math.nan), Point(2, 3.0))),)))
    assert "nan" not in ET.tostring(root, encoding="unicode").lower().replace("no value", "")


@given(st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=20))
def test_axes_keep_order_and_room(values: list[float]) -> None:
    for make in (linear_axis, log_axis):
        axis = make(values, 300.0, 10.0)
        places = [axis.place(value) for value in sorted(values)]
        assert all(9.9 <= place <= 300.1 for place in places)
        assert places == sorted(places, reverse=True)
        assert 2 <= len(axis.ticks) <= 20
        assert list(axis.ticks) == sorted(set(axis.ticks))


@pytest.mark.parametrize(("value", "text"), [(0.05, "0.05"), (1000, "1,000"), (1e6, "1e6"), (0, "0"), (0.3, "0.3")])
def test_ticks_are_short(value: float, text: str) -> None:
    assert tick_text(value) == text
    assert not re.search(r"\.\d{7}", tick_text(0.1 + 0.2))
