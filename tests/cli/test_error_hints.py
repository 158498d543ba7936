"""Every error of ours says what to do, and what it says to type exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import workbench.core.errors as errors
from tests.cli.test_flags import ALL

ROOT = Path(__file__).resolve().parents[2]
CLASSES = {name for name, found in vars(errors).items() if isinstance(found, type) and name.endswith("Error")}
MAKERS = CLASSES | {"explaining"}  # what a library raises is put into words by `explaining`
OTHERS = {
    "--plugin",
    "--head",
    "--upgrade",
    "--force-reinstall",
}  # of workbench itself; of ray start, pip install
WORDS = r"[a-z]+(?:-[a-z]+)*"


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Every place where an error of ours is made, and where it stands."""
    for file in sorted([*ROOT.glob("workbench/**/*.py"), *ROOT.glob("cli/**/*.py")]):
        tree = ast.parse(file.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in MAKERS:
                yield f"{file.relative_to(ROOT)}:{node.lineno}", node


def hints() -> Iterator[tuple[str, str]]:
    """Every hint that is written out, with what stands for its variables left out."""
    for where, call in calls():
        for part in (part for word in call.keywords if word.arg == "hint" for part in ast.walk(word.value)):
            if isinstance(part, ast.JoinedStr):
                yield where, "".join(v.value if isinstance(v, ast.Constant) else "..." for v in part.values)
            elif isinstance(part, ast.Constant) and isinstance(part.value, str):
                yield where, part.value


def test_every_error_has_a_hint():
    without = [
        where for where, call in calls() if not any(word.arg in ("hint", None) for word in call.keywords)
    ]
    assert len(list(calls())) > 1000 and without == []


def test_flags_and_commands_in_hints_exist():
    params = [p for command in ALL.values() for p in command.params]
    flags = {flag for p in params for flag in (*p.opts, *getattr(p, "secondary_opts", ()))} | OTHERS
    wrong = []
    for where, hint in hints():
        found = re.findall(rf"(?<![\w-])--{WORDS}", hint)
        wrong += [(where, flag) for flag in found if flag not in flags]
        for word, next_word in re.findall(rf"(?<!the )workbench ({WORDS})(?: ({WORDS}))?", hint):
            if word not in ALL and f"{word} {next_word}" not in ALL:
                wrong.append((where, f"workbench {word} {next_word}"))
    assert wrong == [], "\n".join(map(" ".join, wrong))
