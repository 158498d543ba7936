"""Whose code runs besides ours: the plug-ins that were named, loaded or imported in this process."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from workbench.core.errors import PluginError, WorkbenchError, in_one_line

TYPED = "__main__"  # the module of what is typed into a notebook or a shell


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
_MODULES: dict[str, None] = {}  # modules of others that have registered something, whoever imported them


@contextmanager
def explained(what: str, hint: str) -> Iterator[None]:
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
    """Say whether a plug-in of a record was named or imported here too: same words, name of the file, or content."""
    text, sha = plugin["plugin"], plugin.get("sha256", "")
    file = Path(text).name if text.endswith(".py") else ""
    return any(
        one["plugin"] == text
        or (sha and one.get("sha256") == sha)
        or (file and Path(one["plugin"]).name == file)
        for one in in_use()
    )


def what_changed(recorded: Iterable[Mapping[str, str]]) -> Iterator[str]:
    """Return sentences about plug-ins of a record that are not here as they were then."""
    shas = {one.get("sha256") for one in in_use()}
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


def note_package(package: str, its_version: str, module: str) -> None:
    """Remember that something of an installed package is used, and from which module."""
    _LOADED.setdefault(package, its_version)
    _ROOTS[module.partition(".")[0]] = f"{package} {its_version}".strip()


def note_named(one: Named, place: str) -> None:
    """Remember a plug-in that was named, by where it is."""
    _NAMED[place] = one
    _ROOTS[one.module.partition(".")[0]] = one.text


def named_at(place: str) -> Named | None:
    """Return the plug-in that was named before and is there."""
    return _NAMED.get(place)


def note_module(module: str) -> None:
    """Remember that something is registered from a module: its source decides what comes out."""
    if not is_ours(module):
        root = module.partition(".")[0]
        _ROOTS.setdefault(root, root)
        _MODULES[module] = None


def in_use() -> list[dict[str, str]]:
    """Return the plug-ins whose code ran in this process, for the record of a run: named, of a package, or imported."""
    packages = [{"plugin": name, "version": version} for name, version in sorted(_LOADED.items())]
    return [*(one.to_dict() for one in named()), *packages, *_imported()]


def _imported() -> Iterator[dict[str, str]]:
    """Return modules that registered something and that nobody named: somebody imported them, or typed them."""
    told = {one.module.partition(".")[0] for one in named()}
    told |= {root for root, whose in _ROOTS.items() if whose != root}  # of a package that was loaded
    for module in _MODULES:
        if module.partition(".")[0] not in told:
            file = getattr(sys.modules.get(module), "__file__", None)
            text = file if file and module == TYPED else module  # a script is named by its file
            digest = sha256_of(Path(file)) if file and Path(file).is_file() else ""
            yield {"plugin": text, **({"sha256": digest} if digest else {})}


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
    loaded = getattr(sys.modules.get(name), "__file__", None)
    if name.partition(".")[0] not in _ROOTS or root is None:
        folders = {Path(one.file).parent for one in named() if one.text.endswith(".py")}
        found = next(filter(None, (beside(folder, name) for folder in folders)), None)
        return found if loaded is None or found is None or Path(loaded).resolve() == found.resolve() else None
    if loaded:
        return Path(loaded)
    return next(
        filter(None, (beside(Path(at), name, inside=1) for at in getattr(root, "__path__", ()))), None
    )


def beside(folder: Path, name: str, *, inside: int = 0) -> Path | None:
    """Return the file of a module in a folder, None where there is none.

    Args:
        inside: How many words of its name the folder stands for.
    """
    where = folder.joinpath(*name.split(".")[inside:])
    return next((f for f in (where.with_suffix(".py"), where / "__init__.py") if f.is_file()), None)


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file; where it imports files beside it, of these too, each after its name."""
    found: dict[Path, bytes] = {}
    todo = [file]
    while todo:
        now = todo.pop()
        if now not in found:
            found[now] = now.read_bytes()
            todo += [f for name in names_imported(found[now]) if (f := beside(file.parent, name)) is not None]
    digest = hashlib.sha256(found.pop(file))
    for helper in sorted(found):
        digest.update(helper.relative_to(file.parent).as_posix().encode() + found[helper])
    return digest.hexdigest()


def names_imported(source: bytes, package: Iterable[str] = (), *, anywhere: bool = True) -> Iterator[str]:
    """Return the names of the modules, and of what may be one, that a source imports; nothing of what cannot be read.

    Args:
        package: The words of the package that relative imports start from.
        anywhere: Inside functions and conditions too. Otherwise what stands at the top, and there in a ``with`` block:
            what is imported lazily counts.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    words = list(package)
    lazy = [inner for node in tree.body if isinstance(node, ast.With) for inner in node.body]
    for node in ast.walk(tree) if anywhere else [*tree.body, *lazy]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = words[: len(words) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def is_ours(module: str) -> bool:
    """Say whether a module is one of the workbench."""
    return module.partition(".")[0] == "workbench"
