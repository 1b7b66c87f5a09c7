"""The benchmark's plots: well-formed, to scale, and safe with any name."""

from xml.etree import ElementTree

import pytest
from svg import COLOURS, bars, curves, lines

SVG = "{http://www.w3.org/2000/svg}"


def test_bars_are_to_scale() -> None:
    page = ElementTree.fromstring(bars("a <b>", {"reads & more": 1.0, "writes": 0.25}))
    _, first, second = page.iter(f"{SVG}rect")
    assert float(first.get("width")) == pytest.approx(4 * float(second.get("width")), abs=0.2)
    assert "reads & more" in {each.text for each in page.iter(f"{SVG}text")}


def test_curves_rise_with_their_values_on_a_logarithmic_scale() -> None:
    lines = {"ours": [(50, 1.0), (90, 10.0), (99, 100.0)], "theirs": [(50, 2.0), (99, 3.0)]}
    page = ElementTree.fromstring(curves("latency", lines, x="percentile", y="ms"))
    ours, theirs = page.iter(f"{SVG}polyline")
    heights = [float(point.split(",")[1]) for point in ours.get("points").split()]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.2)
    assert heights[0] > heights[1]
    assert len(theirs.get("points").split()) == 2
    # From 1 to 100 by 1, 2 and 5, and nothing beyond.
    said = [each.text for each in page.iter(f"{SVG}text")]
    assert said[1:8] == ["1", "2", "5", "10", "20", "50", "100"]


def test_the_yardstick_is_grey_and_takes_no_colour_from_the_others() -> None:
    lines = {"theirs": [(50, 2.0), (99, 3.0)], "ours": [(50, 1.0), (99, 1.5)]}
    page = ElementTree.fromstring(curves("latency", lines, "percentile", "ms", "theirs"))
    assert [each.get("stroke") for each in page.iter(f"{SVG}polyline")] == list(COLOURS[:2])


def test_lines_are_to_scale_between_round_ticks() -> None:
    given = {"ours": [(0.0, 0.0), (6.5, 500.0), (13.0, 1000.0)], "theirs": [(13.0, 250.0)]}
    page = ElementTree.fromstring(lines("progress", given, "seconds", "Secrets"))
    ours, _ = page.iter(f"{SVG}polyline")
    places = [tuple(map(float, point.split(","))) for point in ours.get("points").split()]
    for part in (0, 1):
        first, second, third = (place[part] for place in places)
        assert second - first == pytest.approx(third - second, abs=0.2)
    said = {each.text for each in page.iter(f"{SVG}text")}
    assert {"0", "1,000", "20", "ours", "theirs", "seconds"} <= said
