"""ACDC in batches of guesses against one full forward pass per tested edge: the same decisions, how much sooner.

Both in one process, after a warm-up. The plain loop stands for the published procedure: every edge is tested, each
in a forward pass of its own over all pairs through the hooked model, from the first layer, with reference outputs
computed once. Run:

    OMP_NUM_THREADS=1 python -m benchmarks.acdc_speed [--model zoo:ioi] [--task ioi] [--n 8] [--tau 0.3] [--json OUT]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

import workbench as wb
from workbench.engine.edges import EdgeEditor
from workbench.engine.paired_runs import PairedRuns
from workbench.engine.sides import sides_of
from workbench.engine.source_outputs import source_outputs


def plain_loop(runs: PairedRuns, tau: float, order: Sequence[tuple[int, ...]] | None = None) -> np.ndarray:
    """``(source, target)`` damages, every edge tested by a pass from the first layer.

    Args:
        order: Places of all edges in the order in which they are tested; by default ours.
    """
    graph = runs.wiring.graph()
    targets = reversed(range(len(graph.targets)))
    ours = [(i, j) for j in targets for i in reversed(range(int(graph.n_visible[j])))]
    references = [source_outputs(runs, batch, "corrupted", graph) for batch in runs.batches]

    def metric(removed: np.ndarray) -> float:
        mask = torch.as_tensor(removed)[None]
        total = 0.0
        for batch, reference in zip(runs.batches, references, strict=True):
            hooks = EdgeEditor(sides_of(runs, graph)[0], mask, reference).hooks()
            with torch.no_grad():
                values = runs.values(batch, batch.clean, hooks, by_model=True)
            total += float(values.double().sum())
        return runs.metric.direction * total / runs.n_pairs

    removed = np.zeros_like(graph.edge_mask)
    damage = np.full(graph.edge_mask.shape, np.nan)
    current = metric(removed)
    for at in ours if order is None else order:
        removed[at] = True
        new = metric(removed)
        damage[at] = current - new
        removed[at] = current - new < tau
        current = new if removed[at] else current
    return damage


def timed(work: Callable[[], object]) -> tuple[object, float, float]:
    """Result, seconds by the clock and seconds of this process's processor."""
    clock, processor = time.perf_counter(), time.process_time()
    found = work()
    return found, time.perf_counter() - clock, time.process_time() - processor


def row(runs: PairedRuns, tau: float) -> dict:
    """One threshold: seconds, work and agreement of the batched search with the plain loop."""
    exists = runs.wiring.graph().edge_mask
    batched, b_seconds, b_cpu = timed(lambda: wb.score(runs, "acdc", tau=tau))
    plain, seconds, cpu = timed(lambda: plain_loop(runs, tau))
    kept = (batched.values >= tau)[exists]
    margin = abs(plain[exists] - tau)
    return {
        "tau": tau,
        "n": runs.n_pairs,
        "edges": int(exists.sum()),
        "kept": int(kept.sum()),
        "same decisions as the plain loop": int((kept == (plain >= tau)[exists]).sum()),
        "largest difference of damages": float(abs(batched.values - plain)[exists].max()),
        "closest decision": float(margin.min()),
        "tested": batched.options["tested"],
        "circuits run": batched.options["circuits_run"],
        "passes": batched.options["forward_passes"],
        "passes of the plain loop": (int(exists.sum()) + 1) * len(runs.batches),
        "seconds": {"plain": seconds, "batched": b_seconds},
        "processor seconds": {"plain": cpu, "batched": b_cpu},
        "times faster": seconds / b_seconds,
        "times less processor time": cpu / b_cpu,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="zoo:ioi")
    parser.add_argument("--task", default="ioi")
    parser.add_argument("--n", type=int, default=8)
    parser.add_argument("--metric")
    parser.add_argument("--tau", type=float, nargs="+", default=[0.3])
    parser.add_argument("--json")
    chosen = parser.parse_args()
    model = wb.open_model(chosen.model)
    runs = wb.paired_runs(model, chosen.task, n=chosen.n, metric=chosen.metric)
    wb.score(runs, "acdc", tau=1e9)  # warm up
    rows = [row(runs, tau) for tau in chosen.tau]
    for found in rows:
        print(json.dumps(found, indent=1))
    if chosen.json:
        with open(chosen.json, "w") as file:
            json.dump({"model": chosen.model, "task": chosen.task, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
