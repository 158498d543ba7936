"""Memory of long prompts and of many pairs: what a process takes at most, with a budget and without.

    python -m benchmarks.bounds --json bounds.json

Each line is a process of its own, which opens a model of random weights, runs one job and reports its highest resident
memory. Long: GPT-2's shape on 2 pairs of 1,024 tokens. Many: 6 layers, d 256, on 32 and on 2,000 pairs of 16 tokens.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from pathlib import Path

SMALL = {"n_layer": 6, "n_head": 8, "n_embd": 256, "vocab_size": 5000}
SMALL_JOBS, LONG_JOBS = ("head ablation", "EAP", "EAP-IG"), ("head ablation", "EAP")
CASES = [
    *((job, 2, 1024, {}, budget) for job in LONG_JOBS for budget in (None, "4GB")),
    *((job, pairs, 16, SMALL, None) for job in SMALL_JOBS for pairs in (32, 2000)),
    *((job, 2000, 16, SMALL, "1GB") for job in SMALL_JOBS),
]


def one(job: str, pairs: int, tokens: int, size: dict, budget: str | None, out) -> None:
    """Run one job in this process and report its seconds and its memory in MB: before, at most, of which weights."""
    import torch

    from benchmarks import models
    from workbench.interventions.ablation import ablations, parts_of
    from workbench.methods.score import score
    from workbench.provenance import peak_memory_mb
    from workbench.sweep.room import keep_within
    from workbench.sweep.run import sweep

    torch.set_num_threads(1)
    runs = models.gpt2(pairs, tokens, **size).runs
    weights = sum(p.numel() * p.element_size() for p in runs.model.parameters()) / 1e6
    before = peak_memory_mb()
    if budget:
        runs.batch_tokens = keep_within(runs, budget, work="nodes" if job == "head ablation" else "edges")
    start = time.process_time()
    if job == "head ablation":
        heads = parts_of(runs.wiring, "heads")
        sweep(runs, ablations(heads if not tokens > 100 else heads[::36], "mean"), kind="ablation")
    else:
        score(runs, "eap" if job == "EAP" else "eap-ig")
    seconds = time.process_time() - start
    out.put({"seconds": seconds, "before MB": before, "peak MB": peak_memory_mb(), "weights MB": weights})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json")
    chosen = parser.parse_args()
    spawn, found = multiprocessing.get_context("spawn"), []
    for case in CASES:
        out = spawn.Queue()
        worker = spawn.Process(target=one, args=(*case, out))
        worker.start()
        worker.join()
        job, pairs, tokens, size, budget = case
        made = {"job": job, "pairs": pairs, "tokens": tokens, "small": bool(size), "budget": budget}
        made |= {"failed": worker.exitcode} if worker.exitcode else out.get()
        found.append(made)
        print(
            ", ".join(f"{k} {v:,.0f}" if isinstance(v, float) else f"{k} {v}" for k, v in made.items()),
            flush=True,
        )
        if chosen.json:
            Path(chosen.json).write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
