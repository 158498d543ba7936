"""Edge Pruning: learn which edges must keep their own content, at a sparsity that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.circuits.graph import Graph
from workbench.circuits.scores import Scores
from workbench.engine.edges import edited_output
from workbench.engine.paired_runs import Batch, PairedRuns
from workbench.engine.source_outputs import source_outputs
from workbench.methods import hard_concrete
from workbench.methods.by_name import score
from workbench.methods.options.masks import EdgePruning
from workbench.methods.outcome import result
from workbench.methods.registry import Level
from workbench.methods.soft_masks import Learned, check_loss, learn
from workbench.methods.warm_start import warm_start
from workbench.model.hooks import hook_name


@dataclass(eq=False)
class Lagrangian:
    """``l1 (t - s) + l2 (t - s)^2`` for each restart, with the target ``t`` rising linearly to its end.

    ``s`` is one minus the mean probability that a mask is open. The multipliers are raised while the masks are
    lowered: too dense, and sparsity becomes dearer with every step.
    """

    options: EdgePruning
    first: Float[Tensor, " restart"]
    second: Float[Tensor, " restart"]

    @classmethod
    def starting(cls, options: EdgePruning, like: Tensor) -> Lagrangian:
        zeros = [like.new_zeros(options.restarts).requires_grad_(True) for _ in range(2)]
        return cls(options, *zeros)

    def target(self, step: int) -> float:
        """Return the sparsity asked for at a step."""
        return self.options.target * min(1.0, (step + 1) / max(1, self.options.warmup))

    def __call__(self, m: Float[Tensor, " restart *mask"], step: int) -> Float[Tensor, " restart"]:
        short = self.target(step) - sparsity(m)
        return self.first * short + self.second * short**2


def sparsity(m: Float[Tensor, " restart *mask"]) -> Float[Tensor, " restart"]:
    """Return one minus the mean probability that a mask is open."""
    return 1 - hard_concrete.open_probability(m).flatten(1).mean(1)


def threshold_for(values: np.ndarray, share: float) -> float:
    """Return the threshold that prunes this share of the values, or as near as ties allow, found by bisection.

    Example:
        >>> threshold_for(np.array([0.1, 0.9, 0.5, 0.7]), 0.5)
        0.7
    """
    steps = np.unique(values)
    low, high = 0, len(steps)  # keep values >= steps[k]; k = len(steps) keeps none
    while low < high:
        middle = (low + high) // 2
        if float((values < steps[middle]).mean()) < share:
            low = middle + 1
        else:
            high = middle
    near = [k for k in (low - 1, low) if 0 <= k < len(steps)]
    best = min(near, key=lambda k: (abs(float((values < steps[k]).mean()) - share), k))
    return float(steps[best])


def jaccard_of_restarts(strengths: np.ndarray, share: float) -> float | None:
    """Mean Jaccard overlap of the edges that two restarts keep at this sparsity; None with a single one."""
    kept = [each >= threshold_for(each, share) for each in strengths]
    pairs = [(a, b) for i, a in enumerate(kept) for b in kept[i + 1 :]]
    return float(np.mean([(a & b).sum() / (a | b).sum() for a, b in pairs])) if pairs else None


def _learn(
    runs: PairedRuns, graph: Graph, options: EdgePruning, labels: int, progress: Callable[..., None]
) -> Learned:
    """Mask parameters ``(restart, label, edge)``."""
    exists = torch.as_tensor(graph.edge_mask, device=runs.device)
    start = _start(runs, graph, options, labels)
    lagrangian = Lagrangian.starting(options, start)

    def output(batch: Batch, masks: Tensor) -> Tensor:
        ablated = masks.new_zeros(*masks.shape[:2], *exists.shape)
        ablated[..., exists] = 1 - masks
        if labels == 1:
            return edited_output(runs, batch, graph, ablated[:, 0])
        return edited_output(runs, batch, graph, ablated, labels=runs.labels_of(batch))

    def prepare(batch: Batch) -> None:
        source_outputs(runs, batch, "corrupted", graph)
        runs.activations(batch, "clean", [hook_name("resid", 0)])

    return learn(
        runs,
        start,
        output,
        lagrangian,
        prepare=prepare,
        steps=options.steps,
        lr=options.lr,
        batch=options.batch,
        draws=options.draws,
        seed=options.seed,
        loss=options.loss,
        ascending=(lagrangian.first, lagrangian.second),
        ascent=options.multiplier_lr,
        progress=progress,
    )


def _start(
    runs: PairedRuns, graph: Graph, options: EdgePruning, labels: int
) -> Float[Tensor, "restart label edge"]:
    """Where the masks start: all alike, or where the scores of another method say."""
    start = torch.full((options.restarts, labels, graph.n_edges), options.initial, device=runs.device)
    if not options.start:
        return start
    values = score(runs, options.start, level="edge", per_position=labels > 1).values
    sizes = np.abs(values[..., graph.edge_mask]).reshape(labels, -1)
    readers = np.array([-1 if node.layer is None else node.layer for node in graph.targets])
    layer = readers[np.argwhere(graph.edge_mask)[:, 1]]
    warm = [torch.as_tensor(warm_start(row, layer), dtype=start.dtype) for row in sizes]
    return torch.stack(warm).to(start.device).expand_as(start).clone()


def edge_pruning(
    runs: PairedRuns,
    options: EdgePruning,
    *,
    level: Level,
    progress: Callable[..., None],
    per_position: bool = False,
) -> Scores:
    """Learn a mask for every edge: keep its content or take the corrupted one, at the sparsity asked for.

    ``loss = KL(model || circuit) + l1 (t - s) + l2 (t - s)^2``; descent on the masks, ascent on ``l1`` and ``l2``.
    The score is the noise-free mask before clipping; the method's own circuit is what lies above the threshold
    at which the target sparsity is met.

    Source:
        Bhaskar, Wettig, Friedman and Chen 2024, arXiv:2406.16778.
    """
    check_loss(runs, options.loss, "edge-pruning")
    graph = runs.wiring.graph()
    labels = len(runs.position_labels) if per_position else 1
    learned = _learn(runs, graph, options, labels, progress)
    strengths = hard_concrete.strength(learned.m.double()).cpu().numpy()  # (restart, label, edge)
    expected = float(sparsity(learned.m).mean())
    wanted = options.target if options.target < 1 else expected
    scores = strengths.mean(0)
    tau = threshold_for(scores, wanted)
    values = np.full((labels, *graph.edge_mask.shape), np.nan)
    values[:, graph.edge_mask] = scores
    return result(
        runs,
        values if per_position else values[0],
        level="edge",
        method="edge-pruning",
        source="arXiv:2406.16778",
        options={
            **asdict(options),
            "expected_sparsity": expected,
            "achieved_sparsity": float((scores < tau).mean()),
            "threshold": tau,
            "restarts_jaccard": jaccard_of_restarts(strengths, wanted),
            "loss_curve": learned.curve(),
        },
        passes=2 + 2 * options.steps,
        unit="mask",
        own_rule=f">={tau!r}",
        positions=runs.position_labels if per_position else (),
    )
