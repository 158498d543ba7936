"""Which functions of the library a paper measures with, read from its file: no list is kept by hand."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import workbench
from workbench.papers.registry import PAPERS, list_replications

ROOMS = ("heads", "edits", "masks", "methods", "training", "evaluate", "engine")
"""Where methods of papers stand. What a paper draws, opens and judges with is no method."""

_PACKAGES = [*(f"workbench.{room}" for room in ROOMS), "workbench.model.multimodal_layout"]


def uses_of_papers() -> dict[str, tuple[str, ...]]:
    """Return the library functions that each built paper of ours calls.

    Returns:
        ``room.module.function`` by the name of the paper, in the order of the list of sixty.

    Example:
        >>> [use for use in uses_of_papers()["vhd"] if "divergence" in use][:1]
        ['heads.divergence.Divergence']
    """
    return {name: uses_of(PAPERS.get(name).module) for name in list_replications() if name in PAPERS.ours()}


def shared_uses(uses: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Return which papers call a function, where they are two or more."""
    papers = defaultdict(list)
    for paper, functions in uses.items():
        for function in functions:
            papers[function].append(paper)
    return {function: tuple(names) for function, names in sorted(papers.items()) if len(names) > 1}


@cache
def uses_of(module: str) -> tuple[str, ...]:
    """Return the functions and classes of `ROOMS` that a module names, without importing what it imports."""
    tree = ast.parse(file_of(module).read_text(encoding="utf-8"))
    imported = dict(_imported(tree))
    direct = {target for target in imported.values() if not _is_module(target)}
    through = {
        f"{imported[node.value.id]}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in imported
    }
    found = {target for target in direct | through if _is_method(target)}
    return tuple(sorted(target.removeprefix("workbench.") for target in found))


def _imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Names of a module and what they stand for, of what it imports from `ROOMS`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for name in node.names:
                if (whole := f"{node.module}.{name.name}").startswith(tuple(_PACKAGES)):
                    yield name.asname or name.name, whole


@cache
def _is_module(target: str) -> bool:
    return _place(target).with_suffix(".py").is_file() or _place(target).is_dir()


def _is_method(target: str) -> bool:
    """Whether it is a function or a class: constants are written in capitals, and a module is neither."""
    module, _, name = target.rpartition(".")
    return not name.startswith("_") and not name.isupper() and _is_module(module) and _defines(module, name)


@cache
def _defines(module: str, name: str) -> bool:
    tree = ast.parse(file_of(module).read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name for node in tree.body)


def _place(target: str) -> Path:
    return Path(workbench.__file__).parents[1].joinpath(*target.split("."))


def file_of(module: str) -> Path:
    """Return the source file of a module of ours, without importing it."""
    place = _place(module)
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
