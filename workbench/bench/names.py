"""Whether everything a bench names is there, told from files alone: importing a method loads torch, six seconds."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from workbench.errors import OptionError, unknown
from workbench.sources import ROOT


def check_method(name: str, options: tuple[str, ...]) -> None:
    """Do nothing if there is such a method, with such options.

    Raises:
        OptionError: if not, with the closest spellings, or the options that it has.
    """
    from workbench.methods.registry import list_methods

    if name not in list_methods():
        raise unknown("method", name, list_methods(), error=OptionError)
    known = option_names(name) if options else ()
    for option in options:
        if option not in known:
            raise OptionError(
                f"method {name} has no option {option!r}", hint=f"options: {', '.join(known) or 'none'}"
            )


def option_names(method: str) -> tuple[str, ...]:
    """Names of a method's options, as its source states them.

    Example:
        >>> option_names("eap-ig")
        ('steps', 'rule', 'backward')
    """
    for file in sorted((ROOT / "methods").glob("*.py")):
        text = file.read_text(encoding="utf-8")
        if f'"{method}"' in text:
            tree = ast.parse(text)
            for name in _options_class(tree, method):
                return tuple(dict.fromkeys(_fields(tree, name)))
    return ()


def _options_class(tree: ast.Module, method: str) -> Iterator[str]:
    """The ``options`` of ``@method("NAME", ..., options=Class)``."""
    decorators = (d for f in tree.body if isinstance(f, ast.FunctionDef) for d in f.decorator_list)
    for call in decorators:
        if isinstance(call, ast.Call) and call.args and ast.unparse(call.args[0]) == repr(method):
            yield from (ast.unparse(k.value) for k in call.keywords if k.arg == "options")


def _fields(tree: ast.Module, name: str) -> Iterator[str]:
    """Fields of a dataclass, those of its bases first; a class that is imported is looked for where it is from."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            for base in node.bases:
                yield from _fields(tree, ast.unparse(base))
            yield from (ast.unparse(n.target) for n in node.body if isinstance(n, ast.AnnAssign))
        elif isinstance(node, ast.ImportFrom) and name in (alias.name for alias in node.names):
            file = ROOT.joinpath(*str(node.module).split(".")[1:]).with_suffix(".py")
            yield from _fields(ast.parse(file.read_text(encoding="utf-8")), name)
