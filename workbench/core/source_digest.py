"""What source code decides a number: the digest of a module and of every module of ours that it imports."""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import CodeType

from workbench.core.run_record import digest_of

ROOT = Path(__file__).resolve().parents[1]


@cache
def source_digest(*modules: str) -> str:
    """Digest of the sources of these modules and of all ``workbench`` modules they import when they are loaded.

    What a function imports when it is called (pages, pictures) does not count.

    Example:
        >>> source_digest("workbench.core.errors") == source_digest("workbench.core.errors")
        True
    """
    found: dict[str, str] = {}
    todo = list(modules)
    while todo:
        name = todo.pop()
        file = _file_of(name)
        if name in found or file is None:
            continue
        text = file.read_bytes()
        found[name] = hashlib.sha256(text).hexdigest()
        todo += _imports(ast.parse(text))
    return digest_of(found)


def function_digest(function: Callable[..., object]) -> str:
    """Digest of what a function of the user's computes: its source, its defaults and what it closes over.

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


def _file_of(name: str) -> Path | None:
    """The file of a module of ours; None for what is no module, such as a function that was imported by name."""
    parts = name.split(".")
    if parts[0] != "workbench":
        return None
    where = ROOT.joinpath(*parts[1:])
    if where.is_dir():
        return where / "__init__.py"
    file = where.with_suffix(".py")
    return file if file.is_file() else None


def _imports(tree: ast.Module) -> Iterator[str]:
    """Names that a module imports at its top, conditional blocks for type checkers left out."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
