"""Edge attribution patching (EAP)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import ShapeError
from workbench.methods.registry import Cost, Level, method
from workbench.methods.results import refuse_flat, result
from workbench.scores import Scores
from workbench.sweep.edges import source_outputs
from workbench.sweep.gradients import reader_gradients
from workbench.sweep.runs import PairedRuns


@dataclass(frozen=True, kw_only=True)
class EAP:
    """EAP has no options: gradients on the clean run, differences clean minus corrupted."""


def edge_scores(
    delta: Float[Tensor, "pair pos source d_model"],
    grad: Float[Tensor, "pair pos target d_model"],
) -> Float[Tensor, "source target"]:
    """Estimate what each edge adds to the metric, summed over pairs and positions.

    ``score[u, v] = sum (clean[u] - corrupted[u]) . d metric / d input[v]``

    Args:
        delta: Clean minus corrupted output of every source.
        grad: Gradient of the summed metric at every target's input, before its norm.

    Returns:
        Scores in the metric's unit; positive supports the behavior. Sums in float32 or better. Pairs of
        source and target that are no edge of the graph carry meaningless values: use ``graph.edge_mask``.

    Raises:
        ShapeError: if the two disagree on pairs or positions.

    Source:
        Syed, Rager and Conmy 2023, arXiv:2310.10348.
    """
    if delta.shape[:2] != grad.shape[:2]:
        raise ShapeError(f"delta covers {tuple(delta.shape[:2])} (pair, pos), grad {tuple(grad.shape[:2])}")
    wide = torch.promote_types(delta.dtype, torch.float32)  # bf16 sums lose 2 % over 256 pairs
    return torch.einsum("btsd,btvd->sv", delta.to(wide), grad.to(wide))


def integrate(
    runs: PairedRuns, alphas: Sequence[float], progress: Callable[..., None]
) -> Float[np.ndarray, "source target"]:
    """Mean over pairs of EAP scores whose gradients are averaged over these points of the input line."""
    graph = runs.wiring.graph()
    total = np.zeros(graph.edge_mask.shape)
    for done, batch in enumerate(runs.batches):
        with torch.no_grad():
            delta = source_outputs(runs, batch, "clean", graph) - source_outputs(
                runs, batch, "corrupted", graph
            )
        for alpha in alphas:
            for columns, grad in reader_gradients(runs, batch, graph, alpha=alpha):
                total[:, columns] += edge_scores(delta, grad).double().cpu().numpy() / len(alphas)
        runs.release(batch)
        progress(done + 1, len(runs.batches), f"{len(batch)} pairs of {batch.n_tokens} tokens")
    return np.where(graph.edge_mask, total / runs.n_pairs, np.nan)


@method(
    "eap",
    levels=("edge",),
    source="arXiv:2310.10348",
    options=EAP,
    cost=lambda o, g, lv: Cost(forward=3, backward=1),
)
def eap(runs: PairedRuns, options: EAP, *, level: Level, progress: Callable[..., None]) -> Scores:
    """Edge attribution patching: clean gradient times the clean minus corrupted difference."""
    refuse_flat(runs, "eap")
    values = integrate(runs, [1.0], progress)
    return result(
        runs, values, level="edge", method="eap", source="arXiv:2310.10348", options=asdict(options), passes=4
    )
