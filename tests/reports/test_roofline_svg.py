import itertools
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from edgeroof.errors import RunError
from edgeroof.profiler.run import Run
from edgeroof.reports import figures
from edgeroof.reports.roofline_svg import roofline_svg

from .sample_run import imported_run, projected_run, sample_run

SVG = "{http://www.w3.org/2000/svg}"


def parsed(run: Run) -> ElementTree.Element:
    return ElementTree.fromstring(roofline_svg(run))


def texts(root: ElementTree.Element) -> str:
    return "\n".join(element.text or "" for element in root.iter(f"{SVG}text"))


def circles(root: ElementTree.Element) -> list[ElementTree.Element]:
    """Those of kernels, which say what they are."""
    return [circle for circle in root.iter(f"{SVG}circle") if circle.find(f"{SVG}title") is not None]


@pytest.mark.parametrize("make", [sample_run, imported_run, projected_run])
def test_every_point_is_drawn_within_the_picture(make: type) -> None:
    run = make()
    root = parsed(run)
    points = figures.roofline_points(run)["points"]
    assert len(circles(root)) == len(points) > 0
    width, height = (float(root.attrib[name]) for name in ("width", "height"))
    for circle in circles(root):
        assert 0 < float(circle.attrib["cx"]) < width
        assert 0 < float(circle.attrib["cy"]) < height


def test_points_stand_where_their_numbers_say() -> None:
    """Ten times the rate or the intensity is the same distance everywhere, upwards and to the right."""
    run = sample_run(hostile=False)
    points = sorted(figures.roofline_points(run)["points"], key=lambda point: -point["time_us"])
    places = [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in circles(parsed(run))]
    by_intensity = sorted(zip([point["intensity"] for point in points], [x for x, _ in places]))
    by_rate = sorted(zip([point["gflops"] for point in points], [-y for _, y in places]))
    for pairs in (by_intensity, by_rate):
        positions = [position for _, position in pairs]
        assert all(second >= first - 0.11 for first, second in itertools.pairwise(positions))
    assert len(set(places)) > 5


def test_the_roof_that_was_used_is_named_with_its_source() -> None:
    shown = texts(parsed(sample_run()))
    assert "184 GB/s, measured" in shown
    assert "spec" not in shown
    assert "205 GB/s, spec" in texts(parsed(projected_run()))


def test_what_is_not_drawn_is_told() -> None:
    assert re.search(r"Not drawn, .*: .* without arithmetic, .* without a known cost", texts(parsed(sample_run())))


def test_projections_say_so_twice() -> None:
    shown = texts(parsed(projected_run()))
    assert "PROJECTED" in shown
    assert "(projected)" in shown
    assert "PROJECTED" not in texts(parsed(sample_run()))


def test_hostile_names_stay_text() -> None:
    run = sample_run(hostile=True)
    run.summary["title"] = '</text><script>alert("x")</script>\x00'
    svg = roofline_svg(run)
    assert "<script" not in svg
    ElementTree.fromstring(svg)


def test_a_run_without_any_cost_gives_a_picture_that_says_so() -> None:
    run = imported_run()
    run.kernels[["flops", "bytes_read", "bytes_written", "intensity", "gflops"]] = float("nan")
    run.summary["device"]["roofs"] = []
    root = parsed(run)
    assert not circles(root)
    assert "without a known cost" in texts(root)


def test_circles_have_the_colour_of_their_bound() -> None:
    run = sample_run(hostile=False)
    points = sorted(figures.roofline_points(run)["points"], key=lambda point: -point["time_us"])
    found = [circle.attrib["class"].split() for circle in circles(parsed(run))]
    assert found == [["point", point["bound"], f"{point['bound']}-line"] for point in points]
    style = next(parsed(run).iter(f"{SVG}style")).text
    assert all(f".{bound}{{fill:" in style for bound in figures.BOUNDS)


def test_a_run_shows_its_roofline_in_a_notebook(tmp_path: Path) -> None:
    run = sample_run()
    figure = run.roofline()
    bundle = figure._repr_mimebundle_()
    assert bundle["image/svg+xml"] == figure.svg == roofline_svg(run)
    assert bundle["text/plain"] == str(figure)
    assert run.summary["answer"]["headline"] in str(figure)
    assert len(repr(figure)) < 500
    figure.save(tmp_path / "roofline.svg")
    assert (tmp_path / "roofline.svg").read_text(encoding="utf-8") == figure.svg
    with pytest.raises(RunError, match="could not be written"):
        figure.save(tmp_path / "nowhere" / "roofline.svg")
