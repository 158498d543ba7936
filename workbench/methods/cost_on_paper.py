"""What circuits cost on paper: ``python -m workbench.methods.cost_on_paper --write`` puts tables on ``docs/scale.md``.

The same cost model as ``--dry-run``: ``workbench/engine/cost.py`` for sweeps,
``workbench/engine/generation_cost.py`` for keys and values, the registry's ``cost`` of each method for searches,
``Outline.flop`` for a pass.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from workbench.circuits.files.markdown import replace_part
from workbench.circuits.graph import Graph
from workbench.core.errors import ModelError
from workbench.engine.cost import sweep_gflop
from workbench.engine.generation_cost import INTENSITY, generation_cost
from workbench.methods.registry import get_method
from workbench.model.outline import Outline

PAGE = Path("docs") / "scale.md"  # in a checkout
BEGIN, END = "<!-- tables: python -m workbench.methods.cost_on_paper --write -->", "<!-- end of tables -->"
PAIRS, TOKENS, STEPS = 64, 16, 5
PROMPT, GENERATED, BUDGET = 1_000, (1_000, 10_000), 1_024  # of generated text


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """What computes: the share of its peak that long matrix products keep is assumed, and stated."""

    name: str
    tflops: float
    share: float
    gb: float

    @property
    def rate(self) -> float:
        """Operations a second."""
        return self.tflops * 1e12 * self.share


HARDWARE = (
    Hardware(name="1 CPU core, float32", tflops=0.05, share=0.4, gb=64),
    Hardware(name="A100 80 GB, bfloat16", tflops=312, share=0.4, gb=80),
    Hardware(name="H100 80 GB, bfloat16", tflops=989, share=0.4, gb=80),
)


def llama(name: str, layers: int, heads: int, d_model: int, d_mlp: int, d_vocab: int = 128_256) -> Outline:
    """Return a Llama 3 model from its published shape: 8 key/value heads of 128, three matrices in each MLP."""
    blocks = layers * (2 * d_model * heads * 128 + 2 * d_model * 8 * 128 + 3 * d_model * d_mlp)
    return Outline(
        name=name,
        n_layers=layers,
        n_heads=heads,
        n_kv_heads=8,
        d_model=d_model,
        n_parameters=blocks + (2 * layers + 1) * d_model + 2 * d_vocab * d_model,
        attn_only=False,
        parallel=False,
        head_writes=True,
        n_block_parameters=blocks,
        d_head=128,
        d_vocab=d_vocab,
    )


def gpt2_small() -> Outline:
    """GPT-2 small from its published shape: four d x d matrices of attention, two of d x 4d in each MLP."""
    blocks = 12 * 12 * 768**2
    small = 12 * (4 * 768 + 9 * 768) + 2 * 768 + 1024 * 768  # norms, biases, positions
    return Outline(
        name="GPT-2 small",
        n_layers=12,
        n_heads=12,
        n_kv_heads=12,
        d_model=768,
        n_parameters=blocks + small + 50_257 * 768,
        attn_only=False,
        parallel=False,
        head_writes=True,
        n_block_parameters=blocks,
        d_head=64,
        d_vocab=50_257,
    )


def models() -> tuple[Outline, ...]:
    """Return the three models of the page."""
    return (
        gpt2_small(),
        llama("Llama-3-8B", 32, 32, 4096, 14_336),
        llama("Llama-3-70B", 80, 64, 8192, 28_672),
    )


@dataclass(frozen=True, kw_only=True)
class PaperJob:
    """One job on one model: prompt passes forward and backward, operations, memory beside the weights."""

    name: str
    forward: float
    backward: float
    flop: float
    bytes: float


def _known(count: float | None) -> float:
    """A count that these models have, whose shapes are published in full."""
    if count is None:
        raise ModelError(
            "the shape of a model on paper lacks its size", hint="give the number: n_parameters=124_000_000"
        )
    return count


def _flop(model: Outline, tokens: int, layers: int | None = None) -> float:
    return _known(model.flop(tokens, layers))


def head_sweep(model: Outline, *, pairs: int = PAIRS, tokens: int = TOKENS) -> PaperJob:
    """Return every head ablated: passes that start at its layer."""
    first = [layer for layer in range(model.n_layers) for _ in range(model.n_heads)]
    passes = 4 + sum((model.n_layers - layer) / model.n_layers for layer in first)
    stream = (model.n_layers + 1) * pairs * tokens * model.d_model
    return PaperJob(
        name="ablation of every head",
        forward=passes * pairs,
        backward=0,
        flop=1e9 * _known(sweep_gflop(model, first, [tokens] * pairs)),
        bytes=4.0 * (stream + 8192 * 12 * model.d_model),
    )


def eap_ig(model: Outline, *, pairs: int = PAIRS, tokens: int = TOKENS, steps: int = STEPS) -> PaperJob:
    """Return passes forward and back, and one product of differences with gradients for all edges of each prompt.

    Back through frozen weights is one product for each forward one (two within attention).
    """
    graph = Graph(model.shape("edge"))
    method = get_method("eap-ig")
    cost = method.cost(method.make_options(steps=steps), graph, "edge")
    n, m = len(graph.sources), len(graph.targets)
    edges = 2.0 * tokens * graph.n_edges * model.d_model
    written = 2.0 * tokens * (n + m) * (model.d_head or 1) * model.d_model
    passes = cost.forward + cost.backward
    return PaperJob(
        name=f"EAP-IG, {steps} steps, all edges",
        forward=cost.forward * pairs,
        backward=cost.backward * pairs,
        flop=pairs * (passes * _flop(model, tokens) + edges + written),
        bytes=4.0 * (tokens * n * model.d_model + n * m),
    )


def acdc(model: Outline, *, pairs: int = PAIRS, tokens: int = TOKENS) -> PaperJob:
    """Return every edge tested once: a pass that starts at its target's layer."""
    graph = Graph(model.shape("edge"))
    method = get_method("acdc")
    cost = method.cost(method.make_options(mode="sequential"), graph, "edge")
    last = model.n_layers
    flop, passes = (cost.forward - graph.n_edges) * _flop(model, tokens), float(cost.forward - graph.n_edges)
    for seen, target in zip(graph.n_visible, graph.targets, strict=True):
        layers = last - min(last - 1, last if target.layer is None else target.layer)
        flop += int(seen) * _flop(model, tokens, layers)
        passes += int(seen) * layers / last
    return PaperJob(
        name="ACDC, all edges, one threshold",
        forward=passes * pairs,
        backward=0,
        flop=pairs * flop,
        bytes=4.0 * pairs * tokens * len(graph.sources) * model.d_model,
    )


