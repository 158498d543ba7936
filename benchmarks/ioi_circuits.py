"""Faithfulness of circuits of several sizes by every method on the built-in IOI model, beside random circuits.

Scored on the train split, judged on the test split (held-out names and templates). Run:

    python -m benchmarks.ioi_circuits [--model zoo:ioi] [--task ioi] [--n 64] [--json OUT]
"""

from __future__ import annotations

import argparse
import json
import time

import workbench as wb
from workbench.engine.paired_runs import PairedRuns

SHARES = (0.01, 0.02, 0.05, 0.1)


def table(train: PairedRuns, test: PairedRuns, draws: int) -> list[dict]:
    """One row per method: seconds and passes of scoring, faithfulness at each share, CPR-style curve points."""
    rows = []
    for method in ("eap", "eap-ig", "exact"):
        start = time.perf_counter()
        scores = wb.score(train, method)
        seconds = time.perf_counter() - start
        curve = wb.faithfulness_curve(scores, test, shares=SHARES, random_draws=draws)
        rows.append(
            {"method": method, "seconds": round(seconds, 2), "passes": scores.passes, **curve.to_dict()}
        )
    return rows


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--model", default="zoo:ioi")
    arguments.add_argument("--task", default="ioi")
    arguments.add_argument("--n", type=int, default=64)
    arguments.add_argument("--draws", type=int, default=10)
    arguments.add_argument("--json")
    chosen = arguments.parse_args()
    model = wb.open_model(chosen.model)
    train, test = (wb.paired_runs(model, chosen.task, n=chosen.n, split=split) for split in ("train", "test"))
    rows = table(train, test, chosen.draws)
    print(
        f"{chosen.task} on {chosen.model}: n={test.n_pairs}, logit difference {test.clean.mean():.2f} clean, "
        f"{test.corrupted.mean():.2f} corrupted"
    )
    print("method   seconds  passes  " + "  ".join(f"{s:.0%} (edges; random)".ljust(24) for s in SHARES))
    for row in rows:
        points = [
            f"{p['faithfulness']:.3f} ± {p['stderr']:.3f} ({p['edges']}; {p['random_mean']:.3f})"
            for p in row["points"]
        ]
        print(
            f"{row['method']:8} {row['seconds']:7.2f}  {row['passes']:6d}  "
            + "  ".join(p.ljust(24) for p in points)
        )
    if chosen.json:
        with open(chosen.json, "w", encoding="utf-8") as out:
            json.dump(rows, out, indent=2)


if __name__ == "__main__":
    main()
