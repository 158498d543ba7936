"""What results look like: escaped text, readable numbers, one scale centred at zero, pictures that parse."""

import html
import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tests.circuits import GROUPED, HOSTILE, POST_NORM, circuit, hostile, scores, small
from workbench.circuits.layout import layered
from workbench.circuits.show.circuit_page import circuit_card, circuit_page, report_page
from workbench.circuits.show.circuit_svg import circuit_svg
from workbench.core.errors import OptionError, ShapeError
from workbench.edits.edit import ModelEdit
from workbench.view.bars import bars_svg
from workbench.view.color import NEGATIVE, POSITIVE, ZERO, ink, limit, signed
from workbench.view.curve import curve_svg
from workbench.view.heatmap import heatmap_svg
from workbench.view.html import results_page, short, table_html, text_html
from workbench.view.notebook_bar import NotebookBar
from workbench.view.page import asset, embedded_json, frame, repeated_by
from workbench.view.pictures import Drawn, Heatmap
from workbench.view.terminal import console, heatmap_terminal, render
from workbench.view.text import escape, number, printable, shorten

SVG = "{http://www.w3.org/2000/svg}"


def shown(result, width: int = 160) -> str:
    """What a terminal without colour would show."""
    out = io.StringIO()
    Console(file=out, width=width, markup=False, emoji=False, highlight=False).print(render(result))
    return out.getvalue()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("plain é 漢 👍🏽", "plain é 漢 👍🏽"), ("\x1b[2J", "\\x1b[2J"),
     ("a\tb\nc\r", "a\\tb\\nc\\r"), ("\x9b1m", "\\x9b1m"),
     ("\u202eabc", "\\u202eabc"), ("\u2028", "\\u2028"), ("\ud800", "\\ud800"), ("\x00\x7f", "\\x00\\x7f"),
     ("\ufffe", "\\ufffe"), ("\U000e0041", "\\U000e0041"), ("[b]x[/b]", "[b]x[/b]")],
)  # fmt: skip
def test_control_characters_become_visible(text, expected):
    assert printable(text) == expected


@given(st.text())
def test_printable_text_cannot_steer_a_terminal(text):
    safe = printable(text)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]", safe)
    safe.encode("utf-8")
    assert printable(text, keep_newlines=True).count("\n") == text.count("\n")


@given(st.text())
def test_escaped_text_is_text_again_in_xml(text):
    root = ET.fromstring(f'<a b="{escape(text)}">{escape(text)}</a>')
    assert (root.text or "") == printable(text, keep_newlines=True) == html.unescape(escape(text))


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, "0"), (1234567, "1,234,567"), (-0.012345, "−0.0123"), (0.5, "0.5"), (1234.0, "1,234"), (12345.6, "12,346"),
     (1.5e9, "1.50e+09"), (2e-7, "2.00e−07"), (None, "–"), (float("nan"), "–"), (float("-inf"), "−∞")],
)  # fmt: skip
def test_numbers_are_short(value, expected):
    assert number(value) == expected


def test_short_texts():
    assert shorten("abcdef", 4) == "abc…" and shorten("abcd", 4) == "abcd"
    assert short({"a": 0.25, "b": [True, None]}) == "a 0.25, b yes, –"


def test_the_scale_is_pale_at_zero_and_symmetric():
    assert signed(0.0) == ZERO and signed(1.0) == POSITIVE[-1] and signed(-1.0) == NEGATIVE[-1]
    assert signed(7.0) == signed(1.0)
    blue, orange = signed(0.5), signed(-0.5)
    assert blue[2] > blue[0] and orange[0] > orange[2]
    assert limit(np.array([1.0, -4.0, np.nan, np.inf])) == 4.0 and limit(np.array([np.nan])) == 1.0


