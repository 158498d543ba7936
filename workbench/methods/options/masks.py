"""Methods that learn masks: their options, what they cost, what they claim. No torch here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from workbench.circuits.graph import Graph
from workbench.core.errors import OptionError
from workbench.methods.registry import Cost, Level, check_level, declare, get_method

Loss = Literal["kl", "metric"]
LOSSES: tuple[Loss, ...] = ("kl", "metric")
INITIAL = math.log(0.9 / 0.1)  # 2.197: a mask is open with probability 0.978


class HasLoss(Protocol):
    """Options of masks that are trained."""

    @property
    def loss(self) -> Loss: ...


def check_options(options: HasLoss, *, positive: Sequence[str], at_least_0: Sequence[str] = ()) -> None:
    """Refuse options that cannot be trained with.

    Raises:
        OptionError: for a number that is not above (or at least) zero, or an unknown loss.
    """
    for name in (*positive, *at_least_0):
        value = getattr(options, name)
        if not np.isfinite(value) or value < 0 or (value == 0 and name in positive):
            least = "above 0" if name in positive else "at least 0"
            raise OptionError(
                f"{name} is {value}; it must be a number {least}",
                hint=f"--option {name}={1 if name in positive else 0}",
            )
    if options.loss not in LOSSES:
        raise OptionError(f"no loss called {options.loss!r}", hint=f"losses: {', '.join(LOSSES)}")


@dataclass(frozen=True, kw_only=True)
class SubnetworkProbing:
    """Options of subnetwork probing. As in the ACDC comparison: ``steps=3000 lr=0.001 lam=50 draws=1 batch=1000``.

    Attributes:
        steps: Steps of Adam, each on one minibatch.
        lr: Learning rate. The default reaches in 200 steps what 0.001 reaches in thousands.
        lam: Price of keeping every node, in units of the loss: more gives smaller circuits.
        loss: ``kl`` to the model at the answer position, or minus the ``metric``.
        batch: Pairs in a minibatch.
        draws: Samples of the masks for each minibatch; more make the gradient less noisy.
        restarts: Trainings with seeds ``seed``, ``seed + 1``, ...; masks are averaged.
    """

    steps: int = 200
    lr: float = 0.1
    lam: float = 1.0
    loss: Loss = "kl"
    batch: int = 12
    draws: int = 2
    seed: int = 0
    restarts: int = 1

    def __post_init__(self) -> None:
        check_options(
            self, positive=("steps", "lr", "batch", "draws", "restarts"), at_least_0=("lam", "seed")
        )


declare(
    "subnetwork-probing",
    claim="Learn a mask for every head and MLP: keep the output or take the corrupted one; keep what stays open.",
    levels=("node",),
    source="Cao, Sanh and Rush 2021, arXiv:2104.03514",
    options=SubnetworkProbing,
    cost=lambda options, graph, level: Cost(forward=2 + options.steps, backward=options.steps),
    per_position=True,
    selection="own",
    signed=True,
    run="workbench.methods.subnetwork_probing:subnetwork_probing",
)


@dataclass(frozen=True, kw_only=True)
class EdgePruning:
    """Options of Edge Pruning. Close to the released scripts: ``steps=3000 warmup=2500 lr=0.8 multiplier_lr=0.8
    batch=32 draws=1 initial=10``.

    Attributes:
        target: Share of the edges to prune. Above 1 it only pushes harder, as in the paper.
        steps: Steps of Adam, each on one minibatch.
        warmup: Steps over which the target rises from 0.
        lr: Learning rate of the masks.
        multiplier_lr: Learning rate of the multipliers, larger the fewer steps there are to reach the target.
        initial: Where every mask parameter starts; 2.197 is open with probability 0.978.
        loss: ``kl`` to the model at the answer position, or minus the ``metric``.
        batch: Pairs in a minibatch.
        draws: Samples of the masks for each minibatch; more make the gradient less noisy.
        restarts: Trainings with seeds ``seed``, ``seed + 1``, ...; masks are averaged.
        start: A method whose scores say where the masks start, in place of ``initial``; none when empty.
    """

    target: float = 0.9
    steps: int = 200
    warmup: int = 100
    lr: float = 0.2
    initial: float = INITIAL
    multiplier_lr: float = 5.0
    loss: Loss = "kl"
    batch: int = 12
    draws: int = 4
    seed: int = 0
    restarts: int = 1
    start: str = ""

    def __post_init__(self) -> None:
        if self.start:
            check_level(get_method(self.start), "edge")
        check_options(
            self,
            positive=("target", "steps", "lr", "multiplier_lr", "batch", "draws", "restarts"),
            at_least_0=("warmup", "seed"),
        )
        if self.warmup > self.steps:
            raise OptionError(
                f"warmup is {self.warmup}, longer than the training of {self.steps} steps",
                hint=f"--option warmup={self.steps // 2}",
            )


def pruning_cost(options: EdgePruning, graph: Graph, level: Level) -> Cost:
    """Return a forward and a backward pass a step, and what the scores cost from which the masks start."""
    made = get_method(options.start) if options.start else None
    first = Cost(forward=0) if made is None else made.cost(made.make_options(), graph, "edge")
    return Cost(forward=2 + options.steps + first.forward, backward=options.steps + first.backward)


declare(
    "edge-pruning",
    claim="Learn a mask for every edge: keep its content or take the corrupted one, at the sparsity asked for.",
    levels=("edge",),
    source="Bhaskar et al. 2024, arXiv:2406.16778",
    options=EdgePruning,
    cost=pruning_cost,
    per_position=True,
    selection="own",
    signed=True,
    with_tower=True,
    run="workbench.methods.edge_pruning:edge_pruning",
)
