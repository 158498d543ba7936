"""Node pruning at several grains: masks for layers, for heads and MLPs in them, for neurons in these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.circuits.graph import Graph
from workbench.circuits.scores import Scores
from workbench.core.errors import ModelError, OptionError
from workbench.engine.nodes import node_hooks, node_references
from workbench.engine.paired_runs import Batch, PairedRuns
from workbench.methods import hard_concrete
from workbench.methods.options.masks import INITIAL
from workbench.methods.options.more_masks import NodePruning
from workbench.methods.outcome import result
from workbench.methods.random_scores import where_defined
from workbench.methods.registry import Level
from workbench.methods.soft_masks import check_loss, learn
from workbench.model.hooks import hook_name


@dataclass(frozen=True, kw_only=True, eq=False)
class Grains:
    """Which mask belongs to which part: layers first, then heads and MLPs, then neurons.

    Attributes:
        layer_of: ``(node,)`` layer of every head and MLP, in the order of the graph without its input.
        mlp_at: ``(MLP,)`` index of every MLP among these nodes.
        mlp_layers: ``(MLP,)`` their layers.
        width: Hidden units of an MLP; 0 where neurons cannot be edited or there are no MLPs.
    """

    layers: int
    layer_of: tuple[int, ...]
    mlp_at: tuple[int, ...]
    mlp_layers: tuple[int, ...]
    width: int

    @classmethod
    def of(cls, runs: PairedRuns) -> Grains:
        """Return the grains of a model."""
        nodes = Graph(runs.wiring.node_shape()).sources[1:]
        if not nodes:
            raise OptionError(
                "this model has no node to mask", hint="open a model with heads or MLPs: zoo:ioi"
            )
        mlps = [i for i, node in enumerate(nodes) if node.kind == "mlp"]
        editable = "neurons" in runs.wiring.live
        return cls(
            layers=runs.wiring.n_layers,
            layer_of=tuple(node.layer or 0 for node in nodes),
            mlp_at=tuple(mlps),
            mlp_layers=tuple(nodes[i].layer or 0 for i in mlps),
            width=(runs.wiring.d_mlp or 0) if editable and mlps else 0,
        )

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Masks of layers, of nodes, of neurons."""
        return self.layers, len(self.layer_of), len(self.mlp_at) * self.width

    def split(self, masks: Float[Tensor, "*row mask"]) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``(*row, layer)``, ``(*row, node)`` and ``(*row, MLP, unit)``."""
        layers, nodes, neurons = masks.split(self.sizes, -1)
        return layers, nodes, neurons.unflatten(-1, (len(self.mlp_at), self.width)) if self.width else neurons


def gated_output(runs: PairedRuns, batch: Batch, masks: Float[Tensor, "copy mask"], grains: Grains) -> Tensor:
    """Say what the metric reads where every part keeps its own output by its mask, and by those that hold it.

    ``written = g own + (1 - g) corrupted``, with ``g`` the product of a part's mask and those of what it is in.
    """
    layers, nodes, neurons = grains.split(masks)
    kept = nodes * layers[:, list(grains.layer_of)]
    with torch.no_grad():
        reference = node_references(runs, batch)
        names = [hook_name("neurons", n) for n in grains.mlp_layers] if grains.width else []
        units = runs.activations(batch, "corrupted", names) if names else {}
    hooks = node_hooks(runs, torch.cat([torch.zeros_like(kept[:, :1]), 1 - kept], -1), reference)
    hooks += [(name, _moved(1 - neurons[:, i], units[name])) for i, name in enumerate(names)]
    prompt = batch.prompt("clean").repeat(len(masks))
    with torch.set_grad_enabled(torch.is_grad_enabled() and masks.requires_grad):
        return runs.output(batch, prompt, hooks)


def _moved(
    away: Float[Tensor, "copy unit"], reference: Float[Tensor, "pair pos unit"]
) -> Callable[..., Tensor]:
    """A hook that moves hidden units to the reference, by the mask of each copy."""

    def edit(tensor: Tensor, hook: object) -> Tensor:
        own = tensor.reshape(len(away), -1, *tensor.shape[1:])
        return (own + away[:, None, None].to(own.dtype) * (reference - own)).reshape(tensor.shape)

    return edit


def node_pruning(
    runs: PairedRuns, options: NodePruning, *, level: Level, progress: Callable[..., None]
) -> Scores:
    """Learn masks for layers, heads, MLPs and neurons together: a part is kept if all that holds it is.

    ``loss = KL(model || masked model) + sum over grains of lam * mean P(mask > 0)``, hard-concrete masks, the
    corrupted run's values in the place of what is pruned. The score of a part is the noise-free mask of the least open
    of it and what holds it, so that its own circuit is what is above 0.5.

    Returns:
        Masks from 0 to 1: of heads and MLPs, or of neurons; both levels train the same masks.

    Raises:
        ModelError: at neuron level, where hidden units cannot be edited.

    Source:
        arXiv:2512.10903 (abstract; gates and prices are ours).
    """
    check_loss(runs, options.loss, "node-pruning")
    grains = Grains.of(runs)
    if level == "neuron" and not grains.width:
        raise ModelError("no neurons here: hidden units of its MLPs cannot be edited", hint="--level node")
    prices = (options.lam_layer, options.lam_node, options.lam_neuron)

    def penalty(m: Tensor, step: int) -> Tensor:
        each = hard_concrete.open_probability(m).split(grains.sizes, -1)
        priced = [lam * p.mean(-1) for lam, p in zip(prices, each, strict=True) if p.shape[-1]]
        return torch.stack(priced).sum(0)

    learned = learn(
        runs,
        torch.full((options.restarts, sum(grains.sizes)), INITIAL, device=runs.device),
        lambda batch, masks: gated_output(runs, batch, masks, grains),
        penalty,
        prepare=lambda each: node_references(runs, each),
        steps=options.steps,
        lr=options.lr,
        batch=options.batch,
        draws=options.draws,
        seed=options.seed,
        loss=options.loss,
        progress=progress,
    )
    strengths = hard_concrete.strength(learned.m.double()).mean(0).cpu()
    graph = Graph(runs.wiring.node_shape())
    return result(
        runs,
        where_defined(_least_open(strengths, grains, graph, level), graph, level),
        level=level,
        method="node-pruning",
        source="arXiv:2512.10903",
        options={**asdict(options), "open": _open(strengths, grains), "loss_curve": learned.curve()},
        passes=2 + 2 * options.steps,
        unit="mask",
        own_rule=">=0.5",
    )


def _least_open(strengths: Float[Tensor, " mask"], grains: Grains, graph: Graph, level: Level) -> np.ndarray:
    """The smallest of a part's own mask and those of what holds it."""
    layers, nodes, neurons = grains.split(strengths)
    kept = torch.minimum(nodes, layers[list(grains.layer_of)])
    if level == "node":
        return np.concatenate([[1.0], kept.numpy()])
    found = np.full((graph.shape.n_layers, grains.width), np.nan)
    for i, layer in enumerate(grains.mlp_layers):
        found[layer] = torch.minimum(neurons[i], kept[grains.mlp_at[i]]).numpy()
    return found


def _open(strengths: Float[Tensor, " mask"], grains: Grains) -> dict[str, float]:
    """Share of the masks of each grain that are open, what holds them aside."""
    names = ("layers", "nodes", "neurons")
    each = zip(names, strengths.split(grains.sizes, -1), strict=True)
    return {name: float((part >= 0.5).double().mean()) for name, part in each if len(part)}