def test_ink_reads_on_every_shade():
    def luminance(color):
        parts = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (x / 255 for x in color)
        ]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    for share in np.linspace(-1, 1, 101):
        color = signed(share)
        text = ink(color)
        rgb = tuple(int(text[i : i + 2], 16) for i in (1, 3, 5))
        high, low = sorted((luminance(color), luminance(rgb)), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, share  # WCAG 2 AA


MATRIX = np.array([[1.0, -2.0, np.nan], [0.0, 0.5, 4.0]])


def test_a_heatmap_has_a_cell_and_tooltip_for_each_value():
    root = ET.fromstring(heatmap_svg(MATRIX, ["0", "1"], ["a", "b", "c"], title="t", unit="logits"))
    tips = [t.text for rect in root.iter(f"{SVG}rect") for t in rect.iter(f"{SVG}title")]
    assert tips == ["0, a: 1 logits", "0, b: −2 logits", "0, c: no value", "1, a: 0 logits", "1, b: 0.5 logits",
                    "1, c: 4 logits"]  # fmt: skip
    fills = [rect.get("fill") for rect in root.iter(f"{SVG}rect") if rect.find(f"{SVG}title") is not None]
    assert fills[2].startswith("url(#wb-nan") and fills[5] == "#0a3a6e" and fills[3] == "#f7f7f5"
    # -2 of 4 is as far from zero as the middle orange
    assert fills[1] == "#ee9e5c"


def test_heatmaps_refuse_labels_that_do_not_fit():
    with pytest.raises(ShapeError, match="2 row and 2 column"):
        heatmap_svg(MATRIX, ["0", "1"], ["a", "b"])


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (12, 12), (48, 64), (3, 200)])
def test_heatmaps_of_any_size_are_well_formed(shape):
    matrix = (
        np.full(shape, np.nan) if shape == (1, 1) else np.linspace(-1, 1, shape[0] * shape[1]).reshape(shape)
    )
    ET.fromstring(heatmap_svg(matrix, [str(i) for i in range(shape[0])], [f" t{i}" for i in range(shape[1])]))


def test_a_heatmap_on_the_terminal_reads_without_colour():
    text = "".join(shown(heatmap_terminal(MATRIX, ["0", "1"], ["a", "b", "c"], title="IOI", unit="logits")))
    lines = [line.split() for line in text.splitlines()]
    assert lines == [["IOI"], ["a", "b", "c"], ["0", "1.00", "−2.00", "·"], ["1", "0", "0.50", "4.00"],
                     ["scale", "−4", "to", "+4", "logits"]]  # fmt: skip


CURVE = {"EAP": [(10, 0.2, 0.1), (100, 0.8)], "random": [(0, 0.0), (10, float("nan")), (100, 0.1)]}


@pytest.mark.parametrize("log_x", [False, True])
def test_curves_draw_the_finite_points(log_x):
    root = ET.fromstring(
        curve_svg(CURVE, x_label="edges", y_label="f", title="t", log_x=log_x, reference={"full": 1.0})
    )
    lines = [line.get("points").split() for line in root.iter(f"{SVG}polyline")]
    assert [len(points) for points in lines] == [2, 2]
    tips = [t.text for t in root.iter(f"{SVG}title")]
    assert "EAP: edges 10, f 0.2 ± 0.1" in tips and "random: edges 0, f 0" in tips
    xs = [float(p.split(",")[0]) for p in lines[1]]
    assert xs[0] < xs[1]


def test_curves_need_points():
    with pytest.raises(OptionError):
        curve_svg({"a": [(1.0, float("nan"))]}, x_label="x", y_label="y")
    with pytest.raises(ShapeError):
        curve_svg({"a": [(1.0,)]}, x_label="x", y_label="y")
    ET.fromstring(curve_svg({"a": [(1.0, 2.0)]}, x_label="x", y_label="y", log_x=True))


CIRCUITS = {
    "small": small,
    "hostile": hostile,
    "grouped": lambda: scores(GROUPED).top(60),
    "post-norm": lambda: scores(POST_NORM).top(30),
    "nodes": lambda: scores(level="node").top(3),
    "empty": lambda: circuit({}),
    "positions": lambda: circuit({"input@2->a0.h0<v>@end": 1.0, "a0.h0@end->logits@end": -1.0}),
}


@pytest.mark.parametrize("name", CIRCUITS)
def test_pictures_of_circuits_are_well_formed(name):
    made = CIRCUITS[name]()
    root = ET.fromstring(circuit_svg(made))
    assert len(root.findall(f"{SVG}g[@class='n']")) == len(made.all_nodes)
    dashed = [
        p
        for p in root.iter(f"{SVG}path")
        if p.get("stroke-dasharray") == "5 3" and p.find(f"{SVG}title") is not None
    ]
    assert len(dashed) == sum(score < 0 for score in made.edges.values())
    heads = {m.get("id") for m in root.iter(f"{SVG}marker") if m.get("markerUnits") == "userSpaceOnUse"}
    edges = [p for p in root.iter(f"{SVG}path") if p.find(f"{SVG}title") is not None]
    assert all(p.get("marker-end")[5:-1] in heads for p in edges)
    assert len({p.get("marker-end") for p in edges}) == len({score < 0 for score in made.edges.values()})


