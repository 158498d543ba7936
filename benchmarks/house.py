"""The house in numbers: rooms, modules, lines, imports inside functions, circles, arrows upwards.

    python -m benchmarks.house [--tree ANOTHER/CHECKOUT] [--json]

Only sources are read (``ast``), so any checkout can be counted, also one from before a change. The floors are those of
the contract in the ``pyproject.toml`` of that checkout; without one, arrows upwards are not counted.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import networkx as nx

PACKAGE = "workbench"


def modules(tree: Path) -> dict[str, Path]:
    """Every module of the library by its name."""
    found = {}
    for path in sorted((tree / PACKAGE).rglob("*.py")):
        parts = path.relative_to(tree).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(source: ast.Module, known: Mapping[str, Path]) -> Iterator[tuple[str, bool]]:
    """Modules of ours that a module imports, and whether inside a function; those for type checkers left out."""

    def visit(node: ast.AST, inside: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            module = next((m for m in (name, name.rpartition(".")[0]) if m in known), None)
            if module and module != PACKAGE:
                yield module, inside
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside)

    yield from visit(source, False)


def floors(tree: Path) -> dict[str, int]:
    """The floor of each room, the lowest is 1; empty where there is no contract."""
    settings = tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8"))
    for contract in settings["tool"].get("importlinter", {}).get("contracts", ()):
        if PACKAGE in contract.get("containers", ()):
            layers = [line.replace("|", ":").split(":") for line in reversed(contract["layers"])]
            return {room.strip(): n for n, rooms in enumerate(layers, start=1) for room in rooms}
    return {}


def counts(tree: Path) -> dict[str, Any]:
    """All numbers of one checkout."""
    known = modules(tree)
    sources = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in known.items()}
    arrows = {
        (name, to): inside for name in known for to, inside in imports(sources[name], known) if to != name
    }
    inner = [to for name in known for to, inside in imports(sources[name], known) if inside]
    circles = sorted(len(c) for c in nx.strongly_connected_components(nx.DiGraph(list(arrows))) if len(c) > 1)
    at_load = nx.DiGraph([arrow for arrow, inside in arrows.items() if not inside])
    level = floors(tree)
    room = {name: name.split(".")[1] if "." in name else "" for name in known}
    upwards = [a for a in arrows if level and level.get(room[a[1]], 0) > level.get(room[a[0]], 99)]
    functions = [
        node.end_lineno - node.lineno + 1
        for source in sources.values()
        for node in ast.walk(source)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return {
        "modules": len(known),
        "lines": sum(len(path.read_text(encoding="utf-8").splitlines()) for path in known.values()),
        "loose modules beside the rooms": sum(
            name.count(".") == 1 and p.name != "__init__.py" for name, p in known.items()
        ),
        "rooms": len(
            {
                r
                for r in room.values()
                if f"{PACKAGE}.{r}" in known and known[f"{PACKAGE}.{r}"].name == "__init__.py"
            }
        ),
        "floors": max(level.values(), default=None),
        "arrows between modules": len(arrows),
        "arrows upwards": len(upwards) if level else None,
        "imports inside functions": len(inner),
        "circles, with imports inside functions": circles,
        "circles when modules load": sum(len(c) > 1 for c in nx.strongly_connected_components(at_load)),
        "functions": len(functions),
        "median lines of a function": median(functions),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tree", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    found = counts(asked.tree)
    for name, value in found.items() if not asked.json else ():
        print(f"{name:40} {value if value is not None else 'no contract'}")
    if asked.json:
        print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
