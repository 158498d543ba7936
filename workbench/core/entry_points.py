"""What installed packages add: entry points are metadata, so that names are known without importing anything."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any

from workbench.core.errors import PluginError, PluginWarning
from workbench.core.plugins import explained, named, note_package

GROUPS = tuple(
    f"workbench.{kind}"
    for kind in (
        *("methods", "tasks", "papers", "studies", "metrics", "edits", "masks", "cards", "files", "exports"),
        *("pair_imports", "circuit_imports", "commands"),
    )
)


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A name that an installed package gives to a thing of its own.

    Attributes:
        group: Which kind of thing: ``workbench.methods``.
        target: ``module:attribute``, or a module that registers the thing when it is imported.
    """

    group: str
    name: str
    target: str
    package: str
    version: str

    @property
    def plugin(self) -> str:
        """Return the package and its version."""
        return f"{self.package} {self.version}".strip()

    def load(self) -> Any:
        """Say what the target names; it is imported now.

        Raises:
            PluginError: saying whose it is and why it cannot be imported.
        """
        what = f"{self.group.removeprefix('workbench.')}: {self.name} of the plug-in {self.plugin}"
        with explained(what, f"pip install --upgrade {self.package}, or pip uninstall {self.package}"):
            found = load(self.target)
        note_package(self.package, self.version, self.target.partition(":")[0])
        return found


def load(target: str) -> Any:
    """Say what ``"module:attribute"`` names, or the module where only that is named; it is imported now.

    Example:
        >>> load("workbench.core.errors:OptionError").__name__
        'OptionError'
    """
    module, _, attribute = target.partition(":")
    found = import_module(module)
    vars(found)  # runs a module that was imported lazily: what it registers is wanted now
    for name in attribute.split(".") if attribute else ():
        found = getattr(found, name)
    return found


def offers(group: str) -> Mapping[str, tuple[Offer, ...]]:
    """Say what installed packages add to a group, by name; a name may be given by several. Nothing is imported."""
    return _offers(group, tuple(sys.path))


@lru_cache(maxsize=64)
def _offers(group: str, path: tuple[str, ...]) -> Mapping[str, tuple[Offer, ...]]:
    found: dict[str, dict[str, Offer]] = {}
    for point in entry_points(group=group):
        package, version = (point.dist.name, point.dist.version) if point.dist else ("", "")
        offer = Offer(group=group, name=point.name, target=point.value, package=package, version=version)
        found.setdefault(point.name, {}).setdefault(
            package, offer
        )  # the first on the path is what is imported
    return MappingProxyType({name: tuple(by.values()) for name, by in sorted(found.items())})


def load_cards(name: str) -> None:
    """Import the modules that installed plug-ins have for results of a class; one that cannot be is told."""
    for offer in offers("workbench.cards").get(name, ()):
        try:
            offer.load()
        except PluginError as problem:
            warnings.warn(str(problem), PluginWarning, stacklevel=3)


def plugin_rows() -> Iterator[dict[str, str]]:
    """Return one line per plug-in: where it is from, its version, what it adds. Nothing is imported."""
    adds: dict[tuple[str, str], list[str]] = {}
    for group in GROUPS:
        for given in offers(group).values():
            for offer in given:
                kind = group.removeprefix("workbench.")
                adds.setdefault((offer.package, offer.version), []).append(f"{kind}: {offer.name}")
    for (package, its), names in sorted(adds.items()):
        yield {"plugin": package, "version": its, "adds": ", ".join(names)}
    for one in named():
        yield {"plugin": one.text, "version": "named here", "adds": one.file}