def test_layers_stand_above_each_other():
    places = layered(small())
    heights = [places[a][1] for a in ("input", "a0.h0", "a1.h1", "m1", "logits")]
    assert heights == sorted(heights) and len(set(heights)) == 5
    places = layered(scores(GROUPED).fraction(1.0))
    assert len(set(places.values())) == len(places)  # no two nodes in one place
    assert places["a0.g0"][1] < places["a0.h0"][1] < places["m0"][1] < places["a1.g0"][1]


def test_the_weakest_edges_are_left_out_and_counted():
    text = circuit_svg(small(), most_edges=4)
    assert "2 weaker edges not drawn" in text and "−0.125" not in text


@pytest.mark.parametrize("make", [circuit_page, circuit_card, lambda c: report_page(c)])
def test_html_escapes_everything(make):
    page = make(hostile())
    body = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert "<script>alert" not in body and "alert(1)</script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202e\u2028]", body)
    page.encode("utf-8")


@given(st.text())
def test_embedded_json_cannot_leave_its_element(text):
    import json

    shown = embedded_json([text])
    assert not set(shown) & set("<>&\u2028\u2029") and shown.isascii() and json.loads(shown) == [text]


def test_a_page_of_a_thousand_edges_is_under_a_megabyte():
    from workbench.circuits.graph import GraphShape

    made = scores(GraphShape(n_layers=12, n_heads=12, n_kv_heads=12)).fraction(1.0).top(9000)
    made = made.top(2200)
    assert made.n_edges >= 1000
    assert len(circuit_page(made).encode()) < 1_000_000


def test_pages_fetch_nothing():
    for page in (circuit_page(small()), results_page("t", [("a", text_html("x"))])):
        outside = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
        assert "default-src 'none'" in page
        assert not re.search(
            r'(?:src|href)\s*=|url\(["\']?http|@import',
            outside.replace("default-src", "")
            .replace("script-src", "")
            .replace("style-src", "")
            .replace("img-src", ""),
        )


def test_tables_escape_and_align():
    made = table_html([{"a": 1.23456, "b": "<b>"}, {"a": None, "b": "x"}], caption="c & d")
    row = (
        '<td class="num" data-column="a">1.23</td><td style="text-align:left" data-column="b">&lt;b&gt;</td>'
    )
    assert (
        row in made and 'class="rows"' in made and 'class="texts"' in table_html([{"a": "a sentence " * 5}])
    )
    assert 'data-column="&quot;&gt;"' in table_html([{'">': 1}])
    assert "c &amp; d" in made and "–" in made


def test_two_narrow_sections_share_a_row_and_shares_have_one_scale():
    small, wide = (
        heatmap_svg(np.eye(n), list("abcdefghijkl")[:n], list("abcdefghijkl")[:n]) for n in (3, 12)
    )
    page = results_page("t", [("a", small), ("b", text_html("short")), ("c", wide), ("d", small)])
    assert re.findall(r'<section class="(\w+)"><h2>(\w)', page) == [
        ("half", "a"), ("half", "b"), ("whole", "c"), ("whole", "d")
    ]  # fmt: skip
    assert "wb-wide" in wide and "wb-wide" not in small
    share = Heatmap.of(np.array([[0.2, 0.4]]), ["a"], ["b", "c"], unit="share").svg()
    effect = Heatmap.of(np.array([[0.2, 0.4]]), ["a"], ["b", "c"], unit="logits").svg()
    assert ">0.5<" in share and "+0.4" in effect and "−0.4" in effect  # from 0 to 1; as far down as up


def test_a_page_shows_the_line_that_repeats_it_where_a_command_makes_it():
    with repeated_by(lambda: "workbench runs page 'a</code><script>' -o b.html"):
        made = results_page("t", [("a", text_html("b"))])
        own = frame(title="t", body='<code id="command"></code>', has_command=True)
    assert "workbench runs page &#x27;a&lt;/code&gt;&lt;script&gt;&#x27; -o b.html</code>" in made
    assert made.count('id="command"') == own.count('id="command"') == 1
    assert made.count(asset("copy.js")) == own.count(asset("copy.js")) == 1
    assert 'id="command"' not in results_page("t", [("a", text_html("b"))])


def test_every_column_of_a_small_table_has_its_label():
    for name in ("S2", "country", "a longer position"):  # "country" is as wide as a cell
        drawn = heatmap_svg(np.ones((1, 2)), ["0"], [name, "end"])
        assert f">{name}</text>" in drawn and ">end</text>" in drawn


