"""What the default runs of our papers came to: verdicts, minutes, commit and date, in ``default_runs.json``.

Minutes are of the processor, all threads together; those of a run that did not keep them are by the clock on the wall,
which another load of the machine makes longer, and ``clock`` says so.

The file is written by ``workbench replicate list --results FOLDER`` from what ``workbench replicate all -o FOLDER``
left there, and never by hand. Reading it loads no torch.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from workbench.core.atomic import write_atomic
from workbench.core.errors import RunError
from workbench.core.run_file import load_record
from workbench.core.strict_json import dump
from workbench.papers.file import REPLICATION, RESULT
from workbench.papers.quick import unlike_default
from workbench.papers.registry import find_paper

DATA = Path(__file__).with_name("default_runs.json")
CORE, WALL = "processor", "wall"
SAID = {"holds": "hold", "fails": "fail", "cannot be tested here": "not testable here"}


@cache
def measured() -> Mapping[str, dict[str, Any]]:
    """By name, the row of every paper that was measured."""
    return json.loads(DATA.read_text(encoding="utf-8")) if DATA.exists() else {}


def minute_words(row: Mapping[str, Any]) -> str:
    """Minutes of a row, and whether they are by the clock on the wall.

    Example:
        >>> minute_words({"minutes": 0.5, "clock": "processor"}), minute_words({"minutes": 8.4})
        ('0.5', '8.4 by the clock')
    """
    wall = row.get("clock", WALL) == WALL  # rows of before have none
    return f"{row['minutes']:g}{' by the clock' if wall else ''}"


def verdict_words(verdicts: Mapping[str, int]) -> str:
    """How many claims hold, fail, cannot be tested.

    Example:
        >>> verdict_words({"holds": 6, "fails": 0, "cannot be tested here": 1})
        '6 hold, 1 not testable here'
    """
    return ", ".join(f"{n} {SAID.get(verdict, verdict)}" for verdict, n in verdicts.items() if n)


def keep_measured(folder: Path, names: Iterable[str], *, file: Path | None = None) -> list[str]:
    """Take minutes and verdicts of these papers from the results in a folder, where it has them.

    Args:
        file: Where they are kept beside those of other papers; that of the package unless another is named.

    Returns:
        The papers that it has.

    Raises:
        RunError: if it has none, or one of them was changed, cannot be read, or is no default run (``--quick``).
    """
    file = file or DATA
    rows = dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}
    found = [name for name in names if (folder / name / RESULT).is_file()]
    if not found:
        raise RunError(f"{folder} has no results of papers", hint=f"workbench replicate all -o {folder}")
    for name in found:
        content = REPLICATION.load(folder / name / RESULT).content
        if others := unlike_default(find_paper(name), msgspec.to_builtins(content.plan.options)):
            raise RunError(
                f"{name} was measured with {', '.join(others)}; the list of papers takes default runs alone",
                hint=f"workbench replicate {name} -o {folder / name}, without --quick and --set, in a new folder",
            )
        worked, record = content.core_seconds, load_record(folder / name)
        rows[name] = {
            "model": content.model,
            "seed": content.plan.seed,
            "verdicts": dict(content.verdicts),
            "minutes": float(f"{(content.seconds if worked is None else worked) / 60:.2g}"),
            "clock": WALL if worked is None else CORE,
            "commit": str(record.git.get("commit", ""))[:12],
            "dirty": bool(record.git.get("dirty", False)),
            "sources": content.plan.code["sources"],
            "date": time.strftime("%Y-%m-%d", time.gmtime(record.started)),
        }
    write_atomic(file, dump(dict(sorted(rows.items())), where=file.name, indent=1))
    measured.cache_clear()
    return found
