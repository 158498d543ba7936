"""How results show themselves, go to files and come back: a result is data, the rest is functions found by its type.

A class names the modules of its faces and of its file, and they register functions for the class. Neither the class
nor the floor it stands on knows how anything is drawn or written. What a file holds is found by the format it names.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from workbench.core.atomic import write_output
from workbench.core.entry_points import load_cards
from workbench.core.errors import OptionError, WorkbenchError
from workbench.core.plugins import is_ours
from workbench.core.registry import Registry

Face = TypeVar("Face", bound=Callable[..., Any])
_FACES: dict[tuple[str, type], Callable[..., Any]] = {}
LOADERS: Registry[Callable[[Path], Any]] = Registry(
    "file format", group="workbench.files", holds=callable, error=WorkbenchError
)


class Shown:
    """A result that shows itself in a notebook and on a terminal, as a picture and as a page, and goes to a file.

    A subclass says where its faces are, ``class Circuit(Shown, shown_in="workbench.circuits.show.terminal")``, and in
    ``saved_in`` where it is written; several modules are separated by spaces. A method of its own (``to_terminal``)
    comes first.
    """

    __slots__ = ()
    shown_in: ClassVar[str] = ""
    saved_in: ClassVar[str] = ""

    def __init_subclass__(cls, *, shown_in: str = "", saved_in: str = "", **others: Any) -> None:
        super().__init_subclass__(**others)
        cls.shown_in, cls.saved_in = shown_in, saved_in

    def _repr_html_(self) -> str | None:
        """Show the result in a notebook: static HTML without script; its ``repr`` where it has no card."""
        shown = face("card", type(self))
        return None if shown is None else shown(self)

    def to_terminal(self) -> Any:
        """Show the result on a terminal: lines, rows and tables; its ``repr`` where nobody drew more."""
        shown = face("terminal", type(self))
        return [repr(self)] if shown is None else shown(self)

    def picture(self, format: str = "svg") -> str | bytes:
        """Draw the result: SVG text, or PNG bytes where there is a PNG of it.

        Raises:
            OptionError: if there is no picture of such a result, or none in this format.
        """
        return needed_face(f"{format} picture", type(self))(self)

    def save_picture(self, path: str | PathLike[str]) -> Path:
        """Write the picture to a ``.svg`` or ``.png`` file, whole or not at all."""
        path = Path(path)
        return write_output(path, self.picture(path.suffix.removeprefix(".").lower()))

    def page(self, **more: Any) -> str:
        """Write the result as a whole HTML page that needs no network.

        Args:
            more: What else the page of this result can show.

        Raises:
            OptionError: if there is no page of such a result.
        """
        return needed_face("page", type(self))(self, **more)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the result, whole or not at all. A path without the ending of its format is a folder.

        Returns:
            The file that ``workbench.load`` reads it from.

        Raises:
            OptionError: if there is no file of such a result.
        """
        return needed_face("file", type(self))(self, path)


class Told(Shown, shown_in="workbench.view.told"):
    """A result that is told in lines, facts and rows: ``to_terminal`` gives them, and its card is made of them."""

    __slots__ = ()


def card(kind: type) -> Callable[[Face], Face]:
    """Register how results of a class look in a notebook: a function from the result to HTML."""
    return shown_as("card", kind)


def terminal(kind: type) -> Callable[[Face], Face]:
    """Register how results of a class look on a terminal: a function from the result to lines, rows and tables."""
    return shown_as("terminal", kind)


def page(kind: type) -> Callable[[Face], Face]:
    """Register the page of results of a class: a function from the result to a whole HTML document."""
    return shown_as("page", kind)


def picture(kind: type, format: str = "svg") -> Callable[[Face], Face]:
    """Register the picture of results of a class: a function from the result to SVG text, or to PNG bytes."""
    return shown_as(f"{format} picture", kind)


def saves(kind: type) -> Callable[[Face], Face]:
    """Register how results of a class are written: a function from the result and a path to the file's path."""
    return shown_as("file", kind)


def loads(format: str) -> Callable[[Face], Face]:
    """Register how files of a format are read: a function from the path to the result.

    Files say their format themselves: the key ``format`` of a JSON document, or of one in a table's metadata.
    """

    def keep(function: Face) -> Face:
        LOADERS.add(format, function, home=function.__module__)
        return function

    return keep


def shown_as(what: str, kind: type) -> Callable[[Face], Face]:
    """Register one more way to show results of a class, which a method of the class asks `face` for."""

    def keep(function: Face) -> Face:
        before = _FACES.get((what, kind))
        if before is None or is_ours(before.__module__) or not is_ours(function.__module__):
            _FACES[what, kind] = function  # a plug-in's own stays when our module is imported later
        return function

    return keep


def face(what: str, kind: type) -> Callable[..., Any] | None:
    """Return the face of a class, or of the nearest class above it; None where there is none. Modules are imported
    now.
    """
    for cls in kind.__mro__:
        load_cards(cls.__name__)
        for module in vars(cls).get("saved_in" if what == "file" else "shown_in", "").split():
            if (what, cls) not in _FACES:
                import_module(module)
        if (what, cls) in _FACES:
            return _FACES[what, cls]
    return None


def needed_face(what: str, kind: type) -> Callable[..., Any]:
    """Return the face of a class.

    Raises:
        OptionError: if there is none, with those that there are.
    """
    found = face(what, kind)
    if found is None:
        others = sorted({name for name, cls in _FACES if cls in kind.__mro__})
        raise OptionError(
            f"{kind.__name__} has no {what}", hint=f"it has: {', '.join(others) or 'only its repr'}"
        )
    return found
