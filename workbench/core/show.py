"""How results show themselves: a result is data; its faces are functions in a module that is imported when asked for.

A class names that module, the module registers a function for the class. Neither the class nor the floor it stands on
knows how anything is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, ClassVar, TypeVar

Face = TypeVar("Face", bound=Callable[..., Any])
_FACES: dict[tuple[str, type], Callable[..., Any]] = {}


class Shown:
    """A result that shows itself in a notebook and on a terminal.

    A subclass says where its faces are: ``class Circuit(Shown, shown_in="workbench.circuits.show.tables")``; several
    modules are separated by spaces. A face that it has itself (``to_terminal``) comes first.
    """

    shown_in: ClassVar[str] = ""

    def __init_subclass__(cls, *, shown_in: str = "", **others: Any) -> None:
        super().__init_subclass__(**others)
        if shown_in:
            cls.shown_in = shown_in

    def _repr_html_(self) -> str:
        """Show the result in a notebook: static HTML without script."""
        return face("card", type(self))(self)

    def to_terminal(self) -> Any:
        """Show the result on a terminal: lines, rows and tables."""
        return face("terminal", type(self))(self)


def card(kind: type) -> Callable[[Face], Face]:
    """Register how results of a class look in a notebook: a function from the result to HTML."""
    return _registered("card", kind)


def terminal(kind: type) -> Callable[[Face], Face]:
    """Register how results of a class look on a terminal: a function from the result to lines, rows and tables."""
    return _registered("terminal", kind)


def _registered(what: str, kind: type) -> Callable[[Face], Face]:
    def keep(function: Face) -> Face:
        _FACES[what, kind] = function
        return function

    return keep


def face(what: str, kind: type) -> Callable[..., Any]:
    """The face of a class, or of the nearest class above it; its module is imported now.

    Raises:
        LookupError: if nobody registered one.
    """
    for cls in kind.__mro__:
        for module in vars(cls).get("shown_in", "").split():
            import_module(module)
        if (what, cls) in _FACES:
            return _FACES[what, cls]
    raise LookupError(f"{kind.__name__} has no {what}; register one with @{what}({kind.__name__})")
