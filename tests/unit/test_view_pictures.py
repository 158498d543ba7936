"""Pictures are numbers and words: what a file may hold is drawn, what is anything else is refused."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.circuits import HOSTILE
from tests.unit.test_view import shown
from workbench.core.claims import judge
from workbench.core.errors import RunError, ShapeError
from workbench.core.typed import typed
from workbench.papers.kinds import Findings
from workbench.papers.result import Result, Results
from workbench.view.bars import bars_svg
from workbench.view.curve import curve_svg
from workbench.view.heatmap import heatmap_svg
from workbench.view.pictures import Bars, Curves, Heatmap, Picture, Scatter
from workbench.view.scatter import scatter_svg

NAN = float("nan")
MATRIX = np.array([[1.0, -2.5], [NAN, 0.1 + 0.2]])
BARS = [("a", 1.0, 0.5, 1.5, "n = 3"), ("b", -2.0, NAN, NAN, "")]
SERIES = {"one": [(1, 2.0, 0.1), (2, NAN, 0.1)], "two": [(1, 2.0, 1.0, 3.0), (3, 4.0, 3.0, 5.0)]}
POINTS = {"heads": [(0.1, 0.2, "a0.h0"), (0.3, -0.4, "a1.h2")]}
LABELS = {"x_label": "x", "y_label": "y"}
MADE = {
    "heatmap": (
        Heatmap.of(MATRIX, ["r0", "r1"], ["c0", "c1"], title="t", unit="logits", column_title="key"),
        heatmap_svg(MATRIX, ["r0", "r1"], ["c0", "c1"], title="t", unit="logits", column_title="key"),
    ),
    "bars": (Bars.of(BARS, x_label="x", title="t", width=720), bars_svg(BARS, x_label="x", title="t", width=720)),
    "curves": (
        Curves.of(SERIES, **LABELS, log_x=True, reference={"full": 1.0}),
        curve_svg(SERIES, **LABELS, log_x=True, reference={"full": 1.0}),
    ),
    "scatter": (Scatter.of(POINTS, **LABELS, diagonal="equal"), scatter_svg(POINTS, **LABELS, diagonal="equal")),
}  # fmt: skip


def picture_of(data: object) -> Picture:
    return typed(data, Picture, where="the picture", error=RunError)


@pytest.mark.parametrize("kind", MADE)
def test_a_picture_comes_back_from_json_and_is_drawn_the_same(kind):
    picture, drawn = MADE[kind]
    back = picture_of(json.loads(json.dumps(picture.to_dict(), allow_nan=False)))
    assert back == picture and back.svg() == drawn == picture._repr_html_()
    assert picture.to_dict()["kind"] == kind


MARKUP = (
    "<svg/onload=document.title='x'></svg>",
    "<svg class=\"x\"onload=document.title='x'></svg>",
    "<svg><animate/onbegin=document.title='x' attributeName=x dur=1s></svg>",
    "<svg></svg>",
)


@pytest.mark.parametrize("markup", MARKUP)
def test_no_markup_is_read_as_a_picture(markup):
    with pytest.raises(RunError, match=r"pictures\.p is text; expected an object"):
        Findings.from_dict({"claims": [], "tables": {}, "pictures": {"p": markup}, "numbers": {}})


WRONG = {
    "unknown kind": {"kind": "svg", "title": "<svg>"},
    "unknown key": {**MADE["bars"][0].to_dict(), "style": "x"},
    "text for a number": {**MADE["heatmap"][0].to_dict(), "values": [["1", 2], [3, 4]]},
    "true for a number": {**MADE["heatmap"][0].to_dict(), "values": [[True, 2], [3, 4]]},
    "too few rows": {**MADE["heatmap"][0].to_dict(), "values": [[1, 2]]},
    "ragged rows": {**MADE["heatmap"][0].to_dict(), "values": [[1, 2], [3]]},
    "nothing to draw": {**MADE["bars"][0].to_dict(), "bars": [["a", None, 1, 2, ""]]},
    "one number a point": {**MADE["curves"][0].to_dict(), "series": {"a": [[1.0]]}},
    "absurd width": {**MADE["bars"][0].to_dict(), "width": 10**9},
    "numbers that overflow": {**MADE["scatter"][0].to_dict(), "points": {"a": [[1.7e308, -1.7e308, "x"]]}},
}


@pytest.mark.parametrize("name", WRONG)
def test_each_wrong_picture_is_refused_by_its_name(name):
    with pytest.raises(RunError, match=r"^the picture(:| has)"):
        picture_of(WRONG[name])


def test_too_many_marks_and_nothing_to_draw_are_refused_when_made():
    with pytest.raises(ShapeError, match="100,000"):
        Heatmap.of(np.zeros((401, 250)), [""] * 401, [""] * 250)
    with pytest.raises(ShapeError, match="curves has 0 finite marks"):
        Curves.of({"a": [(1, NAN)]}, **LABELS)


NUMBERS = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False), st.integers(-5, 5))
WORDS = st.one_of(st.text(max_size=5), st.sampled_from(HOSTILE))
WORDED = {"x_label": WORDS, "y_label": WORDS}
ROW = st.lists(NUMBERS, min_size=2, max_size=2)
POINT = st.lists(NUMBERS, min_size=2, max_size=4)
BAR = st.tuples(WORDS, NUMBERS, NUMBERS, NUMBERS, WORDS)
NAMED = st.tuples(NUMBERS, NUMBERS, WORDS)
PARTS = {
    "heatmap": {
        "values": st.lists(ROW, min_size=1, max_size=2),
        "rows": st.lists(WORDS, min_size=1, max_size=2),
        "columns": st.lists(WORDS, min_size=2, max_size=2),
        "unit": WORDS,
    },
    "bars": {"bars": st.lists(BAR, max_size=3), "x_label": WORDS},
    "curves": {
        "series": st.dictionaries(WORDS, st.lists(POINT, max_size=3), max_size=2),
        "reference": st.dictionaries(WORDS, NUMBERS, max_size=1),
        "log_x": st.booleans(),
        **WORDED,
    },
    "scatter": {"points": st.dictionaries(WORDS, st.lists(NAMED, max_size=3), max_size=2), **WORDED},
}
DESCRIBED = st.one_of(
    st.fixed_dictionaries({"kind": st.just(kind), "title": WORDS, **parts}) for kind, parts in PARTS.items()
)
TAGS = {
    "svg",
    "title",
    "desc",
    "defs",
    "pattern",
    "rect",
    "path",
    "style",
    "text",
    "g",
    "circle",
    "polygon",
    "polyline",
}


@settings(max_examples=300, deadline=None)
@given(DESCRIBED)
def test_whatever_a_file_describes_is_refused_or_drawn_as_plain_shapes(described):
    try:
        picture = picture_of(described)
    except RunError:
        return
    drawn = picture.svg()
    for element in ET.fromstring(drawn).iter():
        assert element.tag.split("}")[1] in TAGS
        assert not any(name.startswith("on") or "href" in name for name in element.attrib)
        numbers = {
            k: v for k, v in element.attrib.items() if k in ("x", "y", "d", "width", "height", "transform")
        }
        assert not any("nan" in v or "inf" in v for v in numbers.values())


# -- replications ------------------------------------------------------------------------------------------


PLAN = dict.fromkeys(("replication", "model", "weights", "config", "dtype", "device"), HOSTILE[0])
PLAN |= {"options": {}, "seed": 0, "code": {HOSTILE[0]: HOSTILE[0]}, "other models": {}}


def result(**changes) -> Result:
    text = HOSTILE[0] + HOSTILE[3]
    found = Findings(
        claims=(judge(text, text, True, found=text, control=0.5, n=3),), tables={text: [{text: text, "x": 1.0}]},
        pictures={text: MADE["heatmap"][0], "bars": MADE["bars"][0]}, numbers={"x": 1.5},
    )  # fmt: skip
    parts = dict(name="pine", title=text, source=text, about=text, controls=(text,), model=text)
    return Result(**parts | {"findings": found, "plan": PLAN, "seconds": 1.0, "folder": Path("x")} | changes)


def test_a_replication_comes_back_whole_from_its_file():
    made = result()
    text = json.dumps(made.to_dict(), allow_nan=False)
    assert "<svg" not in text
    back = Result.from_dict(json.loads(text), Path("x"))
    assert back.findings == made.findings and back.page() == made.page() and back.notes == ()
    with pytest.raises(RunError, match="version 3"):
        Result.from_dict(json.loads(text) | {"version": 3}, Path("x"))
    with pytest.raises(RunError, match="was changed since it was written"):
        Result.from_dict(json.loads(text) | {"seconds": 2.0}, Path("x"))


@pytest.mark.parametrize("markup", MARKUP)
def test_version_1_gives_its_numbers_but_never_its_markup(markup):
    old = json.loads(json.dumps(result().to_dict())) | {"version": 1, "pictures": {"p": markup}}
    del old["digest"]
    back = Result.from_dict(old, Path("x"))
    made = result()
    assert back.findings == replace(made.findings, pictures={})
    page = back.page() + back._repr_html_()
    assert page.count("no markup is read from a file") == 2 and "replicate pine" in page
    page += Results(
        results=[back], failed={}, folder=Path("x")
    ).page()  # draws its charts from claims, not from files
    assert markup not in page and "document.title" not in page
    assert "note: version 1 kept pictures as markup: 1 are not shown" in shown(back)


def test_words_of_a_file_stay_words_on_page_card_and_terminal():
    made = result()
    for page in (
        made.page(),
        made._repr_html_(),
        Results(results=[made], failed={"a": HOSTILE[0]}, folder=Path()).page(),
    ):
        assert "<script>alert" not in page and "&lt;script&gt;alert" in page and "\x1b" not in page
    assert "\x1b" not in shown(made)


def test_a_survey_without_claims_stands_on_the_page_of_all():
    made = result()
    survey = replace(made, findings=replace(made.findings, claims=()))
    page = Results(results=[made, survey], failed={}, folder=Path()).markdown()
    assert page.count("No claims of its own") == 1 and page.count("\n\n**") == 2
