"""Things by name: known from the start, loaded when they are used, open for those of others."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any, Generic, TypeVar

from workbench.core.errors import OptionError, unknown

T = TypeVar("T")


def load(target: str) -> Any:
    """What ``"module:attribute"`` names, or the module where only that is named; it is imported now.

    Example:
        >>> load("workbench.core.errors:OptionError").__name__
        'OptionError'
    """
    module, _, attribute = target.partition(":")
    found = import_module(module)
    return getattr(found, attribute) if attribute else found


class Registry(Generic[T]):
    """Things of one kind by name, in the order in which they were registered.

    Args:
        kind: What they are, for the error about a misspelt one.

    Example:
        >>> errors = Registry("error")
        >>> errors.lazy("option", "workbench.core.errors:OptionError")
        >>> list(errors), errors.get("option").__name__
        (['option'], 'OptionError')
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._known: dict[str, T | str] = {}

    def lazy(self, name: str, target: str) -> None:
        """Register a thing without importing it.

        Args:
            target: ``"module:attribute"``, or a module that registers the thing itself when it is imported.
        """
        self._known[name] = target

    def add(self, name: str, item: T) -> None:
        """Register a thing; a notebook cell that is run again replaces what it registered before."""
        self._known[name] = item

    def remove(self, name: str) -> None:
        """Forget a thing."""
        del self._known[self.check(name)]

    def check(self, name: str) -> str:
        """The name itself, if it is known. Nothing is imported.

        Raises:
            OptionError: if it is not, with the closest spellings.
        """
        if name not in self._known:
            raise unknown(self.kind, name, self._known, error=OptionError)
        return name

    def get(self, name: str) -> T:
        """A thing by name, imported if it has not been yet.

        Raises:
            OptionError: if there is none, with the closest spellings.
        """
        found = self._known[self.check(name)]
        if isinstance(found, str):
            made = load(found)
            if ":" in found:
                self._known[name] = made
            found = self._known[name]
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def __len__(self) -> int:
        return len(self._known)
