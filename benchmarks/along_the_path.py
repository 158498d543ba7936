"""Why is EAP-IG nearer to exact effects than EAP on one model and further on the next? Every case, and the reason.

    OMP_NUM_THREADS=1 python -m benchmarks.along_the_path [-n 8] [--cases zoo:ioi/induction,...] [--docs PAGE]

Writes the tables between the marks of docs/gradients-along-the-path.md; about three minutes of one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from workbench.bench.cases import noisy_runs
from workbench.bench.settings import Settings, parse_task
from workbench.bench.table import short
from workbench.circuits.files.markdown import replace_part, table
from workbench.core.stats.agreement import pearson
from workbench.engine.of_task import paired_runs
from workbench.engine.paired_runs import PairedRuns
from workbench.evaluate.along_the_path import EAP_NAME, IG_NAME, AlongThePath, along_the_path
from workbench.model.known_circuits import load_truth
from workbench.model.open import open_model

CASES = (
    *(
        f"zoo:ioi/{task}"
        for task in ("ioi", "sva", "induction", "greater-than", "colored-objects", "docstring")
    ),
    "zoo:ioi/kv-retrieval",
    *(f"zoo:elimination/{task}" for task in ("ioi", "sva", "induction", "kv-retrieval")),
    "zoo:induction/induction",
    "zoo:kv/kv-retrieval",
    *(f"zoo:truth-{name}" for name in ("count", "brackets", "greater", "induction-rotated", "ioi")),
)
BEGIN, END = "<!-- along the path: begin -->", "<!-- along the path: end -->"
PAGE = Path("docs/gradients-along-the-path.md")


def runs_of(case: str, n: int) -> PairedRuns:
    """Runs of a known circuit with the bench's noise, or of a task's train split."""
    if case.startswith("zoo:truth-"):
        return noisy_runs(load_truth(case), Settings(n_truth=n))[0]
    task = parse_task(case)
    return paired_runs(open_model(task.model), task.task, n=n, split="train")


def rows(found: dict[str, AlongThePath]) -> Iterator[dict[str, Any]]:
    """One row per case: EAP, EAP-IG, what each change gives, and the reason that it speaks for."""
    for case, one in sorted(found.items(), key=lambda item: item[1].gain):
        yield {
            "case": short(case),
            "EAP": one.agrees(EAP_NAME),
            "EAP-IG": one.agrees(IG_NAME),
            "path of prompts": one.agrees("path of prompts"),
            "own lines": one.agrees("each part on its own line"),
            "EAP, patterns frozen": one.agrees("EAP, patterns frozen"),
            "EAP-IG, norms frozen": _if_there(one, "EAP-IG, norms frozen"),
            "EAP, both runs": one.agrees(EAP_NAME, both=True),
            "EAP-IG, both runs": one.agrees(IG_NAME, both=True),
            "effects of both runs": pearson(one.noising, one.denoising),
            "reason": one.reason,
        }


def _if_there(found: AlongThePath, name: str) -> float | None:
    return found.agrees(name) if name in found.scores else None


def places(found: dict[str, AlongThePath]) -> Iterator[dict[str, Any]]:
    """One row per case: correlation with exact effects of the gradient at each place of the line."""
    for case, one in sorted(found.items(), key=lambda item: item[1].gain):
        at = {name.split()[1]: one.agrees(name) for name in one.scores if name.endswith("of the line")}
        errors = one.error_by_kind(IG_NAME)
        worst = max(errors, key=lambda kind: errors[kind])
        yield {"case": short(case), **at, "error of EAP-IG": f"{worst} {errors[worst]:.0%}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=8)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--docs", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for case in asked.cases.split(","):
        found[case] = along_the_path(runs_of(case, asked.n))
        print(f"{case}: {found[case]!r}, {found[case].reason}", flush=True)
    n = f"{asked.n} pairs each, all edges, Pearson's correlation with exact effects in the clean run."
    parts = [
        n,
        table(list(rows(found))),
        "**The gradient at one place of the line**",
        table(list(places(found))),
    ]
    print("\n\n".join(parts))
    if asked.docs:
        replace_part(asked.docs, BEGIN, END, "\n\n".join(parts))


if __name__ == "__main__":
    main()
