"""How fast the workbench is beside TransformerLens, and beside the least work that gives the same numbers.

Ours, the baseline and the floor take turns in one process on one thread; times are processor seconds, medians over
rounds. *Floor* is plain torch (`benchmarks/floor/`) that computes exactly these numbers; *counted* is the time that the
multiply-adds no exact method avoids would take at the rate of matrix products measured in the same run. Run:

    make bench                      # or: python -m benchmarks.bench [--quick] [--json FILE] [--only NAME ...]
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")  # the baselines draw bars

JOBS = ("benchmarks.jobs_sweeps", "benchmarks.jobs_attribution", "benchmarks.jobs_pictures")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One job on one model. Times in processor seconds of the whole job; a share below 1 was run and scaled.

    Attributes:
        job, model: What, on what.
        baseline: Name of the baseline and which part of it was run.
        ours, theirs, floor, counted: Seconds; None where there is none.
        asked: What ratio was aimed at, in words.
        notes: Largest differences between the numbers and the like.
    """

    job: str
    model: str
    ours: float
    baseline: str = ""
    theirs: float | None = None
    floor: float | None = None
    counted: float | None = None
    asked: str = ""
    notes: str = ""
    command: str = ""
    seconds: dict[str, list[float]] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """How many times faster than the baseline."""
        return None if self.theirs is None else self.theirs / self.ours

    @property
    def over_floor(self) -> float | None:
        return None if self.floor is None else self.ours / self.floor

    @property
    def over_counted(self) -> float | None:
        return None if self.counted is None else self.ours / self.counted

    def to_dict(self) -> dict[str, Any]:
        ratios = {"ratio": self.ratio, "over_floor": self.over_floor, "over_counted": self.over_counted}
        return {**asdict(self), **ratios}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all jobs share: how many rounds, how much of the slow jobs, the measured rate of matrix products."""

    quick: bool
    rounds: int
    rate: float
    models: tuple[str, ...] = ()

    def counted(self, multiply_adds: float) -> float:
        """Seconds that so many multiply-adds take in matrix products."""
        return multiply_adds / self.rate


Job = Callable[[Settings], Iterator[Row]]


def jobs() -> dict[str, Job]:
    """Every registered job: a module's ``JOBS`` names generators of rows."""
    found: dict[str, Job] = {}
    for module in JOBS:
        if importlib.util.find_spec(module) is not None:
            found |= importlib.import_module(module).JOBS
    return found


def table(rows: list[Row]):
    """The rows as a table for the terminal."""
    from rich.table import Table

    made = Table(title="Processor seconds, one thread, medians of rounds taken in turns")
    heads = (
        "job",
        "model",
        "ours s",
        "baseline",
        "baseline s",
        "x faster",
        "floor s",
        "x floor",
        "counted s",
    )
    for head in (*heads, "x counted", "asked"):
        made.add_column(head, justify="right" if head.endswith(" s") or head.startswith("x ") else "left")
    for row in rows:
        cells = (row.ours, row.theirs, row.ratio, row.floor, row.over_floor, row.counted, row.over_counted)
        ours, theirs, ratio, floor, over, counted, over_counted = map(_number, cells)
        made.add_row(
            *(row.job, row.model, ours, row.baseline, theirs, ratio, floor, over, counted, over_counted),
            row.asked,
        )
    return made


def _number(x: float | None) -> str:
    return "" if x is None else f"{x:.3g}" if x < 1000 else f"{x:,.0f}"


def machine(rate: float) -> dict[str, Any]:
    """Where this was measured."""
    import torch
    import transformer_lens
    import transformers

    return {
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "transformer_lens": getattr(transformer_lens, "__version__", "4.3"),
        "threads": torch.get_num_threads(),
        "multiply_adds_per_second": rate,
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="smaller shares of the slow jobs, fewer rounds")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="jobs whose name holds one of these words")
    parser.add_argument(
        "--models", nargs="+", default=[], choices=("gpt2", "zoo", "llama"), help="all by default"
    )
    parser.add_argument("--rounds", type=int, help="rounds taken in turns (3; 1 with --quick)")
    parser.add_argument("--json", metavar="FILE")
    asked = parser.parse_args(arguments)
    known = jobs()
    if unknown := [word for word in asked.only or () if not any(word in name for name in known)]:
        parser.error(f"--only: no job's name holds {', '.join(unknown)}; the jobs are {', '.join(known)}")
    import torch
    from rich.console import Console

    from benchmarks.timing import product_rate

    torch.set_num_threads(1)
    rate = product_rate()
    rounds = asked.rounds or (1 if asked.quick else 3)
    settings = Settings(quick=asked.quick, rounds=rounds, rate=rate, models=tuple(asked.models))
    rows: list[Row] = []
    for name, job in known.items():
        if asked.only and not any(word in name for word in asked.only):
            continue
        for row in job(settings):
            rows.append(row)
            told = f"{row.ours:.3g} s, {_number(row.ratio)} x faster, {_number(row.over_floor)} x floor"
            print(f"{row.job} on {row.model}: {told}. {row.notes}", file=sys.stderr, flush=True)
            if asked.json:  # after every row: a bench that is stopped keeps what it has
                _write(asked.json, rate, asked.quick, rows)
    Console(width=200).print(table(rows))
    print(f"matrix products: {rate / 1e9:.1f}e9 multiply-adds a second")
    return 0


def _write(path: str, rate: float, quick: bool, rows: list[Row]) -> None:
    found = {"machine": machine(rate), "quick": quick, "rows": [row.to_dict() for row in rows]}
    with open(path, "w", encoding="utf-8") as out:
        json.dump(found, out, indent=2)


if __name__ == "__main__":
    sys.exit(main())
