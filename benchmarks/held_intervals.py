"""Which intervals of measured papers do not hold their estimate: ``python -m benchmarks.held_intervals FOLDER``.

The folder is one of ``workbench replicate all``. It looks at every claim with an interval, at every condition and
number with one, and at every bar. An interval beside its estimate is most often a bootstrap of a statistic that noise
can only lower.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

ROUNDING = 1e-9
Estimate = tuple[str, float, float, float]


def estimates(findings: Mapping[str, Any]) -> Iterator[Estimate]:
    """Yield what has an interval in the file of a replication: a name, the estimate, and both ends.

    Example:
        >>> claim = {"claim": "they are alike", "found": 0.9986, "low": 0.992, "high": 0.998}
        >>> list(estimates({"claims": [claim], "tables": {}, "pictures": {}}))
        [('they are alike', 0.9986, 0.992, 0.998)]
    """
    for claim in findings["claims"]:
        apart = claim.get("difference")
        yield from _known(
            claim["claim"],
            claim.get("found") if apart is None else apart,
            claim.get("low"),
            claim.get("high"),
        )
    for caption, name, value in (("Conditions", "condition", "mean"), ("Numbers", "number", "value")):
        for row in findings["tables"].get(caption, []):
            yield from _known(row[name], row[value], row["low"], row["high"])
    for picture in findings["pictures"].values():
        for name, *numbers in (bar[:4] for bar in picture.get("bars", [])):
            yield from _known(name, *numbers)


def _known(name: str, *numbers: Any) -> Iterator[Estimate]:
    if len(numbers) == 3 and all(isinstance(x, int | float) and isfinite(x) for x in numbers):
        yield (name, *numbers)


def main(folder: Path) -> int:
    """Print every interval that does not hold its estimate, and how many there are of how many."""
    total = beside = 0
    for path in sorted(folder.rglob("replication.json")):
        for name, value, low, high in estimates(json.loads(path.read_text(encoding="utf-8"))):
            total += 1
            if not low - ROUNDING <= value <= high + ROUNDING:
                beside += 1
                print(f"{path.parent.name}: {name}: {value:.6g} is not in {low:.6g} to {high:.6g}")
    print(f"{beside} of {total} intervals do not hold their estimate")
    return 1 if beside else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
