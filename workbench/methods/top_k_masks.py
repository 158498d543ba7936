"""Learned top-k masks: gates that sum to a fixed number, trained on what their circuit does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.circuits.scores import Scores
from workbench.core.errors import OptionError
from workbench.engine.edges import edited_output
from workbench.engine.nodes import node_references, nodes_output
from workbench.engine.paired_runs import Batch, PairedRuns
from workbench.engine.source_outputs import source_outputs
from workbench.methods.options.more_masks import TopKMasks
from workbench.methods.outcome import graph_of, result
from workbench.methods.registry import Level
from workbench.methods.soft_masks import check_loss, learn
from workbench.model.hooks import hook_name

_HALVINGS = 60  # of an interval: the threshold is found to the last bit of float64


def gates(theta: Float[Tensor, "*row part"], k: float, tau: float) -> Float[Tensor, "*row part"]:
    """Return ``sigmoid((theta - b) / tau)`` with ``b`` such that the gates of a row sum to ``k``.

    The gradient is that of the gates with the sum held: raising one parameter closes the others a little.

    Example:
        >>> [round(float(g), 3) for g in gates(torch.tensor([1.0, 0.0]), 1.0, 1.0)]
        [0.622, 0.378]
    """
    with torch.no_grad():
        wide = theta.double()
        low, high = wide.amin(-1, keepdim=True) - 40 * tau, wide.amax(-1, keepdim=True) + 40 * tau
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            many = torch.sigmoid((wide - middle) / tau).sum(-1, keepdim=True) > k
            low, high = torch.where(many, middle, low), torch.where(many, high, middle)
        b = ((low + high) / 2).to(theta.dtype)
        slope = torch.sigmoid((theta - b) / tau)
        slope = slope * (1 - slope) / tau
    # one step of Newton at the solution: it moves nothing and carries the gradient of b
    over = torch.sigmoid((theta - b) / tau).sum(-1, keepdim=True) - k
    smallest = torch.finfo(theta.dtype).tiny
    b = b + over / slope.sum(-1, keepdim=True).clamp_min(smallest)
    return torch.sigmoid((theta - b) / tau)


def hard_gates(theta: Float[Tensor, "*row part"], k: int, tau: float) -> Float[Tensor, "*row part"]:
    """Return 1 for the ``k`` largest of a row and 0 for the rest, with the gradient of the soft gates."""
    soft = gates(theta, float(k), tau)
    best = torch.zeros_like(soft).scatter(-1, theta.topk(k, -1).indices, 1.0)
    return soft + (best - soft).detach()


def top_k_masks(
    runs: PairedRuns, options: TopKMasks, *, level: Level, progress: Callable[..., None]
) -> Scores:
    """Learn which edges (or nodes) to keep, as many as are asked for at every step of the training.

    ``minimise -F(circuit)`` over ``theta``, with gates ``sigmoid((theta - b) / tau)`` that always sum to the number
    asked for. The score is the gate. Trained on the metric a circuit may do far better than the model: then it does not
    describe it (``loss=kl`` does).

    Returns:
        Gates from 0 to 1; the method's own circuit is the best of the number asked for.

    Raises:
        OptionError: if the share is less than one part, or the loss cannot be minimised.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:induction"), "induction", n=8)
        >>> how = {"size": 0.5, "steps": 5}  # a first look; the default learns longer
        >>> len(wb.discover(runs, "top-k-masks", level="node", amount=4, options=how).circuit.heads)
        4
    """
    check_loss(runs, options.loss, "top-k-masks")
    graph = graph_of(runs, level)
    exists = np.ones(len(graph.sources), dtype=bool) if level == "node" else graph.edge_mask
    if level == "node":
        exists[0] = False  # the input is always kept
    n = int(exists.sum())
    k = round(options.size * n)
    if k < 1:
        raise OptionError(
            f"{options.size:g} of {n} {level}s is less than one", hint=f"--option size={1 / n:.2g}"
        )
    there = torch.as_tensor(exists, device=runs.device)

    def output(batch: Batch, masks: Tensor) -> Tensor:
        ablated = masks.new_zeros(len(masks), *exists.shape)
        ablated[..., there] = 1 - masks
        if level == "node":
            return nodes_output(runs, batch, ablated)
        return edited_output(runs, batch, graph, ablated)

    def prepare(batch: Batch) -> None:
        if level == "node":
            node_references(runs, batch)
            return
        source_outputs(runs, batch, "corrupted", graph)
        runs.activations(batch, "clean", [hook_name("resid", 0)])

    def gate(theta: Tensor, noise: Tensor) -> Tensor:
        return hard_gates(theta, k, options.tau) if options.hard else gates(theta, float(k), options.tau)

    learned = learn(
        runs,
        torch.zeros(options.restarts, n, device=runs.device),
        output,
        lambda theta, step: theta.new_zeros(len(theta)),
        prepare=prepare,
        steps=options.steps,
        lr=options.lr,
        batch=options.batch,
        draws=1,
        seed=options.seed,
        loss=options.loss,
        progress=progress,
        gate=gate,
    )
    kept = gates(learned.m.double(), float(k), options.tau).mean(0).cpu().numpy()
    values = np.full(exists.shape, np.nan if level == "edge" else 1.0)
    values[exists] = kept
    return result(
        runs,
        values,
        level=level,
        method="top-k-masks",
        source="none found: reconstructed from the table of an unnamed repository",
        options={**asdict(options), "k": k, "loss_curve": learned.curve()},
        passes=2 + 2 * options.steps,
        unit="mask",
        own_rule=f">={float(np.sort(kept)[-k])!r}",
    )
