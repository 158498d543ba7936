"""Recipes of models that were trained to use a circuit chosen beforehand, and what is measured on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from workbench.circuits.addresses import parse_edge
from workbench.engine.edges import edited_output
from workbench.engine.paired_runs import PairedRuns
from workbench.methods.by_name import score
from workbench.tasks.pairs import Pairs
from workbench.tasks.registry import make_pairs
from workbench.training.interchange import (
    Algorithm,
    Curriculum,
    Exchangeable,
    NetworkSizes,
    outside_edges,
    train_by_interchange,
)
from workbench.training.recipe import CardNumber, Trained, TrainingRecipe
from workbench.training.truth_circuit import METRIC, true_circuit
from workbench.training.truth_recipe import N, accuracy, attention, task_words
from workbench.training.vocabulary import word_tokenizer

TRAINED = "trained by strict interchange"


def trained_recipe(
    name: str,
    algorithm: Algorithm,
    *,
    sizes: NetworkSizes,
    curriculum: Curriculum,
    task: str,
    title: str,
    what: str,
    says: str,
    roles: Mapping[str, str],
    sharpness: str,
    held_out: str,
    corruption: str = "unrelated",
) -> TrainingRecipe:
    """Return a recipe that trains a model to do an algorithm through its edges, and measures how far it does.

    Args:
        says: The algorithm in a line.
        roles: Node -> what it does, for nodes in the circuit.
    """

    def train(seed: int, scratch: Path | None = None) -> Trained:
        model = Exchangeable(sizes, seed=seed)
        checkpoint = None if scratch is None else scratch / f"{name}.pt"
        phase = train_by_interchange(
            model, algorithm, curriculum=curriculum, seed=seed, checkpoint=checkpoint
        )
        nodes = [str(node) for node in model.graph.sources]
        circuit = true_circuit(
            name,
            model.graph.shape,
            task=task,
            content=algorithm.content,
            supporting=algorithm.supporting,
            roles=roles,
            idle={node: "trained to change nothing" for node in nodes if node not in roles},
            algorithm=says,
            norm="LayerNorm",
            sharpness=sharpness,
            corruption=corruption,
            about="Trained, not compiled: edges outside the circuit do a little.",
            method=TRAINED,
        )
        return Trained(
            tokenizer=word_tokenizer(task_words(task)),
            phases={"interchange": phase},
            native=(sizes.config(), model.native()),
            circuit=circuit,
            data={"seconds of one core, interchange": phase.core_seconds},
        )

    def measure(model: TransformerBridge) -> list[CardNumber]:
        pairs = make_pairs(task, n=N, seed=1, split="test", corruption=corruption)
        looks = [attention(model, pairs, node) for node in sorted(roles) if ".h" in node]
        return [*measured_circuit(model, pairs, algorithm), *looks]

    return TrainingRecipe(
        name=name,
        title=title,
        what=f"Trained by strict interchange, not compiled. {what} The circuit is in circuit.json.",
        train=train,
        measure=measure,
        held_out={task: held_out},
        limits=("any other text", "edge-level hooks of TransformerLens, which native models lack"),
        source="strict interchange training: Gupta et al. 2024, arXiv:2407.14494",
    )


def measured_circuit(model: TransformerBridge, pairs: Pairs, algorithm: Algorithm) -> list[CardNumber]:
    """Measure the task, what exchanges do to its answers, and the exact effect of every edge.

    Returns:
        Accuracies of the task and of exchanges, and effects as shares of the gap between the clean and the corrupted
        metric.
    """
    runs = PairedRuns(model, pairs, metric=METRIC)
    graph, n = runs.wiring.graph(), len(pairs)
    outside = outside_edges(graph, algorithm.content)
    found = [CardNumber(name=str(pairs.task), value=accuracy(model, pairs), n=n, needs=0.99)]
    strict = exchanged(runs, outside, lambda base, source: algorithm.answer(base))
    name = "answers with every edge outside the circuit exchanged"
    found.append(CardNumber(name=name, value=strict, n=n, needs=0.99))
    for edge, swap in algorithm.swaps.items():
        mask = outside.copy()
        mask[graph.index(parse_edge(edge))] = True
        value = exchanged(runs, mask, swap)
        found.append(CardNumber(name=f"interchange, and {edge} too", value=value, n=n, needs=0.99))
    return found + exact_effects(runs, algorithm.content, algorithm.supporting)


@torch.no_grad()
def exchanged(runs: PairedRuns, mask: Bool[np.ndarray, "source target"], answers) -> float:
    """Return the share of pairs answered as the algorithm says when these edges carry the partner's content."""
    right, graph = 0, runs.wiring.graph()
    for batch in runs.batches:
        logits = edited_output(runs, batch, graph, torch.as_tensor(mask)[None])
        expected: Tensor = answers(batch.clean, batch.corrupted)
        right += int((logits.argmax(-1) == expected).sum())
    return right / runs.n_pairs


def exact_effects(runs: PairedRuns, content: Sequence[str], supporting: Sequence[str]) -> list[CardNumber]:
    """Say how far the circuit's edges stand out when each edge is exchanged by itself."""
    graph = runs.wiring.graph()
    gap = abs(float((runs.clean - runs.corrupted).mean()))
    size = np.abs(np.nan_to_num(score(runs, "exact", level="edge").values)) / gap
    inside = [float(size[graph.index(parse_edge(edge))]) for edge in content]
    others = graph.edge_mask.copy()
    for edge in (*content, *supporting):
        others[graph.index(parse_edge(edge))] = False
    most = np.sort(np.concatenate([inside, size[others]]))[::-1][: len(inside)]
    least, largest = (1e6 * float(value) for value in (min(inside), size[others].max()))
    n, unit = runs.n_pairs, "millionths of the gap"  # cards round to four digits
    return [
        CardNumber(name="smallest exact effect of an edge of the circuit", value=least, n=n, unit=unit),
        CardNumber(name="largest exact effect of another edge", value=largest, n=n, unit=unit),
        CardNumber(
            name="edges of the circuit among as many largest exact effects",
            value=float(np.mean([one >= most[-1] for one in inside])),
            n=len(inside),
            unit="share",
            needs=1.0,
        ),
    ]
