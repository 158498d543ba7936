"""Shapes in annotations are checked while tests run: jaxtyping reads them, beartype holds values against them.

``install`` hooks the import of every module below the rooms it is given. A function is checked where its annotations
name a shape (``Float[Tensor, "pair pos"]``), with all that it takes and returns; so is a dataclass whose fields do.
Functions inside functions are left alone: they would be wrapped anew in every call. What is compiled so is cached
under a name of its own, so that nothing else ever imports it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType, UnionType
from typing import Any, Union, get_args, get_origin

from jaxtyping import AbstractArray, jaxtyped

CACHE = ".shapes-1.pyc"  # raise the number when what is inserted changes
_DECORATED = ast.parse("from tests.shapes import checked as _shapes_are_checked").body[0]


def checked(made: Any) -> Any:
    """Check a function at every call, or a dataclass when it is made, if its annotations name a shape."""
    where = sys.modules[made.__module__].__dict__
    if not any(_names_shape(_read(hint, where)) for hint in made.__annotations__.values()):
        return made
    return jaxtyped(made, typechecker=_beartyped)


def _read(hint: object, where: dict[str, Any]) -> object:
    """What an annotation says; None where it names what is imported for type checkers alone."""
    if not isinstance(hint, str):
        return hint
    try:
        return eval(hint, where)
    except (NameError, AttributeError, TypeError):
        return None


def _names_shape(hint: object) -> bool:
    """Whether a shape is named in a hint, or in a part of it."""
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(_names_shape(part) for part in get_args(hint))


def _beartyped(function: Callable[..., Any]) -> Callable[..., Any]:
    from beartype import BeartypeConf, beartype

    hints = function.__annotations__
    free = {name: _unreadable(hint) or _many(hint) for name, hint in hints.items()}
    function.__annotations__ = {name: Any if free[name] else hint for name, hint in hints.items()}
    return beartype(conf=BeartypeConf(is_pep484_tower=True))(function)


def _many(hint: object) -> bool:
    """Whether a hint is of any number of tensors: each has sizes of its own, and beartype looks at one of them."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_many(part) for part in parts)
    if not isinstance(origin, type) or not issubclass(origin, Iterable) or not _names_shape(hint):
        return False
    return origin is not tuple or Ellipsis in parts


def _unreadable(hint: object) -> bool:
    """Whether beartype cannot check a hint: a class that is not made yet, or a protocol that is no class."""
    protocol = getattr(hint, "_is_protocol", False) and not getattr(hint, "_is_runtime_protocol", False)
    return protocol or "typing.Self" in str(hint) or any(map(_unreadable, get_args(hint)))


class _Marker(ast.NodeTransformer):
    """Puts the check innermost at every function and outermost at every class; not at functions inside functions."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.decorator_list.append(ast.Name("_shapes_are_checked", ast.Load()))
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        node.decorator_list.insert(0, ast.Name("_shapes_are_checked", ast.Load()))
        self.generic_visit(node)
        return node


def marked(source: bytes | str) -> ast.Module:
    """Parse a module and mark what may be checked.

    Returns:
        The tree, with a decorator at every function and class.
    """
    tree = _Marker().visit(ast.parse(source))
    future = (isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body[:3])
    tree.body.insert(max((i + 1 for i, found in enumerate(future) if found), default=0), _DECORATED)
    return ast.fix_missing_locations(tree)


class _Loader(SourceFileLoader):
    def source_to_code(self, data: Any, path: Any, *, _optimization: int = -1) -> CodeType:  # type: ignore[override]
        return compile(marked(data), path, "exec", dont_inherit=True, optimize=_optimization)

    def get_data(self, path: Any) -> bytes:
        return super().get_data(_cached(str(path)))

    def set_data(self, path: str, data: bytes, *, _mode: int = 0o666) -> None:
        super().set_data(_cached(path), data, _mode=_mode)  # type: ignore[call-arg]


def _cached(path: str) -> str:
    return path.removesuffix(".pyc") + CACHE if path.endswith(".pyc") else path


class _Finder(MetaPathFinder):
    def __init__(self, rooms: Sequence[str], exceptions: Sequence[str]) -> None:
        self.rooms, self.exceptions = tuple(rooms), frozenset(exceptions)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name in self.exceptions or not any(
            name == room or name.startswith(f"{room}.") for room in self.rooms
        ):
            return None
        found = PathFinder.find_spec(name, path, target)
        if found is not None and isinstance(found.loader, SourceFileLoader):
            found.loader = _Loader(found.loader.name, found.loader.path)
        return found


def install(rooms: Sequence[str], exceptions: Sequence[str] = ()) -> None:
    """Check shapes in all modules of the rooms but for the exceptions; before any of them is imported."""
    sys.meta_path.insert(0, _Finder(rooms, exceptions))
