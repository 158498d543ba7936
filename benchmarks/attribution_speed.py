"""Time and memory of the attribution methods on a model of GPT-2 small's shape, beside a plain forward and backward.

Random weights, 32 pairs of 16 tokens; each method in a process of its own, so that its peak memory is its own. Run:

    OMP_NUM_THREADS=1 python -m benchmarks.attribution_speed [--repeats 3] [eap eap-ig ...]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time

from workbench.core.run_record import peak_memory_mb

PAIRS, TOKENS = 32, 16


def build_runs():
    """The model and its pairs, opened as a user's model would be."""
    import numpy as np
    import torch
    import transformers

    from workbench.engine.paired_runs import PairedRuns
    from workbench.model.open import open_model
    from workbench.tasks.alignment import AlignedPairs
    from workbench.tasks.pairs import Pair, Pairs

    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(attn_implementation="eager")).eval()
    draw = np.random.default_rng(0)
    clean = draw.integers(0, 50257, (PAIRS, TOKENS))
    corrupted = np.where(draw.random(clean.shape) < 0.3, draw.integers(0, 50257, clean.shape), clean)
    answers = draw.permutation(50257)[: 2 * PAIRS].reshape(PAIRS, 2)
    pairs = Pairs(
        items=tuple(
            Pair(
                id=f"pair-{i}",
                clean=f"clean {i}",
                corrupted=f"corrupted {i}",
                correct=(" a",),
                incorrect=(" b",),
            )
            for i in range(PAIRS)
        ),
        task="random",
    )
    aligned = AlignedPairs(
        pairs=pairs,
        clean=tuple(clean),
        corrupted=tuple(corrupted),
        correct=tuple((int(a),) for a, _ in answers),
        incorrect=tuple((int(b),) for _, b in answers),
        positions=tuple({"end": TOKENS - 1} for _ in range(PAIRS)),
        dropped=(),
        prepend_bos=False,
    )
    return PairedRuns(open_model(model), aligned)


def plain(runs) -> None:
    """One forward pass with its backward pass to the input, through the bridge, without any method."""
    import torch

    batch = runs.batches[0]

    def leaf(tensor, hook):
        return tensor.detach().requires_grad_(True)

    with torch.enable_grad(), runs.model.hooks(fwd_hooks=[("blocks.0.hook_in", leaf)]):
        runs.measure(batch, runs.output(batch, batch.clean)).sum().backward()


def timed(work, repeats: int) -> float:
    """Processor seconds of the fastest of some repeats: with one thread, time that others cannot disturb."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def _peak() -> float:
    """Most memory this process ever had, in GB."""
    return peak_memory_mb() / 1000


def measure(method: str, level: str, repeats: int, out) -> None:
    """One method in this process: seconds, ratio to the plain pass, peak memory."""
    from workbench.methods.by_name import score

    runs = build_runs()
    runs.model.requires_grad_(False)
    reference = timed(lambda: plain(runs), repeats + 1)
    before = _peak()
    seconds = timed(lambda: score(runs, method, level=level), repeats)
    out.put((method, level, seconds, seconds / reference, reference, before, _peak()))


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("methods", nargs="*", default=["eap", "eap-ig", "attribution-patching"])
    arguments.add_argument("--repeats", type=int, default=3)
    chosen = arguments.parse_args()
    print(f"{PAIRS} pairs of {TOKENS} tokens, {os.environ.get('OMP_NUM_THREADS', 'all')} threads")
    print("method                  level    seconds   x plain (fwd+bwd)   plain s   peak GB (before)")
    spawn = multiprocessing.get_context("spawn")
    for method in chosen.methods:
        from workbench.methods.registry import get_method

        out = spawn.Queue()
        worker = spawn.Process(
            target=measure, args=(method, get_method(method).levels[0], chosen.repeats, out)
        )
        worker.start()
        name, level, seconds, ratio, reference, before, peak = out.get()
        worker.join()
        print(
            f"{name:23} {level:8} {seconds:7.2f}   {ratio:17.2f}   {reference:7.2f}   {peak:7.2f} ({before:.2f})"
        )


if __name__ == "__main__":
    main()
