"""Plug-ins: what others add. An installed package says so by entry points; a file or module is named by the person.

Entry points are metadata: their names are known without importing anything. Nothing is ever imported because a saved
file names it.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from workbench.core.bounds import exists, expanded, read_bytes
from workbench.core.errors import PluginError, PluginWarning, WorkbenchError, in_one_line

VARIABLE = "WORKBENCH_PLUGINS"
MOST_SOURCE = 10_000_000  # bytes of a file that is a plug-in
GROUPS = tuple(
    f"workbench.{kind}"
    for kind in (
        *("methods", "tasks", "papers", "studies", "metrics", "edits", "masks", "cards", "files", "exports"),
        *("pair_imports", "circuit_imports", "commands"),
    )
)
_PREFIX = "workbench_plugin_"  # of the module that a file becomes


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
        """The package and its version."""
        return f"{self.package} {self.version}".strip()

    def load(self) -> Any:
        """Say what the target names; it is imported now.

        Raises:
            PluginError: saying whose it is and why it cannot be imported.
        """
        what = f"{self.group.removeprefix('workbench.')}: {self.name} of the plug-in {self.plugin}"
        with _explained(what, f"pip install --upgrade {self.package}, or pip uninstall {self.package}"):
            found = load(self.target)
        _LOADED.setdefault(self.package, self.version)
        _ROOTS[self.target.partition(":")[0].partition(".")[0]] = self.plugin
        return found


@dataclass(frozen=True, kw_only=True)
class Named:
    """A plug-in that the person named: a file, or a module and perhaps a name in it.

    Attributes:
        text: As it was typed: ``mine.py``, ``package.module``, ``package.module:name``.
        file: Where its source is; empty for a module without one.
        sha256: Of that source when it ran.
    """

    text: str
    module: str
    file: str
    sha256: str

    def to_dict(self) -> dict[str, str]:
        """Say what a run record keeps of it."""
        return {"plugin": self.text, "sha256": self.sha256}


_NAMED: dict[str, Named] = {}  # by where they are
_LOADED: dict[str, str] = {}  # packages that something was loaded from, with versions
_ROOTS: dict[str, str] = {}  # first words of the modules that plug-ins are made of -> which plug-in


def load(target: str) -> Any:
    """Say what ``"module:attribute"`` names, or the module where only that is named; it is imported now.

    Example:
        >>> load("workbench.core.errors:OptionError").__name__
        'OptionError'
    """
    module, _, attribute = target.partition(":")
    found = import_module(module)
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


def use_plugin(text: str) -> Named:
    """Run a plug-in: ``FILE.py``, ``module`` or ``module:name``; what it registers is known from then on.

    A function that ``module:name`` names and that takes nothing is called. One that was used before is not run again.

    Raises:
        PluginError: if there is no such file, module or name, or it cannot be imported.
    """
    path = expanded(text, error=PluginError)
    is_file = path.suffix == ".py" or os.sep in text
    place = str(path.resolve()) if is_file else text
    if place not in _NAMED:
        module = _PREFIX + path.stem if is_file else text.partition(":")[0]
        if is_file:
            _check_file(path, module)
        with _explained(f"the plug-in {text}", "docs/extending.md shows what a plug-in looks like"):
            source = _run_file(path, module) if is_file else _run_name(text)
        _hand_on(text)
        file = getattr(sys.modules[module], "__file__", None) or ""
        _NAMED[place] = Named(text=text, module=module, file=file, sha256=hashlib.sha256(source).hexdigest())
        _ROOTS[module.partition(".")[0]] = text
    return _NAMED[place]


def use_plugins_of_environment() -> None:
    """Run the plug-ins that the environment variable ``WORKBENCH_PLUGINS`` names, separated by commas."""
    for text in os.environ.get(VARIABLE, "").split(","):
        if text.strip():
            use_plugin(text.strip())


def _hand_on(text: str) -> None:
    """Let processes that this one starts use the same plug-in."""
    before = [word.strip() for word in os.environ.get(VARIABLE, "").split(",") if word.strip()]
    os.environ[VARIABLE] = ",".join(dict.fromkeys([*before, text]))


def _check_file(path: Path, module: str) -> None:
    if not exists(path):
        raise PluginError(f"there is no file {path}", hint="--plugin FILE.py, or --plugin package.module")
    if path.suffix != ".py":
        raise PluginError(f"{path} is not a Python file", hint="--plugin FILE.py, or --plugin package.module")
    if module in sys.modules:
        other = getattr(sys.modules[module], "__file__", "")
        raise PluginError(f"two plug-ins are called {path.name}: {other} too", hint="rename one of them")


def _run_file(path: Path, module: str) -> bytes:
    """Run a file as a module, from its source and never from compiled code beside it; returns the source."""
    source = read_bytes(path, most_bytes=MOST_SOURCE, error=PluginError)
    made = ModuleType(module)
    made.__file__ = str(path.resolve())
    sys.modules[module] = made  # dataclasses look their module up
    try:
        exec(compile(source, made.__file__, "exec", dont_inherit=True), vars(made))
    except BaseException:
        del sys.modules[module]
        raise
    return source


def _run_name(text: str) -> bytes:
    """Import a module, and call the function that is named in it, if it takes nothing; returns the module's source."""
    found = load(text)
    if inspect.isfunction(found) and not inspect.signature(found).parameters:
        found()
    file = getattr(sys.modules[text.partition(":")[0]], "__file__", None)
    return Path(file).read_bytes() if file else b""


