"""Things by name: known from the start, loaded when they are used, open for those of others."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from workbench.core.entry_points import Offer, load, offers
from workbench.core.errors import OptionError, PluginError, PluginWarning, WorkbenchError, unknown
from workbench.core.plugins import note_module

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[1]


class Registry(Generic[T]):
    """Things of one kind by name: ours in the order in which they were registered, then those of plug-ins.

    Args:
        kind: What they are, for the error about a misspelt one.
        group: The entry points by which installed packages add some, ``workbench.methods``; empty for none.
        holds: Whether what an entry point names is such a thing by itself. Else importing it must register it.
        error: What is raised for a misspelt name.

    Example:
        >>> errors = Registry("error")
        >>> errors.lazy("option", "workbench.core.errors:OptionError")
        >>> list(errors), errors.get("option").__name__
        (['option'], 'OptionError')
    """

    def __init__(
        self,
        kind: str,
        *,
        group: str = "",
        holds: Callable[[Any], bool] = lambda made: False,
        error: type[WorkbenchError] = OptionError,
    ) -> None:
        self.kind, self.group, self.holds, self.error = kind, group, holds, error
        self._known: dict[str, T | str] = {}
        self._homes: dict[str, str] = {}  # module that a thing is from, where it is known
        self.marks: list[str] = []  # of declarations that files of ours are read for

    def lazy(self, name: str, target: str) -> None:
        """Register a thing of ours without importing it.

        Args:
            target: ``"module:attribute"``, or a module that registers the thing itself when it is imported.
        """
        self._known[name] = target
        self._homes[name] = target.partition(":")[0]

    def read(self, where: str, mark: str, *, first: Sequence[str] = ()) -> None:
        """Register what a module of ours, or those of a package, declare; the files are read, not imported.

        Args:
            mark: A regular expression for a declaration; its group is the name.
            first: The modules of the package that come first; the others follow by name.
        """
        self.marks.append(mark)
        place = ROOT.joinpath(*where.split(".")[1:])
        files = sorted(place.glob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
        for file in sorted(files, key=lambda f: [*first, f.stem].index(f.stem)):
            for name in re.findall(mark, file.read_text(encoding="utf-8"), re.MULTILINE):
                self.lazy(name, f"{where}.{file.stem}" if place.is_dir() else where)

    def ours(self) -> tuple[str, ...]:
        """Return the names that come with the workbench."""
        return tuple(name for name in self._known if _owner(self._homes.get(name, "")) == "workbench")

    def add(self, name: str, item: T, *, home: str = "") -> None:
        """Register a thing; a notebook cell that is run again replaces what it registered before.

        Args:
            home: The module that it is from.

        Raises:
            OptionError: if the name is ours or another plug-in's.
        """
        before = self._homes.get(name, "")
        if home and before and _owner(home) != _owner(before):
            whose = "the workbench" if _owner(before) == "workbench" else before
            raise self.error(
                f"{home} registers a {self.kind} called {name!r}, which is the name of one of {whose}",
                hint="choose another name",
            )
        self._known[name] = item
        self._homes[name] = home or before
        if home:
            note_module(home)

    def remove(self, name: str) -> None:
        """Forget a thing that was added."""
        del self._known[self.check(name)]
        self._homes.pop(name, None)

    def check(self, name: str) -> str:
        """Return the name itself, if it is known. Nothing is imported.

        Raises:
            OptionError: if it is not, with the closest spellings.
        """
        if name not in self:
            raise unknown(self.kind, name, self, error=self.error)
        return name

    def get(self, name: str) -> T:
        """Return a thing by name, imported if it has not been yet.

        Raises:
            OptionError: if there is none, with the closest spellings.
            PluginError: if it is a plug-in's that cannot be imported.
        """
        self.check(name)
        if name not in self._known:
            self._plug_in(name)
        found = self._known[name]
        if isinstance(found, str):
            made = load(found)
            if ":" in found:
                self._known[name] = made
            found = self._known[name]
            if isinstance(found, str):
                raise LookupError(f"{found} does not register a {self.kind} called {name!r}")
        return found

    def items(self) -> Iterator[tuple[str, T]]:
        """Return every thing by name, imported. A plug-in that cannot be is told in a `PluginWarning`, and left out."""
        for name in self:
            try:
                found = self.get(name)
            except PluginError as problem:
                warnings.warn(str(problem), PluginWarning, stacklevel=2)
            else:
                yield name, found

    def offers(self) -> dict[str, tuple[Offer, ...]]:
        """Say what installed plug-ins add, by name; a name that is ours stays ours."""
        return {name: given for name, given in self.all_offers().items() if name not in self._known}

    def all_offers(self) -> Mapping[str, tuple[Offer, ...]]:
        """Return the same, and the names that are taken."""
        return offers(self.group) if self.group else {}

    def _plug_in(self, name: str) -> None:
        """Load what an installed plug-in calls so.

        Raises:
            PluginError: if two do, it cannot be imported, or it is no such thing.
        """
        given = self.offers()[name]
        if len(given) > 1:
            both = " and ".join(offer.plugin for offer in given)
            raise PluginError(f"a {self.kind} called {name!r} is in {both}", hint="uninstall one of them")
        made = given[0].load()
        says = getattr(made, "name", None) or getattr(made, "format", None) or name
        if name not in self._known and self.holds(made) and says == name:
            self.add(name, made, home=given[0].target.partition(":")[0])
        if name not in self._known:
            said = (
                f"the plug-in {given[0].plugin} says that {given[0].target} is a {self.kind} called {name!r}"
            )
            raise PluginError(f"{said}; it is none", hint="docs/extending.md shows how to write one")

    def __iter__(self) -> Iterator[str]:
        return iter([*self._known, *self.offers()])

    def __contains__(self, name: object) -> bool:
        return name in self._known or (isinstance(name, str) and name in self.offers())

    def __len__(self) -> int:
        return len(self._known) + len(self.offers())


def _owner(module: str) -> str:
    """Whose module it is: its first word."""
    return module.partition(".")[0]


__all__ = ["Registry", "load"]
