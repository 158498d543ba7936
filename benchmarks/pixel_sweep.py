"""Time the sweep of every head behind a picture: `zoo:vlm` on 128 questions, one core, the model opened before.

Beside it a naive loop (one forward pass of transformers for each head, all questions at once, pixels each time), on as
many heads as ``--naive`` says, scaled up. ``python -m benchmarks.pixel_sweep`` prints one row for each.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

import workbench as wb
from workbench.engine.paired_runs import PairedRuns


def seconds(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


@torch.no_grad()
def naive(runs: PairedRuns, n: int) -> float:
    """Seconds that a loop over all heads takes, from ``n`` of them: the whole model with a hook, pictures included."""
    batch = runs.batches[0]
    prompt = batch.prompt("clean")
    pixels = prompt.extras["pixel_values"]
    project = runs.model.original_model.model.language_model.layers
    width = runs.wiring.d_head

    def one(layer: int, head: int) -> None:
        def off(module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            z = args[0].clone()
            z[..., head * width : (head + 1) * width] = 0
            return (z, *args[1:])

        handle = project[layer].self_attn.o_proj.register_forward_pre_hook(off)
        runs.model(prompt.ids, pixel_values=pixels)
        handle.remove()

    heads = [(layer, head) for layer in range(runs.wiring.n_layers) for head in range(runs.wiring.n_heads)]
    chosen = heads[:: max(1, len(heads) // n)][:n]
    spent = seconds(lambda: [one(*head) for head in chosen])
    return spent * len(heads) / len(chosen) * runs.n_pairs / len(batch)


def main() -> None:
    """Print times."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--model", default="zoo:vlm")
    asked.add_argument("--task", default="scene-attributes")
    asked.add_argument("--questions", type=int, default=128)
    asked.add_argument("--naive", type=int, default=4)
    given = asked.parse_args()
    torch.set_num_threads(1)
    model = wb.open_model(given.model)
    runs = wb.paired_runs(model, given.task, n=given.questions)
    parts = ["heads", *(f"{tower}:heads" for tower in runs.wiring.towers)]
    for part in parts:
        fresh = wb.paired_runs(model, runs.pairs)
        spent = seconds(lambda fresh=fresh, part=part: wb.ablate(fresh, part))
        print(f"{given.model}  {part:14}  {runs.n_pairs} questions  {spent:6.2f} s")
    print(
        f"{given.model}  naive loop over heads, from {given.naive} of them: {naive(runs, given.naive):6.2f} s"
    )


if __name__ == "__main__":
    main()
