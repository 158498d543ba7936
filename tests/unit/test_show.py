"""Results show themselves: every class finds its faces, and one without a card is its repr in a notebook."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module

import pytest
from IPython.core.formatters import DisplayFormatter

import workbench
from tests.circuits import small
from workbench.core.errors import OptionError
from workbench.core.show import Shown, Told, card, face, picture


@dataclass(frozen=True)
class Plain(Shown):
    """A result that nobody drew."""

    number: int = 7


class Drawn(Plain):
    """A result with faces that are registered here."""


class Child(Drawn):
    """A result that has the faces of its parent."""


@card(Drawn)
def drawn_card(found: Drawn) -> str:
    return f"<b>{found.number}</b>"


@picture(Drawn, "png")
def drawn_png(found: Drawn) -> bytes:
    return bytes([found.number])


def shown_classes(cls: type = Shown) -> Iterator[type]:
    for child in cls.__subclasses__():
        if child.__module__.startswith("workbench."):
            yield child
        yield from shown_classes(child)


def test_every_class_that_shows_itself_has_a_card():
    for module in pkgutil.walk_packages(workbench.__path__, "workbench."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    found = set(shown_classes())
    assert len(found) > 20
    assert not [cls.__name__ for cls in found if face("card", cls) is None]


def test_every_module_that_is_named_has_a_face_of_the_class():
    for cls in set(shown_classes()):
        for module in cls.shown_in.split():
            import_module(module)
            faces = [
                face(what, cls) for what in ("card", "terminal", "page", "svg picture") if face(what, cls)
            ]
            assert module in {made.__module__ for made in faces}, (cls.__name__, module)


def test_a_result_without_a_card_is_its_repr():
    shown, _ = DisplayFormatter().format(Plain())
    assert shown == {"text/plain": "Plain(number=7)"}
    assert Plain()._repr_html_() is None and Plain().to_terminal() == ["Plain(number=7)"]


def test_a_card_is_shown_also_for_classes_below():
    shown, _ = DisplayFormatter().format(Child())
    assert shown["text/html"] == "<b>7</b>" and Child().picture("png") == b"\x07"


@dataclass(frozen=True)
class Counted(Told):
    """A result that is told in every way there is."""

    def to_terminal(self) -> list[object]:
        return ["two <lines>\nof text", {"n": 3}, [{"a": 1, "b": "x"}], ["y", "z"]]


def test_a_result_told_in_lines_and_rows_has_them_as_its_card():
    shown = Counted()._repr_html_()
    assert shown.startswith("<p>two &lt;lines&gt;<br/>of text</p><table>") and shown.endswith("<p>y, z</p>")
    assert shown.count("<table") == 2 and ">3</td>" in shown and ">x</td>" in shown


def test_a_face_that_is_missing_is_explained_with_those_there_are():
    with pytest.raises(OptionError, match="Child has no svg picture\n  hint: it has: card, png picture"):
        Child().picture()
    with pytest.raises(OptionError, match="Plain has no page\n  hint: it has: only its repr"):
        Plain().page()


def test_a_picture_goes_to_a_file_by_its_ending(tmp_path):
    path = small().save_picture(tmp_path / "circuit.svg")
    assert path.read_text(encoding="utf-8") == small().picture()
    assert small().page().startswith("<!doctype html>")
    with pytest.raises(OptionError, match="Circuit has no pdf picture"):
        small().save_picture(tmp_path / "circuit.pdf")