def test_reports_hold_their_sections():
    page = report_page(
        small(), heatmaps={"Heads": heatmap_svg(MATRIX, ["0", "1"], ["a", "b", "c"])}, tables={"T": [{"x": 1}]},
        curves={"C": curve_svg(CURVE, x_label="edges", y_label="f")},
    )  # fmt: skip
    for heading in ("Circuit", "Evaluation", "Heads", "T", "C"):
        assert f"<h2>{heading}</h2>" in page
    assert "faithfulness" in page


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_steers_the_terminal(text):
    for result in (text, {text: text}, [{text: text}], small(task=text, roles={"a1.h1": text})):
        out = shown(result)
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", out)
    assert "[bold]markup[/bold]" in shown({"a": "[bold]markup[/bold]"})


def test_circuits_and_comparisons_show_themselves():
    text = shown(small())
    assert "a1.h1->logits" in text and "name mover" in text and "6 of 46 edges" in text and "0.75" in text
    text = shown(small().summary())
    assert "input → a0.h0<v> → a1.h1<q> → logits" in text and "13 %" in text
    text = shown(small().diff(small().without("m1")))
    assert "a0.h0->m1" in text and "2 edges" in text
    assert "same architecture" in shown(small().overlap(small()))


def test_console_has_no_colour_without_a_terminal(capsys):
    console().print(heatmap_terminal(MATRIX, ["0", "1"], ["a", "b", "c"]))
    assert "\x1b" not in capsys.readouterr().out


def test_png_pictures_are_png():
    from workbench.view.plots import curve_png, heatmap_png

    assert heatmap_png(MATRIX, ["$0", "1"], list("abc"), title="a $x$ b").startswith(b"\x89PNG\r\n")
    assert curve_png(CURVE, x_label="edges", y_label="f", log_x=True).startswith(b"\x89PNG\r\n")
    with pytest.raises(ShapeError):
        heatmap_png(MATRIX, ["0"], list("abc"))


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=30))
def test_any_text_in_a_picture_is_well_formed(text):
    ET.fromstring(circuit_svg(small(task=text, unit=text, prompt=(text,), roles={"a1.h1": text})))
    ET.fromstring(heatmap_svg(MATRIX, [text, "1"], ["a", text, "c"], title=text, unit=text, row_title=text))
    ET.fromstring(curve_svg({text: [(1, 2)]}, x_label=text, y_label=text, title=text, reference={text: 1.0}))


def test_names_of_bars_are_whole_and_have_room():
    name = "bidirectional, positions as given"
    text = bars_svg([(name, -0.5, -0.6, -0.4, "")], x_label="nats")
    (label,) = [t for t in ET.fromstring(text).iter(f"{SVG}text") if t.text == name]
    assert float(label.get("x")) > 6 * len(name)  # it ends there, and begins inside the picture


def test_a_picture_that_cannot_be_drawn_and_an_edit_that_cannot_be_saved_are_not_made():
    with pytest.raises(TypeError, match="abstract"):
        Drawn(title="nothing to draw")
    with pytest.raises(TypeError, match="abstract"):
        type("Vague", (ModelEdit,), {})()


class Cell:
    """The part of IPython's display module that a bar uses; keeps what stands below the cell."""

    def __init__(self):
        self.shown, self.HTML = [], str

    def display(self, drawn, *, display_id):
        self.shown.append(drawn)
        return self

    def update(self, drawn):
        self.shown.append(drawn)


def test_a_bar_in_a_notebook_shows_long_work_alone_and_goes_when_it_is_done():
    times, cell = iter(range(0, 60, 10)), Cell()
    bar = NotebookBar(cell, clock=lambda: next(times))  # it begins at 0
    for done in (1, 2, 3):  # at 10, 20 and 30 seconds
        bar(done, 4, "layer <2>")
    assert "1 of 4: layer &lt;2&gt;" in cell.shown[0] and "left" not in cell.shown[0]
    assert "2 of 4" in cell.shown[1] and "about 20 s left" in cell.shown[1]  # two parts at ten seconds each
    bar.stopped(kept=False)
    assert "interrupted after 3 of 4 parts</p>" in cell.shown[-1]
    bar.stopped(kept=True)
    assert "3 of 4 parts; what is finished is kept, and the same call goes on" in cell.shown[-1]
    bar(4, 4)
    assert cell.shown[-1] == ""
    quick = Cell()
    short_work = NotebookBar(quick, clock=lambda: 0.0)
    short_work(1, 2)
    short_work(2, 2)
    assert quick.shown == []
