"""Masks of a fixed number of parts, and of parts within parts: options, costs, claims. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.core.errors import OptionError
from workbench.methods.options.masks import Loss, check_options
from workbench.methods.registry import Cost, declare


@dataclass(frozen=True, kw_only=True)
class TopKMasks:
    """Options of masks of which a fixed number is open.

    Attributes:
        size: Share of the edges (nodes) that the gates sum to.
        steps: Steps of Adam, each on one minibatch.
        lr: Learning rate.
        tau: How far a gate is from closed to open: ``sigmoid((theta - b) / tau)``.
        hard: Gates are 0 or 1 in the forward pass, the best ``size`` open; gradients go through the soft ones.
        loss: Minus the ``metric``, as published, or ``kl`` to the model at the answer position.
        batch: Pairs in a minibatch.
        restarts: Trainings with seeds ``seed``, ``seed + 1``, ...; gates are averaged.
    """

    size: float = 0.1
    steps: int = 100
    lr: float = 0.1
    tau: float = 0.2
    hard: bool = False
    loss: Loss = "metric"
    batch: int = 12
    seed: int = 0
    restarts: int = 1

    def __post_init__(self) -> None:
        check_options(
            self, positive=("size", "steps", "lr", "tau", "batch", "restarts"), at_least_0=("seed",)
        )
        if self.size >= 1:
            raise OptionError(f"size is {self.size:g}; a share below 1 is expected", hint="--option size=0.1")


declare(
    "top-k-masks",
    claim="Learn which edges (or nodes) to keep, as many as are asked for at every step of the training.",
    levels=("edge", "node"),
    source="none found: reconstructed from the table of an unnamed repository",
    options=TopKMasks,
    cost=lambda options, graph, level: Cost(forward=2 + options.steps, backward=options.steps),
    selection="own",
    signed=True,
    run="workbench.methods.top_k_masks:top_k_masks",
)


@dataclass(frozen=True, kw_only=True)
class NodePruning:
    """Options of pruning at several grains at once: layers, heads and MLPs, neurons.

    Attributes:
        lam_layer, lam_node, lam_neuron: Price of keeping all of a grain, in units of the loss.
        steps: Steps of Adam, each on one minibatch.
        lr: Learning rate.
        loss: ``kl`` to the model at the answer position, or minus the ``metric``.
        batch: Pairs in a minibatch.
        draws: Samples of the masks for each minibatch.
        restarts: Trainings with seeds ``seed``, ``seed + 1``, ...; masks are averaged.
    """

    lam_layer: float = 0.2
    lam_node: float = 1.0
    lam_neuron: float = 1.0
    steps: int = 200
    lr: float = 0.1
    loss: Loss = "kl"
    batch: int = 12
    draws: int = 2
    seed: int = 0
    restarts: int = 1

    def __post_init__(self) -> None:
        prices = ("lam_layer", "lam_node", "lam_neuron")
        check_options(
            self, positive=("steps", "lr", "batch", "draws", "restarts"), at_least_0=(*prices, "seed")
        )


declare(
    "node-pruning",
    claim="Learn masks for layers, heads, MLPs and neurons together: a part is kept if all that holds it is.",
    levels=("node", "neuron"),
    source="arXiv:2512.10903",
    options=NodePruning,
    cost=lambda options, graph, level: Cost(forward=2 + options.steps, backward=options.steps),
    selection="own",
    signed=True,
    run="workbench.methods.node_pruning:node_pruning",
)
