"""Memory of long prompts and of many pairs: what a process takes at most, with a budget and without.

    python -m benchmarks.bounds --json bounds.json

Each line is a process of its own, which opens a model of random weights, runs one job and reports its highest resident
memory beside what was counted for it. Long: GPT-2's shape on 2 pairs of 1,024 tokens, and 6 layers of Gemma 2's shape,
whose blocks are not plain. Many: 6 layers, d 256, on 32 and on 2,000 pairs of 16 tokens.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.engine.paired_runs import PairedRuns

SMALL = {"n_layer": 6, "n_head": 8, "n_embd": 256, "vocab_size": 5000}
SMALL_JOBS, LONG_JOBS = ("head ablation", "EAP", "EAP-IG"), ("head ablation", "EAP", "EAP-IG")
WINDOWED = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 6, "vocab_size": 5000} | {
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 32,
}
SHAPES = {0: "GPT-2", len(SMALL): "small", len(WINDOWED): "Gemma 2"}
CASES = [
    *((job, 2, 1024, {}, budget) for job in LONG_JOBS for budget in (None, "4GB")),
    *((job, 2, 1024, WINDOWED, None) for job in LONG_JOBS),
    *((job, pairs, 16, SMALL, None) for job in SMALL_JOBS for pairs in (32, 2000)),
    *((job, 2000, 16, SMALL, "1GB") for job in SMALL_JOBS),
]


def one(job: str, pairs: int, tokens: int, size: dict, budget: str | None, out) -> None:
    """Run one job in this process and report its seconds and its memory in MB: before, at most, of which weights."""
    import torch

    from benchmarks import models
    from workbench.core.run_record import peak_memory_mb
    from workbench.engine.interventions.ablation import ablations, parts_of
    from workbench.engine.room import activations, is_plain, keep_within
    from workbench.engine.sweep import sweep
    from workbench.methods.by_name import score
    from workbench.model.memory import resident_bytes
    from workbench.model.settings import parse_size

    torch.set_num_threads(1)
    runs = gemma2(pairs, tokens, **size) if "head_dim" in size else models.gpt2(pairs, tokens, **size).runs
    weights = sum(p.numel() * p.element_size() for p in runs.model.parameters()) / 1e6
    work = "nodes" if job == "head ablation" else "gradients"
    before, taken = peak_memory_mb(), resident_bytes("cpu")
    if budget:
        runs.batch_tokens = keep_within(runs, budget, work=work, by_model=False)
    plain = is_plain(runs, math.inf if budget is None else parse_size(budget) - taken)
    counted = activations(runs, work, plain=plain).bytes_of(runs.batch_tokens, tokens, pairs)
    start = time.process_time()
    if job == "head ablation":
        heads = parts_of(runs.wiring, "heads")
        sweep(runs, ablations(heads if not tokens > 100 else heads[::36], "mean"), kind="ablation")
    else:
        score(runs, "eap" if job == "EAP" else "eap-ig")
    seconds = time.process_time() - start
    found = {"seconds": seconds, "before MB": before, "peak MB": peak_memory_mb(), "weights MB": weights}
    out.put({**found, "counted MB": (taken + counted) / 1e6, "plain": plain})


def gemma2(pairs: int, tokens: int, **size: int) -> PairedRuns:
    """Random weights in the shape of a small Gemma 2: soft caps, so that its blocks are not plain."""
    import torch
    import transformers

    from benchmarks.models import random_pairs
    from workbench.engine.paired_runs import PairedRuns
    from workbench.model.open import open_model

    torch.manual_seed(0)
    config = transformers.Gemma2Config(**size, attn_implementation="eager")
    bridge = open_model(transformers.Gemma2ForCausalLM(config).eval())
    return PairedRuns(bridge, random_pairs(pairs, tokens, config.vocab_size))


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
        made = {"job": job, "pairs": pairs, "tokens": tokens, "shape": SHAPES[len(size)], "budget": budget}
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
