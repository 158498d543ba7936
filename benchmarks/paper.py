"""The cost model against measured runs: operations that torch counts, rows that pass through attention, time.

    python -m benchmarks.paper zoo:ioi            # a minute
    python -m benchmarks.paper gpt2-shape         # random weights; some minutes on one core

Prints a table in Markdown for docs/scale.md.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

import workbench as wb
from workbench.engine.interventions.ablation import ablations, parts_of
from workbench.engine.sweep import sweep
from workbench.methods.cost_on_paper import acdc, eap_ig, head_sweep
from workbench.model.blocks import Blocks
from workbench.model.outline import outline


def gpt2_shape(folder: Path) -> str:
    """A directory with GPT-2 small's shape, random weights and a tokenizer of a built-in model."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from workbench.model import builtin as zoo
    from workbench.model import tokenizers

    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config()).save_pretrained(folder)
    tokenizers.load_tokenizer(zoo.locate("zoo:ioi").directory).save_pretrained(folder)
    return str(folder)


def matmul_rate() -> float:
    """Operations a second of a matrix product of a pass's shape, float32, best of five."""
    a, b = torch.randn(512, 768), torch.randn(768, 3072)
    best = min(_seconds(lambda: a @ b) for _ in range(5))
    return 2 * 512 * 768 * 3072 / best


def _seconds(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class Operations(TorchDispatchMode):
    """Counts the operations of matrix products, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        count = flop_registry.get(function._overloadpacket)
        self.total += count(*args, **(kwargs or {}), out_val=out) if count else 0
        return out


def counted(runs, work) -> tuple[float, float, float]:
    """Operations, prompt passes (rows through attention over layers), seconds; run twice, so counting costs no time."""
    seconds = _seconds(work)
    rows: list[float] = []
    attention = type(
        runs.model.blocks[0].attn
    )  # patched in its class: a hook on the model would be seen and run
    plain, own = Blocks._attend, attention.forward

    def of_blocks(self, q, k, v, first):
        rows.append(len(q) * q.shape[1] / k.shape[1])
        return plain(self, q, k, v, first)

    def of_model(self, *args, **kwargs):
        out = own(self, *args, **kwargs)
        rows.append(len(out[0] if isinstance(out, tuple) else out))
        return out

    Blocks._attend, attention.forward = of_blocks, of_model
    try:
        with Operations() as counter:
            work()
    finally:
        Blocks._attend, attention.forward = plain, own
    return counter.total, sum(rows) / runs.wiring.n_layers, seconds


def main(name: str, pairs: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        model = gpt2_shape(Path(place)) if name == "gpt2-shape" else name
        shape = outline(model)
        bridge = wb.open_model(model)
        runs = wb.paired_runs(bridge, "ioi", n=pairs, split="train")
        tokens = len(runs.pairs.clean[0])
        jobs = [
            (head_sweep, lambda: sweep(fresh(), ablations(parts_of(runs.wiring, "heads")), kind="heads")),
            (eap_ig, lambda: wb.score(fresh(), "eap-ig", steps=5)),
        ]
        if name != "gpt2-shape":
            jobs.append((acdc, lambda: wb.score(fresh(), "acdc", mode="sequential")))

        def fresh():
            return wb.PairedRuns(bridge, runs.pairs, metric=runs.metric)

        rate = matmul_rate()
        print(f"{name}, {pairs} pairs of {tokens} tokens, {rate / 1e9:.1f} GFLOP/s in a matrix product\n")
        print("| job | passes on paper | counted | GFLOP on paper | counted | seconds on paper | measured |")
        print("|---|---|---|---|---|---|---|")
        for job, work in jobs:
            paper = job(shape, pairs=pairs, tokens=tokens)
            flop, passes, seconds = counted(runs, work)
            print(
                f"| {paper.name} | {paper.forward:.0f} | {passes:.0f} | {paper.flop / 1e9:.2f} | {flop / 1e9:.2f} "
                f"| {paper.flop / rate:.1f} | {seconds:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 64)
