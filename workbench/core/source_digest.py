"""What source code decides a number: the digest of a module and of every module of ours that it imports."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from types import CodeType
from typing import NamedTuple

from workbench.core import plugins
from workbench.core.run_record import digest_of

ROOT = Path(__file__).resolve().parents[1]


@cache
def source_digest(*modules: str) -> str:
    """Return the digest of the sources of these modules and of all modules of the workbench and of plug-ins that
    they import.

    What a function of ours imports when it is called (pages, pictures) does not count; of a plug-in everything does.

    Example:
        >>> source_digest("workbench.core.errors") == source_digest("workbench.core.errors")
        True
    """
    return source_digests([modules])[0]


def source_digests(groups: Iterable[Sequence[str]]) -> list[str]:
    """Return the digest of the sources of each of several groups of modules; every file is read once."""
    known: dict[str, _Source | None] = {}
    return [_digest(group, known) for group in groups]


def _digest(modules: Sequence[str], known: dict[str, _Source | None]) -> str:
    found: dict[str, str] = {}
    todo = list(modules)
    while todo:
        name = todo.pop()
        if name in found:
            continue
        if name not in known:
            known[name] = _source(_file_of(name), name)
        source = known[name]
        if source is None and name in modules:
            source = _source(_loaded_from(name), name)
            if source is None and name not in sys.modules:
                raise ModuleNotFoundError(f"no source of {name} to take the digest of", name=name)
        if source is not None:
            found[name] = source.digest
            todo += source.imports
    return digest_of(found)


class _Source(NamedTuple):
    """What a module is for a digest: that of its text, and what it imports."""

    digest: str
    imports: tuple[str, ...]


def _source(file: Path | None, name: str) -> _Source | None:
    """Read a module; of one of ours what stands at the top counts, lazily or not, without conditions."""
    if file is None:
        return None
    text = file.read_bytes()
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    imports = plugins.names_imported(text, package, anywhere=not name.startswith("workbench."))
    return _Source(hashlib.sha256(text).hexdigest(), tuple(imports))


def sources_of_plugin(module: str, function: Callable[..., object] | str = "") -> dict[str, str]:
    """Return ``{"plug-in sources": digest}`` of a module that is not of the workbench, whose version says nothing
    of it.

    Empty for one of ours. Where the module has no file, as in a notebook, the digest is of the function alone.
    """
    if plugins.is_ours(module):
        return {}
    if plugins.source_of(module) is not None:
        return {"plug-in sources": source_digest(module)}
    return {} if isinstance(function, str) else {"plug-in sources": function_digest(function)}


def function_digest(function: Callable[..., object]) -> str:
    """Return the digest of what a function of the user's computes: its source, its defaults and what it closes
    over.

    Where there is no source (typed into a bare interpreter), its bytecode and constants stand for it. What it reads
    from its module does not count.

    Example:
        >>> one, other = (lambda x: x + 1), (lambda x: x + 2)
        >>> function_digest(one) == function_digest(one), function_digest(one) == function_digest(other)
        (True, False)
    """
    code = getattr(function, "__code__", None)
    if code is None:
        return digest_of(["object", repr(function)])
    closed = [repr(cell.cell_contents) for cell in getattr(function, "__closure__", None) or ()]
    return digest_of([_written(function), *_compiled(code), repr(function.__defaults__), closed])


def _written(function: Callable[..., object]) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return ""


def _compiled(code: CodeType) -> list[str]:
    """Bytecode and constants, of inner functions too."""
    plain = [repr(c) for c in code.co_consts if not isinstance(c, CodeType)]
    inner = [text for c in code.co_consts if isinstance(c, CodeType) for text in _compiled(c)]
    return [code.co_code.hex(), *plain, *code.co_names, *inner]


def _loaded_from(name: str) -> Path | None:
    """The file of a module that is loaded, whosever it is; None for one without a file, such as a notebook."""
    file = getattr(sys.modules.get(name), "__file__", None)
    return Path(file) if file else None


def _file_of(name: str) -> Path | None:
    """The file of a module of ours; None for what is no module, such as a function that was imported by name."""
    parts = name.split(".")
    if parts[0] != "workbench":
        return plugins.source_of(name)
    where = ROOT.joinpath(*parts[1:])
    if where.is_dir():
        return where / "__init__.py"
    file = where.with_suffix(".py")
    return file if file.is_file() else None
