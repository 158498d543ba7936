"""Where the time of each job goes: matrix products, attention, norms, activations, the backward pass, the rest.

Times inside torch's functions come from a profile, the total from runs without one; what is left is Python and small
operations. The unembedding is counted by itself. Run:

    OMP_NUM_THREADS=1 python -m benchmarks.shares [--models zoo gpt2] [--rounds 3]

Prints tables in Markdown for docs/performance.md.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import torch

from benchmarks.models import SHAPES, Shape, gpt2
from workbench.engine.interventions.ablation import ablations, parts_of
from workbench.engine.paired_runs import PairedRuns
from workbench.engine.sweep import sweep
from workbench.methods.by_name import score

KINDS = {
    "matrix products": ("addmm", "linear", ".mm", "bmm", "baddbmm", "einsum", "matmul"),
    "attention": ("scaled_dot_product_attention", "softmax"),
    "norms": ("layer_norm", "rms_norm"),
    "activations": ("gelu", "relu", "silu", "tanh"),
    "backward pass": ("run_backward",),
}
STEPS = {
    "import torch": "import torch",
    "import transformer_lens": "import torch, transformer_lens",
    "open zoo:ioi": "import workbench as wb; wb.open_model('zoo:ioi')",
}


def kind_of(function: str) -> str | None:
    """The kind of work of one of torch's own functions."""
    names = [kind for kind, words in KINDS.items() if any(word in function for word in words)]
    return names[0] if names else None


def shares(work: Callable[[], object], rounds: int) -> dict[str, float]:
    """Processor seconds of a piece of work in all, and of each kind of work in it."""
    work()
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    profile = cProfile.Profile(time.process_time)
    profile.runcall(work)
    found = {"seconds": statistics.median(seconds)} | dict.fromkeys([*KINDS, "unembedding"], 0.0)
    for (file, _, function), (_, _, own, whole, _) in pstats.Stats(profile).stats.items():
        if function == "read_out":
            found["unembedding"] += whole
        elif file == "~" and (kind := kind_of(function)):
            found[kind] += own
    found["matrix products"] -= found["unembedding"]  # which is hardly anything else
    return found | {
        "the rest": max(0.0, found["seconds"] - sum(v for k, v in found.items() if k != "seconds"))
    }


def jobs(shape: Shape, rounds: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Each job on a model, with its shares."""
    from benchmarks.jobs_attribution import TAU
    from benchmarks.jobs_sweeps import random_circuit
    from workbench.evaluate.faithfulness import faithfulness

    def fresh(of: Shape = shape) -> PairedRuns:
        return PairedRuns(of.runs.model, of.runs.pairs)

    heads = ablations(parts_of(shape.runs.wiring, "heads"), "mean")
    heads = heads[:: len(shape.plain.layers)] if shape.name == "gpt2" else heads
    small = gpt2(8, 12, n_layer=4, n_head=4, n_embd=128, vocab_size=1000)
    circuit = random_circuit(shape, 0.05)[0]
    yield (
        f"mean ablation of {len(heads)} heads",
        shares(lambda: sweep(fresh(), heads, kind="ablation"), rounds),
    )
    yield "EAP", shares(lambda: score(fresh(), "eap"), rounds)
    yield "EAP-IG, 5 steps", shares(lambda: score(fresh(), "eap-ig"), rounds)
    yield "faithfulness of one circuit", shares(lambda: faithfulness(circuit, fresh()), rounds)
    if shape.name != "gpt2":
        yield f"ACDC, {small.about}", shares(lambda: score(fresh(small), "acdc", tau=TAU), rounds)


def starting() -> Iterator[tuple[str, float]]:
    """Seconds by the clock of a process that only imports, or only opens a model."""
    for name, code in STEPS.items():
        found = []
        for _ in range(3):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
            found.append(time.perf_counter() - start)
        yield name, statistics.median(found)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["zoo", "gpt2"], choices=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    columns = [*KINDS, "unembedding", "the rest"]
    for name in chosen.models:
        shape = SHAPES[name]()
        print(f"\n{shape.about}, percent of the processor time\n\n| job | seconds | {' | '.join(columns)} |")
        print("|---" * (2 + len(columns)) + "|")
        for job, found in jobs(shape, chosen.rounds):
            percent = " | ".join(f"{100 * found[c] / found['seconds']:.0f}" for c in columns)
            print(f"| {job} | {found['seconds']:.2f} | {percent} |", flush=True)
    print("\n| a process of its own | seconds by the clock |\n|---|---|")
    for name, seconds in starting():
        print(f"| {name} | {seconds:.1f} |")


if __name__ == "__main__":
    main()
