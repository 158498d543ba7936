"""Information flow routes: how much of what a part reads comes from each part before it. Clean prompts only."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.circuits.graph import Graph
from workbench.circuits.scores import Scores
from workbench.engine.paired_runs import Batch, PairedRuns
from workbench.engine.source_outputs import source_outputs
from workbench.methods.magnitude import sum_by_label
from workbench.methods.options.passes import InformationFlow
from workbench.methods.outcome import graph_of, result
from workbench.methods.registry import Level
from workbench.model.hooks import hook_name


def proximity(
    terms: Float[Tensor, "*where source d_model"], total: Float[Tensor, "*where d_model"]
) -> Float[Tensor, "*where source"]:
    """Return the share of each term in a sum: how much nearer to zero, in the 1-norm, the sum would be without it.

    ``importance(j) = max(|total|_1 - |total - term_j|_1, 0)``, divided by the sum over ``j``. A term that points
    against the sum has none; where no term has any, all shares are 0.

    Source:
        Ferrando and Voita 2024, arXiv:2403.00824.
    """
    length = total.abs().sum(-1, keepdim=True)
    importance = (length - (total[..., None, :] - terms).abs().sum(-1)).clamp(min=0)
    whole = importance.sum(-1, keepdim=True)
    return torch.where(whole > 0, importance / whole, torch.zeros_like(importance))


def information_flow(
    runs: PairedRuns,
    options: InformationFlow,
    *,
    level: Level,
    progress: Callable[..., None],
    per_position: bool = False,
) -> Scores:
    """Share of what a target reads on the clean prompts that comes from each source; a forward pass, no contrast.

    For every token the sum a target reads is split into what its sources wrote (``proximity``); shares are averaged
    over tokens and pairs. Shares of one target sum to 1 (biases that belong to no source are part of the sum and get
    none). Corrupted prompts and the metric are not used, so it answers what moves, not what the behavior needs. Shares
    are local to a target and do not compare between targets: circuits are grown from the logits (greedy selection).
    Per position, a share is the mean over the tokens of that label, and each label sums to 1.
    """
    graph = graph_of(runs, level)
    labels = runs.position_labels if per_position else ()
    n = max(1, len(labels))
    total, tokens = np.zeros((n, *graph.edge_mask.shape)), np.zeros(n)
    for done, batch in enumerate(runs.batches):
        token = runs.labels_of(batch) if labels else torch.zeros_like(batch.clean)
        weight = 1.0 if labels else 1.0 / batch.n_tokens  # every pair counts the same, however long
        for columns, shares in _shares(runs, batch, graph):
            found = weight * sum_by_label(shares, token, n)
            total[:, : found.shape[1], columns] += found[:, :, None]
        tokens += np.bincount(token.flatten().cpu().numpy(), minlength=n) * weight
        runs.release(batch)
        progress(done + 1, len(runs.batches), f"{len(batch)} pairs of {batch.n_tokens} tokens")
    values = total / np.maximum(tokens, 1)[:, None, None]
    values = np.where(graph.edge_mask, values, np.nan)
    return result(
        runs,
        values if labels else values[0],
        level="edge",
        method="information-flow",
        source="arXiv:2403.00824",
        unit="share of the 1-norm",
        positions=labels,
        passes=1,
    )


@torch.no_grad()
def _shares(
    runs: PairedRuns, batch: Batch, graph: Graph
) -> Iterator[tuple[list[int], Float[Tensor, "pair pos source"]]]:
    """Columns of targets that read the same sum, and the share of each source in it."""
    shape, last = graph.shape, graph.shape.n_layers - 1
    attended = [hook_name("attn-out", n) for n in range(shape.n_layers) if shape.has_attention(n)]
    names = [hook_name("resid", n) for n in range(shape.n_layers)] + attended + [f"blocks.{last}.hook_out"]
    seen = runs.activations(batch, "clean", names)
    wrote = source_outputs(runs, batch, "clean", graph)
    assert isinstance(wrote, Tensor), "towers are scored by the edges that cross"
    for layer in range(shape.n_layers):
        x = seen[hook_name("resid", layer)]
        same = [j for j, t in enumerate(graph.targets) if t.layer == layer and t.slot is not None]
        if same:
            yield same, _split(wrote, x, graph, same[0])
        if shape.has_mlp(layer):
            after = shape.has_attention(layer) and not shape.parallel
            column = next(j for j, t in enumerate(graph.targets) if t.kind == "mlp" and t.layer == layer)
            y = x + seen[hook_name("attn-out", layer)] if after else x
            yield [column], _split(wrote, y, graph, column)
    column = len(graph.targets) - 1
    yield [column], _split(wrote, seen[f"blocks.{last}.hook_out"], graph, column)


def _split(wrote: Tensor, total: Tensor, graph: Graph, column: int) -> Float[Tensor, "pair pos source"]:
    wide = torch.promote_types(wrote.dtype, torch.float32)
    return proximity(wrote[:, :, : int(graph.n_visible[column])].to(wide), total.to(wide))
