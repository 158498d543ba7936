"""Docstrings of public functions: what share says what it returns, and what share begins with a verb.

``python -m tests.docstrings`` shows both shares of every room; with ``--write`` it raises what
``tests/docstrings.json`` asks for. The shares only ever rise.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KNOWN = ROOT / "tests" / "docstrings.json"
WRONG = frozenset(
    "a all an as at both by each every everything for from how in its of one per some that the there these this to "
    "what where whether which who whose why with".split()
)
TELLS = frozenset(
    {"Return", "Say", "List", "Count"}
)  # a first line that begins so is the Returns of a short docstring


@dataclass(frozen=True)
class Described:
    """A public function that returns something, and its docstring."""

    room: str
    name: str
    text: str

    @property
    def begins_well(self) -> bool:
        """Whether the first word may be a verb: it is none of those that begin a riddle."""
        first = self.text.split(maxsplit=1)[:1]
        return bool(first) and first[0].strip(",.:;").lower() not in WRONG and first[0][0].isalpha()

    @property
    def says_what_it_returns(self) -> bool:
        """Whether it has a section for that, or a first line that says it."""
        sections = any(f"{name}:" in self.text.split() for name in ("Returns", "Yields"))
        return sections or self.text.split(maxsplit=1)[:1] in [[word] for word in TELLS]


def functions() -> Iterator[Described]:
    """Every public function and method of the rooms that returns something; properties are nouns and left out."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in _files()}
    nodes = [node for tree in trees.values() for node in tree.body]
    classes = {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}
    for path, tree in trees.items():
        parts = path.relative_to(ROOT).parts
        room = parts[1] if parts[0] == "workbench" and len(parts) > 2 else parts[0]
        for name, node in _public(tree.body, classes):
            yield Described(room, f"{'.'.join(parts)}: {name}", ast.get_docstring(node) or "")


def _files() -> list[Path]:
    return sorted([*(ROOT / "workbench").rglob("*.py"), *(ROOT / "cli").rglob("*.py")])


def _public(
    body: list[ast.stmt], classes: Mapping[str, ast.ClassDef], within: ast.ClassDef | None = None
) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Public functions; a method without a docstring has that of the method that it replaces, and is left out."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _public(node.body, classes, node)
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and _returns(node):
            if within is None:
                yield node.name, node
            elif ast.get_docstring(node) or not _is_told(within, node.name, classes):
                yield f"{within.name}.{node.name}", node


def _is_told(within: ast.ClassDef, method: str, classes: Mapping[str, ast.ClassDef]) -> bool:
    """Whether a class above has a docstring for a method; a class name exists once."""
    above = [classes[base.id] for base in within.bases if isinstance(base, ast.Name) and base.id in classes]
    own = [n for cls in above for n in cls.body if isinstance(n, ast.FunctionDef) and n.name == method]
    return any(ast.get_docstring(n) for n in own) or any(_is_told(cls, method, classes) for cls in above)


def _returns(node: ast.FunctionDef) -> bool:
    said = " ".join(map(ast.unparse, node.decorator_list))
    nothing = node.returns is None or (isinstance(node.returns, ast.Constant) and node.returns.value is None)
    return not nothing and not any(word in said for word in ("property", "overload", "contextmanager"))


def shares() -> dict[str, dict[str, int]]:
    """Per room, the whole percentages of public functions that say what they return and that begin with a verb."""
    rooms: dict[str, list[Described]] = {}
    for one in functions():
        rooms.setdefault(one.room, []).append(one)
    return {
        room: {
            "returns": 100 * sum(one.says_what_it_returns for one in own) // len(own),
            "verbs": 100 * sum(one.begins_well for one in own) // len(own),
        }
        for room, own in sorted(rooms.items())
    }


def worse(found: Mapping[str, Mapping[str, int]], known: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Rooms whose shares are below what is known, each in a sentence."""
    return [
        f"{room}: {found[room][what]} % ({what}), {least} % is asked for"
        for room, own in known.items()
        for what, least in own.items()
        if found.get(room, own)[what] < least
    ]


def main(arguments: list[str]) -> int:
    found, known = shares(), json.loads(KNOWN.read_text(encoding="utf-8")) if KNOWN.exists() else {}
    for room, own in found.items():
        print(f"{room}: {own['returns']} % say what they return, {own['verbs']} % begin with a verb")
    complaints = worse(found, known)
    if complaints:
        print("\n".join(complaints))
        return 1
    if "--write" in arguments:
        KNOWN.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
