"""Time the sweep of every head behind a picture: `zoo:vlm` on 128 questions, one core, the model opened before.

Beside it a naive loop (one forward pass of transformers for each head, all questions at once, pixels each time), on as
many heads as ``--naive`` says, scaled up. ``python -m benchmarks.pixel_sweep`` prints one row for each.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

import workbench as wb
from workbench.engine.paired_runs import PairedRuns
from workbench.model.sight import reads_pictures_alone
from workbench.model.wiring import Wiring


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


class Products(TorchDispatchMode):
    """Count the multiply-adds of matrix products and convolutions inside.

    Torch's own ``FlopCounterMode`` puts hooks on every module, and a model with hooks of others is not run plainly.
    """

    total = 0.0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if (count := flop_registry.get(func._overloadpacket)) is not None:
            self.total += count(*args, **(kwargs or {}), out_val=out) / 2
        return out


def counted(work: Callable[[], object]) -> float:
    """Multiply-adds of all matrix products of one call, in 10^9, as torch counts them."""
    with Products() as products:
        work()
    return products.total / 1e9


def floor_of_tower(runs: PairedRuns, tower: str) -> float:
    """Multiply-adds that no exact ablation of all heads of a tower can do without, in 10^9.

    Both runs once; for each head its change and the MLP of its layer, the later layers of the tower, and the language
    model behind it, whose last layer is needed at the last position alone. Projectors and embeddings are left out.
    """
    seen, says = runs.wiring.of(tower), runs.wiring
    places = runs.batches[0].prompt("clean")
    n_seen = len(
        runs.activations(runs.batches[0], "clean", [f"{seen.prefix}.0.hook_in"])[f"{seen.prefix}.0.hook_in"][
            0
        ]
    )
    layer, mlp = _layer(seen, n_seen, gates=2), 2 * seen.d_model * seen.d_mlp * n_seen
    length = places.shape[1]
    kv = 2 * says.d_model * says.n_kv_heads * says.d_head * length
    last = kv + _layer(says, length, gates=3) / length - kv / length
    behind = (says.n_layers - 1) * _layer(says, length, gates=3) + last
    total = 2 * (seen.n_layers * layer + behind)
    for number in range(seen.n_layers):
        later = (seen.n_layers - 1 - number) * layer + behind
        total += seen.n_heads * (n_seen * seen.d_model * seen.d_head + mlp + later)
    return runs.n_pairs * total / 1e9


def floor_alone(runs: PairedRuns, *, whole: bool) -> float:
    """Multiply-adds that no exact ablation of all heads of a model for pictures alone can do without, in 10^9.

    Args:
        whole: Count its last layer at all positions, as transformers runs it; else at the class token alone, which is
            all that is read.
    """
    own, length = runs.wiring, runs.batches[0].n_tokens
    layer, read = _layer(own, length, gates=2), length if whole else 1
    kv = 2 * own.d_model * own.n_kv_heads * own.d_head
    last = length * kv + read * (layer / length - kv)
    total = 2 * ((own.n_layers - 1) * layer + last)
    for number in range(own.n_layers):
        end = number == own.n_layers - 1
        later = 0.0 if end else (own.n_layers - 2 - number) * layer + last
        changed = (read if end else length) * (own.d_model * own.d_head + 2 * own.d_model * own.d_mlp)
        total += own.n_heads * (changed + later)
    return runs.n_pairs * total / 1e9


def _layer(stack: Wiring, length: int, *, gates: int) -> float:
    """Multiply-adds of one whole layer on one prompt.

    Args:
        gates: Matrices of the MLP.
    """
    inner, kv = stack.n_heads * stack.d_head, 2 * stack.n_kv_heads * stack.d_head
    weights = stack.d_model * (2 * inner + kv) + gates * stack.d_model * stack.d_mlp
    return length * (weights + 2 * length * inner)


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
        if ":" in part:
            again, least = wb.paired_runs(model, runs.pairs), floor_of_tower(runs, part.split(":")[0])
            done = counted(lambda again=again, part=part: wb.ablate(again, part))
            print(
                f"  {done:.2f} of {least:.2f} thousand million multiply-adds: {done / least:.2f} x the floor"
            )
    if reads_pictures_alone(model):
        done = counted(lambda: wb.ablate(wb.paired_runs(model, runs.pairs), "heads"))
        for whole, what in ((True, "last layer whole"), (False, "last layer at the class token alone")):
            least = floor_alone(runs, whole=whole)
            print(f"  {done:.2f} of {least:.2f}: {done / least:.2f} x the floor, {what}")
        return
    print(
        f"{given.model}  naive loop over heads, from {given.naive} of them: {naive(runs, given.naive):6.2f} s"
    )


if __name__ == "__main__":
    main()
