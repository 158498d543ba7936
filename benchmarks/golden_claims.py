"""Every claim of every paper, written before a change of the house and compared after it: nothing may move.

Only the command line is used, so the file that was written by another arrangement of the code can still be compared.
One thread. Run:

    OMP_NUM_THREADS=1 python -m benchmarks.golden_claims write claims.json
    OMP_NUM_THREADS=1 python -m benchmarks.golden_claims compare claims.json [--only pine lofit]

Exit code 3 if a number differs by more than 1e-6 (of its size, where it is larger than 1), or a word differs.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TOLERANCE = 1e-6
STUDIES = {"ioi": "zoo:ioi", "greater-than": "zoo:truth-greater"}
NUMBER = re.compile(r"[-+−]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
FIELDS = ("claim", "criterion", "verdict", "found", "control", "n", "paper", "why", "model")


def workbench(*words: str) -> Any:
    """The JSON document that a command prints."""
    done = subprocess.run(
        [sys.executable, "-c", "from cli.app import main; main()", *words, "--json", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"workbench {' '.join(words)} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def claims_of(name: str, root: Path) -> list[dict[str, Any]]:
    """The claims of one paper, or of one study, measured now at its default size."""
    command = ("reproduce", name, "-m", STUDIES[name]) if name in STUDIES else ("replicate", name)
    found = workbench(*command, "--out", str(root / name))
    claims = found.get("claims") or [claim for step in found["steps"] for claim in step["claims"]]
    return [{field: claim.get(field) for field in FIELDS} for claim in claims]


def differences(before: Any, after: Any, where: str) -> Iterator[str]:
    """What differs between two lists of claims; numbers inside of words are compared as numbers."""
    if isinstance(before, list) and isinstance(after, list):
        if len(before) != len(after):
            yield f"{where}: {len(before)} claims before, {len(after)} after"
        for i, (one, other) in enumerate(zip(before, after, strict=False)):
            yield from differences(one, other, f"{where}[{i}]")
    elif isinstance(before, dict) and isinstance(after, dict):
        for field in before.keys() | after.keys():
            yield from differences(before.get(field), after.get(field), f"{where}.{field}")
    elif isinstance(before, str) and isinstance(after, str):
        same = NUMBER.sub("#", before) == NUMBER.sub("#", after)
        numbers = zip(NUMBER.findall(before), NUMBER.findall(after), strict=False)
        if not same or not all(
            _near(float(a.replace("−", "-")), float(b.replace("−", "-"))) for a, b in numbers
        ):
            yield f"{where}: {before!r} before, {after!r} after"
    elif isinstance(before, int | float) and isinstance(after, int | float):
        if not _near(before, after):
            yield f"{where}: {before} before, {after} after"
    elif before != after:
        yield f"{where}: {before!r} before, {after!r} after"


def _near(a: float, b: float) -> bool:
    return abs(a - b) <= TOLERANCE * max(1.0, abs(a))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("do", choices=("write", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", nargs="+", help="papers and studies by name")
    asked = parser.parse_args(arguments)
    before = json.loads(asked.file.read_text()) if asked.file.exists() else {}
    names = asked.only or list(before if asked.do == "compare" else every_name())
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as root:
        for name in names:
            claims = claims_of(name, Path(root))
            verdicts = ", ".join(claim["verdict"] for claim in claims)
            print(f"{name}: {len(claims)} claims ({verdicts})", flush=True)
            if asked.do == "compare":
                wrong += differences(before[name], claims, name)
            else:
                before[name] = claims
                asked.file.write_text(json.dumps(before, indent=1))
    print("\n".join(wrong) if asked.do == "compare" else f"wrote {asked.file}")
    return 3 if wrong else 0


def every_name() -> list[str]:
    return [row["name"] for row in workbench("replicate", "list") if row["built"]] + list(STUDIES)


if __name__ == "__main__":
    sys.exit(main())