@contextmanager
def _explained(what: str, hint: str) -> Iterator[None]:
    """Say whose plug-in it is where importing it raises something."""
    try:
        yield
    except (Exception, SystemExit) as problem:
        said = problem.message if isinstance(problem, WorkbenchError) else _reason(problem)
        raise PluginError(f"{what} cannot be used: {said}", hint=hint) from problem


def _reason(problem: BaseException) -> str:
    return f"{type(problem).__name__}: {in_one_line(problem)}"


def named() -> tuple[Named, ...]:
    """Return the plug-ins that were named in this process, in order."""
    return tuple(_NAMED.values())


def was_named(plugin: Mapping[str, str]) -> bool:
    """Say whether a plug-in of a record was named in this process too: by the same words, name of the file, or
    content.
    """
    text, sha = plugin["plugin"], plugin.get("sha256", "")
    file = Path(text).name if text.endswith(".py") else ""
    return any(
        one.text == text or (sha and one.sha256 == sha) or (file and Path(one.text).name == file)
        for one in named()
    )


def what_changed(recorded: Iterable[Mapping[str, str]]) -> Iterator[str]:
    """Return sentences about plug-ins of a record that are not here as they were then."""
    shas = {one.sha256 for one in named()}
    for plugin in recorded:
        name, then = plugin["plugin"], plugin.get("version", "")
        now = package_version(name) if then else ""
        if then and now != then:
            yield f"the plug-in {name} was {then}, now {now or 'not installed'}"
        if plugin.get("sha256") and was_named(plugin) and plugin["sha256"] not in shas:
            yield f"the plug-in {name} has changed since"


def package_version(package: str) -> str:
    """Return the version of an installed package; empty where there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def note_module(module: str) -> None:
    """Remember that something is registered from a module: its source decides what comes out."""
    if not is_ours(module):
        root = module.partition(".")[0]
        _ROOTS.setdefault(root, root)


def in_use() -> list[dict[str, str]]:
    """Return the plug-ins whose code ran in this process, for the record of a run."""
    packages = [{"plugin": name, "version": version} for name, version in sorted(_LOADED.items())]
    return [*(one.to_dict() for one in named()), *packages]


def at_fault(problem: BaseException) -> str:
    """Return the plug-in in whose code an error was raised, or in what it called; empty if it was in ours."""
    found, trace = "", problem.__traceback__
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        if is_ours(module) or module.partition(".")[0] in _ROOTS:
            found = _ROOTS.get(module.partition(".")[0], "")
        trace = trace.tb_next
    return found


def source_of(name: str) -> Path | None:
    """Return the source of a module that belongs to a plug-in in use; None for any other module."""
    root = sys.modules.get(name.partition(".")[0])
    if name.partition(".")[0] not in _ROOTS or root is None:
        return None
    loaded = getattr(sys.modules.get(name), "__file__", None)
    if loaded:
        return Path(loaded)
    for place in getattr(root, "__path__", ()):
        where = Path(place).joinpath(*name.split(".")[1:])
        for file in (where.with_suffix(".py"), where / "__init__.py"):
            if file.is_file():
                return file
    return None


def is_ours(module: str) -> bool:
    """Say whether a module is one of the workbench."""
    return module.partition(".")[0] == "workbench"


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
