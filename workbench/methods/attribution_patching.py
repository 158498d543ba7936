"""Attribution patching: a first-order estimate of activation patching for every node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float

from workbench.graph import Graph
from workbench.methods.registry import Cost, Level, method
from workbench.methods.results import refuse_flat, result
from workbench.model.hooks import hook_name
from workbench.scores import Scores
from workbench.sweep.edges import writer_hooks
from workbench.sweep.gradients import writer_gradients
from workbench.sweep.runs import PairedRuns


@dataclass(frozen=True, kw_only=True)
class AttributionPatching:
    """Attribution patching has no options: gradients on the clean run (noising)."""


def node_scores(
    runs: PairedRuns, alphas: Sequence[float], progress: Callable[..., None]
) -> Float[np.ndarray, "source"]:
    """Mean over pairs of ``sum (clean - corrupted) * gradient`` at every node's output, gradients averaged."""
    graph = Graph(runs.wiring.node_shape())
    sites = [(0, "resid"), *writer_hooks(graph)]
    total = np.zeros(len(graph.sources))
    for done, batch in enumerate(runs.batches):
        names = [hook_name(site, layer) for layer, site in sites]
        clean, corrupted = (runs.activations(batch, run, names) for run in ("clean", "corrupted"))
        for alpha in alphas:
            grads = writer_gradients(runs, batch, sites, alpha=alpha)
            at = 0
            for site, name in zip(sites, names, strict=True):
                product = (clean[name].double() - corrupted[name].double()) * grads[site].double()
                own = product.sum((0, 1, 3)) if site[1] == "head-output" else product.sum().reshape(1)
                total[at : at + len(own)] += own.cpu().numpy() / len(alphas)
                at += len(own)
        runs.release(batch)
        progress(done + 1, len(runs.batches), f"{len(batch)} pairs of {batch.n_tokens} tokens")
    return total / runs.n_pairs


@method(
    "attribution-patching",
    levels=("node",),
    source="Nanda 2023, neelnanda.io/mechanistic-interpretability/attribution-patching",
    options=AttributionPatching,
    cost=lambda options, graph, level: Cost(forward=3, backward=1),
)
def attribution_patching(
    runs: PairedRuns, options: AttributionPatching, *, level: Level, progress: Callable[..., None]
) -> Scores:
    """Attribution patching: clean gradient times the clean minus corrupted difference, for every node.

    ``score(n) = sum over positions and dimensions of (clean - corrupted) * d metric / d n, at the clean run``.
    Exact where the model is affine between the two runs.

    Source:
        Nanda 2023; Syed, Rager and Conmy 2023, arXiv:2310.10348.
    """
    refuse_flat(runs, "attribution-patching")
    values = node_scores(runs, [1.0], progress)
    return result(
        runs,
        values,
        level="node",
        method="attribution-patching",
        source="Nanda 2023",
        options=asdict(options),
        passes=4,
    )
