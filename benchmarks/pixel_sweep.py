"""Time sweeps of all heads of models that see, beside the counted floor and beside a naive loop of hooks.

One core, models opened before, medians of rounds taken in turns. Ours is a resample ablation of every head; the naive
loop zeroes one head at a time by a hook on transformers' own output projection and runs the whole model, pictures
included, on as many heads as ``--naive`` says, scaled up. ``python -m benchmarks.pixel_sweep`` prints one row for each
tower and language model; ``make bench BENCH="--only pictures"`` has the same rows.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

import workbench as wb
from benchmarks.floor.towers import count_tower
from benchmarks.timing import in_turns
from workbench.engine.paired_runs import PairedRuns
from workbench.model.hooks import forward
from workbench.model.inner_towers import stack_of
from workbench.model.towers.parts import part

MODELS = {
    "zoo:marked": ("scene-marked", ("heads",)),
    "zoo:clip": ("scene-captions", ("vision:heads", "text:heads")),
    "zoo:vlm": ("scene-attributes", ("vision:heads", "heads")),
}
"""Built-in models that see: their task, and which heads are swept."""
_CPU = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


@dataclass(frozen=True, kw_only=True)
class Swept:
    """One sweep of all heads of one stack.

    Attributes:
        seconds: Of ours and of the naive loop, round by round; the loop on a share of the heads.
        share: Heads that the naive loop ran, of all.
        done, least: Multiply-adds of ours, and those that no exact sweep does without; None where none are counted.
    """

    model: str
    parts: str
    n: int
    seconds: dict[str, list[float]]
    share: float
    done: float
    least: float | None

    @property
    def ours(self) -> float:
        return statistics.median(self.seconds["ours"])

    @property
    def naive(self) -> float:
        return statistics.median(self.seconds["naive"]) / self.share

    def __str__(self) -> str:
        text = f"{self.model} {self.parts}, n = {self.n}: {self.ours:.2f} s, naive loop {self.naive:.2f} s"
        if self.least is None:
            return text
        counted = f"{self.done / 1e9:.2f} of {self.least / 1e9:.2f} thousand million multiply-adds"
        return f"{text}; {counted}: {self.done / self.least:.2f} x the floor"


class Products(TorchDispatchMode):
    """Count the multiply-adds of matrix products, convolutions and attention inside.

    Torch's own ``FlopCounterMode`` puts hooks on every module, and a model with hooks of others is not run plainly; and
    it passes over the attention that processors have in one piece.
    """

    total = 0.0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func._overloadpacket is _CPU:
            self.total += sdpa_flop_count(*(t.shape for t in args[:3])) / 2
        elif (count := flop_registry.get(func._overloadpacket)) is not None:
            self.total += count(*args, **(kwargs or {}), out_val=out) / 2
        return out


def counted(work: Callable[[], object]) -> float:
    """Multiply-adds of one call."""
    with Products() as products:
        work()
    return products.total


@torch.no_grad()
def naive(runs: PairedRuns, tower: str | None, share: int) -> float:
    """Zero one head in ``share`` after the other by a hook on transformers' own layer, the whole model each time.

    Returns:
        Heads that were run, of all.
    """
    seen, blocks = runs.wiring.of(tower), list(stack_of(runs.model, tower).blocks)
    heads = [(layer, head) for layer in range(seen.n_layers) for head in range(seen.n_heads)]
    for layer, head in heads[::share]:
        at = slice(head * seen.d_head, (head + 1) * seen.d_head)

        def off(module: torch.nn.Module, args: Any, at: slice = at) -> Any:
            z = args[0].clone()
            z[..., at] = 0
            return (z, *args[1:])

        handle = _output(blocks[layer]).register_forward_pre_hook(off)
        for batch in runs.batches:
            forward(runs.model, batch.prompt("clean"), last_only=False)
        handle.remove()
    return len(heads[::share]) / len(heads)


def _output(block: Any) -> torch.nn.Module:
    """The output projection of a layer, transformers' own."""
    layer = getattr(block, "layer", None)
    layer = block.original_component if layer is None else layer
    attn = part(layer, "attn")
    found = None if attn is None else part(attn, "o")
    assert found is not None
    return found


def swept(model: str, task: str, parts: str, n: int, rounds: int, share: int) -> Swept:
    """Measure one sweep."""
    opened = wb.open_model(model)
    pairs, tower = wb.paired_runs(opened, task, n=n).pairs, parts.split(":")[0] if ":" in parts else None
    runs = wb.paired_runs(opened, pairs)
    part_run: list[float] = []
    work = {
        "ours": lambda: wb.ablate(wb.paired_runs(opened, pairs), parts),
        "naive": lambda: part_run.append(naive(runs, tower, share)),
    }
    seconds = in_turns(work, rounds)
    sees = tower is not None or (runs.wiring.n_layers and not runs.wiring.causal)
    return Swept(
        model=model,
        parts=parts,
        n=runs.n_pairs,
        seconds=seconds,
        share=part_run[0],
        done=counted(work["ours"]),
        least=count_tower(runs, tower) if sees else None,
    )


def sweeps(n: int, rounds: int, share: int, models: tuple[str, ...] = ()) -> Iterator[Swept]:
    """Measure the sweeps of all models, or of these."""
    for model in models or tuple(MODELS):
        task, every = MODELS[model]
        for parts in every:
            yield swept(model, task, parts, n, rounds, share)


def main() -> None:
    """Print one row for each."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--models", nargs="+", choices=list(MODELS), default=[], help="all by default")
    asked.add_argument("--questions", type=int, default=128)
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--naive", type=int, default=4, help="the naive loop runs one head in so many")
    given = asked.parse_args()
    torch.set_num_threads(1)
    for row in sweeps(given.questions, given.rounds, given.naive, tuple(given.models)):
        print(row, flush=True)


if __name__ == "__main__":
    main()
