"""A picker of heads and prompts: buttons of a notebook and the table beside them show one choice."""

import sys

import pytest

from workbench.core.errors import OptionError, ShapeError
from workbench.view.picker import Picker

NAMES, ROWS = ("a0.h0", "a0.h1", "a1.h0"), ("layer 0", "layer 0", "layer 1")


def made(**more):
    return Picker(NAMES, ROWS, values=(2.0, -1.0, float("nan")), title="<heads>", unit="logits", **more)


def test_a_click_chooses_and_a_second_one_leaves_out():
    picker = made()
    view, other = picker.widget(), picker.widget()
    label, first, second = view.children
    assert label.value == "<heads>" and [b.description for b in first.children[1:]] == ["a0.h0", "a0.h1"]
    second.children[1].click()
    first.children[2].click()
    assert picker.chosen == ("a0.h1", "a1.h0") and picker.places == (1, 2)
    assert other.children[1].children[2].icon == "check"  # every view shows the same choice
    first.children[2].click()
    assert picker.chosen == ("a1.h0",) and other.children[1].children[2].icon == ""
    assert first.children[1].tooltip == "a0.h0: 2 logits" and second.children[1].tooltip == "a1.h0"
    assert (
        first.children[1].style.button_color == "#0a3a6e" and first.children[1].style.text_color == "#ffffff"
    )


def test_a_page_without_widgets_shows_a_table(monkeypatch):
    picker = made().choose("a0.h1")
    bundle = picker._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle and "<table>" in bundle["text/html"]
    monkeypatch.setitem(sys.modules, "ipywidgets", None)  # as where it is not installed
    still = picker._repr_mimebundle_()
    assert set(still) == {"text/html", "text/plain"} and "&lt;heads&gt;: a0.h1 chosen" in still["text/html"]
    with pytest.raises(OptionError, match="not installed"):
        picker.widget()


def test_what_is_not_there_cannot_be_chosen():
    with pytest.raises(OptionError, match="no name to choose called") as caught:
        made().choose("a0.h11")
    assert "a0.h1" in caught.value.hint
    with pytest.raises(ShapeError, match="3 names, 2 rows"):
        Picker(NAMES, ROWS[:2])
    assert made().choose().chosen == ()
