"""Types: mypy reads every room, and none may have more errors than ``tests/type_errors.json`` says.

``python -m tests.type_errors`` checks; with ``--write`` it lowers the numbers of rooms that got better.
A room that is not in the file has none. The numbers only ever fall.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from mypy import api

ROOT = Path(__file__).resolve().parent.parent
KNOWN = ROOT / "tests" / "type_errors.json"
_ERROR = re.compile(r"(?P<file>[^:]+\.py):\d+: error: ")


def room_of(line: str) -> str | None:
    """The room that a line of mypy finds an error in; None for a line that tells of none.

    Example:
        >>> room_of("workbench/engine/sweep.py:7: error: no"), room_of("cli/app.py:1: error: no"), room_of("Found 2")
        ('engine', 'cli', None)
    """
    found = _ERROR.match(line)
    if found is None:
        return None
    first, *rest = Path(found["file"]).parts
    return rest[0] if first == "workbench" and len(rest) > 1 else first


def found_errors() -> list[str]:
    """Ask mypy for every error, one a line.

    Raises:
        SystemExit: if mypy cannot read the rooms at all.
    """
    said, wrong, status = api.run(
        ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
    )
    if wrong or status not in (0, 1):
        raise SystemExit(f"mypy did not finish: {wrong or said}")
    return said.splitlines()


def per_room(lines: Iterable[str]) -> dict[str, int]:
    """Count the errors of each room."""
    return dict(sorted(Counter(room for line in lines if (room := room_of(line))).items()))


def worse(found: Mapping[str, int], known: Mapping[str, int]) -> list[str]:
    """Rooms with more errors than are known, each in a sentence."""
    return [
        f"{room}: {n} type errors, {known.get(room, 0)} are known; mend what is new"
        for room, n in found.items()
        if n > known.get(room, 0)
    ]


def better(found: Mapping[str, int], known: Mapping[str, int]) -> list[str]:
    """Rooms with fewer errors than are known, each in a sentence."""
    return [
        f"{room}: {found.get(room, 0)} type errors, {n} are known; python -m tests.type_errors --write lowers it"
        for room, n in known.items()
        if n > found.get(room, 0)
    ]


def main(arguments: list[str]) -> int:
    lines = found_errors()
    found, known = per_room(lines), json.loads(KNOWN.read_text(encoding="utf-8"))
    complaints = worse(found, known)
    if complaints:
        rooms = {sentence.partition(":")[0] for sentence in complaints}
        print("\n".join([*(line for line in lines if room_of(line) in rooms), *complaints]))
        return 1
    if "--write" in arguments:
        KNOWN.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    else:
        print("\n".join([*better(found, known), f"types: {sum(found.values())} errors, none new"]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
