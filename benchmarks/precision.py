"""bfloat16 and torch.compile beside what the workbench does by default: time, and how far the numbers move.

    python -m benchmarks.precision

Processor seconds on one thread, medians of rounds taken in turns. Half precision runs a sweep of all heads on the
hooked model (plain blocks refuse it: rounding hides a difference), so the hooked model in float32 stands beside it.
Compiled is one plain block on 2,048 tokens, the size that sweeps run at.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time

import numpy as np
import torch

from benchmarks.models import SHAPES, Shape, gpt2
from benchmarks.timing import in_turns


def halves(shape: Shape, rounds: int) -> dict:
    """A mean ablation of all heads in float32 and in bfloat16, both by the hooked model."""
    import workbench.engine.sweep as engine
    from workbench.engine.interventions.ablation import ablations, parts_of
    from workbench.engine.paired_runs import PairedRuns
    from workbench.model.bare import Modules

    rows = ablations(parts_of(shape.runs.wiring, "heads"), "mean")
    models = {"float32": shape.runs.model, "bfloat16": copy.deepcopy(shape.runs.model).to(torch.bfloat16)}
    found = {}

    def measured(name: str) -> None:
        found[name] = engine.sweep(PairedRuns(models[name], shape.runs.pairs), rows, kind="ablation")

    def hooked() -> None:
        are_bare, Modules.are_bare = Modules.are_bare, lambda modules: False
        try:
            measured("float32")
        finally:
            Modules.are_bare = are_bare

    seconds = in_turns({"float32": hooked, "bfloat16": lambda: measured("bfloat16")}, rounds)
    effects = {name: table.patched - table.base for name, table in found.items()}
    error = np.abs(effects["bfloat16"] - effects["float32"])
    order = {name: np.argsort(-np.abs(e.mean(1))) for name, e in effects.items()}
    top = set(order["float32"][:10].tolist()) & set(order["bfloat16"][:10].tolist())
    return {
        "model": shape.about,
        "float32 s": statistics.median(seconds["float32"]),
        "bfloat16 s": statistics.median(seconds["bfloat16"]),
        "largest change of an effect": float(error.max()),
        "largest effect": float(np.abs(effects["float32"]).max()),
        "same among the ten largest": len(top),
    }


def compiled(shape: Shape, rounds: int) -> dict:
    """One plain block on 2,048 tokens, as it is and through torch.compile."""
    from workbench.engine.paired_runs import PairedRuns
    from workbench.engine.restart import CHUNK_TOKENS, plainly

    runs = PairedRuns(shape.runs.model, shape.runs.pairs)
    blocks = plainly(runs, runs.batches[0])
    if isinstance(blocks, str):
        raise SystemExit(f"{shape.about} is not computed by plain blocks: {blocks}")
    length, wide = runs.batches[0].n_tokens, shape.runs.model.cfg.d_model
    x = torch.randn(CHUNK_TOKENS // length, length, wide)
    with torch.no_grad():
        start = time.perf_counter()
        fast = torch.compile(lambda x: blocks.run(1, x))
        error = float((fast(x.clone()) - blocks.run(1, x.clone())).abs().max())
        making = time.perf_counter() - start
        work = {"as it is": lambda: blocks.run(1, x.clone()), "compiled": lambda: fast(x.clone())}
        seconds = in_turns(work, 4 * rounds)
    return {
        "model": shape.about,
        "as it is ms": 1e3 * statistics.median(seconds["as it is"]),
        "compiled ms": 1e3 * statistics.median(seconds["compiled"]),
        "clock seconds to compile one block": making,
        "largest change": error,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    for make in (lambda: gpt2(8, 16, n_layer=4, n_head=12, n_embd=768, vocab_size=5000), SHAPES["llama"]):
        for row in (halves(make(), rounds), compiled(make(), rounds)):
            print(
                ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k}: {v}" for k, v in row.items()),
                flush=True,
            )


if __name__ == "__main__":
    main()