def generation_lines() -> list[str]:
    """Return the table of what it costs to generate text, line by line."""
    lines = [
        "",
        f"Generating text after a prompt of {PROMPT:,} tokens, one answer, in bfloat16. *Reads* are keys and values, "
        f"read again for every token; equivalent operations count {INTENSITY:g} operations for each byte "
        "(`generation_cost`). GPT-2's context is too short for it.",
        "",
        "| model | tokens generated | keys a token looks at | TFLOP | reads, GB | equivalent TFLOP | share of reads |",
        "|---|---|---|---|---|---|---|",
    ]
    for model in models()[1:]:
        for generated in GENERATED:
            for budget in (None, BUDGET):
                cost = generation_cost(model, prompt=PROMPT, generated=generated, budget=budget)
                lines.append(
                    f"| {model.name} | {generated:,} | {'all' if budget is None else f'at most {budget:,}'} "
                    f"| {cost.flop / 1e12:,.1f} | {cost.kv_bytes / 1e9:,.0f} | {cost.equivalent / 1e12:,.0f} "
                    f"| {cost.read_share:.2f} |"
                )
    return lines


def tables() -> str:
    """Return the tables of the page, in Markdown."""
    lines = [
        f"{PAIRS} pairs of {TOKENS} tokens. Hours are operations over the stated rate of one device: "
        + "; ".join(f"{h.name}: {h.tflops:g} TFLOP/s x {h.share:.0%}" for h in HARDWARE)
        + ".",
        "",
        "| model | parameters | weights in bfloat16 | heads | edges |",
        "|---|---|---|---|---|",
    ]
    for model in models():
        graph, n = Graph(model.shape("edge")), _known(model.n_parameters)
        lines.append(
            f"| {model.name} | {n / 1e9:.2f} x 10^9 | {2 * n / 1e9:.1f} GB "
            f"| {model.n_layers * model.n_heads:,} | {graph.n_edges:,} |"
        )
    head = ["model", "job", "passes forward", "passes back", "TFLOP", "GB beside the weights"]
    head += [f"hours on {h.name.split(',')[0]}" for h in HARDWARE]
    lines += ["", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for model in models():
        for job in (head_sweep(model), eap_ig(model), acdc(model)):
            hours = [f"{job.flop / h.rate / 3600:,.2g}" for h in HARDWARE]
            lines.append(
                f"| {model.name} | {job.name} | {job.forward:,.0f} | {job.backward:,.0f} | {job.flop / 1e12:,.1f} "
                f"| {job.bytes / 1e9:.2f} | {' | '.join(hours)} |"
            )
    return "\n".join([*lines, *generation_lines()])


def write(page: Path = PAGE) -> Path:
    """Put the tables between their marks on the page."""
    return replace_part(page, BEGIN, END, f"\n{tables()}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What circuits of models cost on paper.")
    parser.add_argument("--write", action="store_true", help="put the tables on docs/scale.md")
    asked = parser.parse_args()
    print(write() if asked.write else tables())
