"""Shapes in annotations are checked while tests run: jaxtyping reads them, beartype holds values against them.

``install`` hooks the import of every module below the rooms it is given. A function is checked where its annotations
name a shape (``Float[Tensor, "pair pos"]``), with all that it takes and returns; so is a dataclass whose fields do.
Functions inside functions are left alone: they would be wrapped anew in every call. What is compiled so is cached
under a name of its own, so that nothing else ever imports it. A call whose arguments and answer have the types and
sizes of a call before is not looked at again: types and sizes are all that the check goes by.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from functools import cache, partial, wraps
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from threading import local
from types import CodeType, FunctionType, ModuleType, UnionType
from typing import Any, Union, get_args, get_origin

from jaxtyping import AbstractArray, config, jaxtyped

CACHE = ".shapes-1.pyc"  # raise the number when what is inserted changes
_DECORATED = ast.parse("from tests.shapes import checked as _shapes_are_checked").body[0]


def checked(made: Any) -> Any:
    """Check a function at every call, or a dataclass when it is made, if its annotations name a shape."""
    where = sys.modules[made.__module__].__dict__
    if not any(_names_shape(_read(hint, where)) for hint in made.__annotations__.values()):
        return made
    check = jaxtyped(made, typechecker=_beartyped)
    sizes_of_values = any("{" in str(hint) for hint in made.__annotations__.values())
    return check if isinstance(made, type) or sizes_of_values else _remembering(made, check)


class _Unknown(Exception):
    """What a value is cannot be told by its type and sizes, such as the entries of a dictionary."""


def _remembering(made: Callable[..., Any], check: Callable[..., Any]) -> Callable[..., Any]:
    """Check a call as ``check`` does, but no types and sizes twice."""
    seen: dict[Hashable, set[Hashable]] = {}  # of arguments -> of answers
    giving = cache(partial(_giving, made))  # made at the first need: beartype compiles a function for it

    @wraps(made)
    def call(*args: Any, **named: Any) -> Any:
        if config.jaxtyping_disable:
            return made(*args, **named)
        try:
            asked = (*map(kind_of, args), *((name, kind_of(value)) for name, value in named.items()))
        except _Unknown:
            return check(*args, **named)
        if asked not in seen:
            answer = check(*args, **named)
            with suppress(_Unknown):
                seen[asked] = {kind_of(answer)}
            return answer
        answer = made(*args, **named)
        with suppress(_Unknown):
            if (kind := kind_of(answer)) in seen[asked]:
                return answer
            giving()(answer, *args, **named)
            seen[asked].add(kind)
            return answer
        giving()(answer, *args, **named)
        return answer

    return call


def _giving(made: Callable[..., Any]) -> Callable[..., Any]:
    """A checked function with the annotations of another, whose answer is known already: it is given first."""
    known = local()

    def given(*args: Any, **named: Any) -> Any:
        return known.answer

    same = FunctionType(given.__code__, made.__globals__, made.__name__, None, given.__closure__)
    same.__signature__ = inspect.signature(made)  # type: ignore[attr-defined]
    same.__annotations__, same.__module__ = made.__annotations__, made.__module__
    same.__qualname__ = made.__qualname__
    check = jaxtyped(same, typechecker=_beartyped)

    def giving(answer: object, /, *args: Any, **named: Any) -> None:
        known.answer = answer
        try:
            check(*args, **named)
        finally:
            del known.answer

    return giving


def kind_of(value: Any) -> Hashable:
    """What a check can see of a value: its type, the sizes of a tensor, the value of what a ``Literal`` may list."""
    kind = type(value)
    if kind in (str, int, bool):
        return kind, value
    if kind in (tuple, list):
        return kind, tuple(map(kind_of, value)) if len(value) < 20 else _unknown(value)
    if (shape := getattr(value, "shape", None)) is not None and hasattr(value, "dtype"):
        return kind, tuple(shape), value.dtype
    return value if isinstance(value, type) else kind if _is_plain(kind) else _unknown(value)


@cache
def _is_plain(kind: type) -> bool:
    """Whether values of a type are of no kind that holds others, which a check would look at."""
    return not issubclass(kind, Mapping | Set | Sequence | Iterator) or kind.__module__.startswith(
        "workbench."
    )


def _unknown(value: object) -> Hashable:
    raise _Unknown(type(value))


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
