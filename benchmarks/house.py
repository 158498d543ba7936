"""The house in numbers: rooms, modules, lines, imports inside functions, circles, arrows upwards.

    python -m benchmarks.house [--tree ANOTHER/CHECKOUT] [--json] [--all-imports]

Only sources are read (``ast``), so any checkout can be counted, also one from before a change. The floors are those of
the contract in the ``pyproject.toml`` of that checkout; without one, arrows upwards are not counted. ``--all-imports``
prints every import that does not simply stand at the top of its module, and every circle with its modules, so that
whoever counts by another rule sees where the difference comes from.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import networkx as nx

PACKAGE = "workbench"
LISTED = (PACKAGE, "cli")  # whose imports --all-imports lists
TOP, INSIDE, LAZILY, TYPES = "at the top", "inside functions", "at the top, lazily()", "for type checkers"
OURS, OTHERS, STANDARD = "ours", "other packages", "standard library"


@dataclass(frozen=True, kw_only=True)
class Import:
    """One import statement: where it stands, what it says, and the modules of ours that it names."""

    module: str
    path: Path
    line: int
    text: str
    place: str
    owner: str
    modules: tuple[str, ...]


def modules(tree: Path, package: str = PACKAGE) -> dict[str, Path]:
    """Every module of a package by its name."""
    found = {}
    for path in sorted((tree / package).rglob("*.py")):
        parts = path.relative_to(tree).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def place_of(node: ast.AST, place: str) -> str:
    """Where the imports below a node stand, given where the node stands; the first that says something else decides."""
    if place in (INSIDE, TYPES):
        return place
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return TYPES
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return INSIDE
    return LAZILY if isinstance(node, ast.With) and "lazily()" in ast.unparse(node.items[0]) else place


def owner_of(name: str) -> str:
    """Whose module a dotted name is."""
    top = name.partition(".")[0]
    return OURS if top in LISTED else STANDARD if top in sys.stdlib_module_names else OTHERS


def imports(module: str, path: Path, known: Mapping[str, Path]) -> Iterator[Import]:
    """Every import statement of a file."""

    def visit(node: ast.AST, place: str) -> Iterator[Import]:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        if names:
            here = (next((m for m in (n, n.rpartition(".")[0]) if m in known), None) for n in names)
            yield Import(
                **{"module": module, "path": path, "line": node.lineno, "text": ast.unparse(node)},
                **{"place": place, "owner": owner_of(names[0])},
                modules=tuple(m for m in here if m and m not in (PACKAGE, module)),
            )
        for child in ast.iter_child_nodes(node):
            yield from visit(child, place_of(node, place))

    yield from visit(ast.parse(path.read_text(encoding="utf-8")), TOP)


def circles(found: list[Import], *places: str) -> list[list[str]]:
    """Modules of the library that import each other, by imports at these places; the largest circle first."""
    arrows = nx.DiGraph([(i.module, to) for i in found if i.place in places for to in i.modules])
    tied = [sorted(c) for c in nx.strongly_connected_components(arrows) if len(c) > 1]
    return sorted(tied, key=lambda circle: (-len(circle), circle))


def floors(tree: Path) -> dict[str, int]:
    """The floor of each room, the lowest is 1; empty where there is no contract."""
    settings = tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8"))
    for contract in settings["tool"].get("importlinter", {}).get("contracts", ()):
        if PACKAGE in contract.get("containers", ()):
            layers = [line.replace("|", ":").split(":") for line in reversed(contract["layers"])]
            return {room.strip(): n for n, rooms in enumerate(layers, start=1) for room in rooms}
    return {}


def imports_of(tree: Path, package: str = PACKAGE) -> list[Import]:
    """Every import statement of a package."""
    known = modules(tree, package)
    return [found for name, path in known.items() for found in imports(name, path, known)]


def counts(tree: Path) -> dict[str, Any]:
    """All numbers of one checkout."""
    known = modules(tree)
    found = imports_of(tree)
    arrows = {(i.module, to) for i in found if i.place != TYPES for to in i.modules}
    level = floors(tree)
    room = {name: name.split(".")[1] if "." in name else "" for name in known}
    upwards = [a for a in arrows if level and level.get(room[a[1]], 0) > level.get(room[a[0]], 99)]
    functions = [
        node.end_lineno - node.lineno + 1
        for path in known.values()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    places = Counter((i.place, i.owner) for i in found)
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
        "imports of ours inside functions": places[INSIDE, OURS],
        "imports of other packages inside functions": places[INSIDE, OTHERS],
        "imports of the standard library inside functions": places[INSIDE, STANDARD],
        "imports at the top that load at first use": places[LAZILY, OURS],
        "circles when modules load": [len(c) for c in circles(found, TOP)],
        "circles, with imports inside functions": [len(c) for c in circles(found, TOP, LAZILY, INSIDE)],
        "circles, with those for type checkers too": [
            len(c) for c in circles(found, TOP, LAZILY, INSIDE, TYPES)
        ],
        "functions": len(functions),
        "median lines of a function": median(functions),
    }


def every_import(tree: Path) -> Iterator[str]:
    """A line for every import of the library and the command line that is not at the top, counts, and circles."""
    found = [i for package in LISTED for i in imports_of(tree, package) if i.place != TOP]
    for i in found:
        yield f"{i.path.relative_to(tree)}:{i.line}: {i.text}  [{i.place}; {i.owner}]"
    for (package, place, owner), n in sorted(
        Counter((i.module.partition(".")[0], i.place, i.owner) for i in found).items()
    ):
        yield f"{n:4} {package}: {place}, {owner}"
    for circle in circles(imports_of(tree), TOP, LAZILY, INSIDE, TYPES):
        yield f"circle of {len(circle)}: {', '.join(circle)}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tree", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--all-imports", action="store_true", help="every import not at the top, every circle"
    )
    asked = parser.parse_args(arguments)
    if asked.all_imports:
        print(*every_import(asked.tree), sep="\n")
        return 0
    found = counts(asked.tree)
    for name, value in found.items() if not asked.json else ():
        print(f"{name:50} {value if value is not None else 'no contract'}")
    if asked.json:
        print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
