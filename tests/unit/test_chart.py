"""Axes, ticks, titles and legends, once for all charts: nothing overlaps, nothing is cut without a trace."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from workbench.view.chart import Axis, Frame, fitted, legend, round_ticks, text_width, wrapped
from workbench.view.curve import curve_svg

SVG = "{http://www.w3.org/2000/svg}"


def texts(picture: str) -> list[ET.Element]:
    return list(ET.fromstring(picture).iter(f"{SVG}text"))


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.0, 1.0, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (-150.0, 0.0, ["−150", "−100", "−50", "0"]),
        (1.2e6, 3.4e6, ["1,500,000", "2,000,000", "2,500,000", "3,000,000"]),
        (0.0, 1e-7, ["0", "2e−8", "4e−8", "6e−8", "8e−8", "1.0e−7"]),  # were all 0.00000000 once
        (1e9, 3e9, ["1.0e9", "1.5e9", "2.0e9", "2.5e9", "3.0e9"]),
    ],
)
def test_ticks_are_round_and_told_apart(low, high, said):
    assert [text for _, text in round_ticks(low, high)] == said


def test_a_logarithmic_axis_has_a_place_for_zero_before_the_rest():
    axis = Axis.of([0.0, 0.01, 1.0], log=True)
    at = axis.place(100, 300)
    assert (at(0.0), at(-1.0), at(0.01), at(1.0)) == (100, 100, 130, 300)
    assert at(0.1) == pytest.approx(215)  # half way between 0.01 and 1
    assert axis.ticks(4) == [(0.0, "0"), (0.01, "0.01"), (0.1, "0.1"), (1.0, "1")]


@pytest.mark.parametrize("length", [90, 200, 300, 600])
@pytest.mark.parametrize("values", [(0, 1), (1e6, 9e6), (0, 3e-9)])
def test_ticks_stand_beside_each_other(length, values):
    shown = Axis.of(values).ticks_along(length)
    assert len(shown) >= 2
    assert sum(text_width(text) + 10 for _, text in shown) <= length or length == 90


def test_the_numbers_of_an_axis_have_room_beside_its_label():
    wide = Frame(size=(640, 380), x=Axis.of([0, 1]), y=Axis.of([1e6, 2e6]))
    narrow = Frame(size=(640, 380), x=Axis.of([0, 1]), y=Axis.of([0, 1]))
    longest = max(text_width(text) for _, text in wide.y.ticks())
    assert wide.box[0] >= longest + 6 + 24 and narrow.box[0] == 64  # 24: the turned label


def test_a_long_title_has_two_lines_and_is_whole_where_it_is_read_aloud():
    title = (
        "Faithfulness over size of attribution patching on the indirect objects of the second template " * 2
    )
    picture = curve_svg({"a": [(0, 1), (1, 2)]}, x_label="x", y_label="y", title=title)
    first, second = [t for t in texts(picture) if t.get("class") == "t"]
    assert title.startswith(first.text) and second.text.endswith("…")
    assert ET.fromstring(picture).find(f"{SVG}title").text == title


def test_words_are_shortened_to_their_place():
    assert fitted("induction", 200) == "induction" and fitted("induction", 30) == "ind…"
    assert wrapped("one two three", 45) == ["one two", "three"]
    assert wrapped("one two three four", 60, most=2) == ["one two", "three fo…"]


def test_a_legend_names_every_series_in_columns():
    picture = f'<svg xmlns="http://www.w3.org/2000/svg">{"".join(legend(list("abcd"), 0, 300, 20))}</svg>'
    found = [(t.text, t.get("x"), t.get("y")) for t in texts(picture)]
    assert found == [
        ("a", "30.0", "20.0"),
        ("b", "130.0", "20.0"),
        ("c", "230.0", "20.0"),
        ("d", "30.0", "38.0"),
    ]
