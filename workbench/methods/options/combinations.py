"""Methods made of other methods: their options, what they cost, what they claim. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from workbench.circuits.graph import Graph
from workbench.core.errors import OptionError
from workbench.methods.options.masks import EdgePruning, pruning_cost
from workbench.methods.registry import METHODS, Cost, Level, check_level, declare, get_method

GRADIENTS = ("eap", "eap-ig", "eap-ig-activations")  # the family that is averaged


def check_several(names: Sequence[str]) -> None:
    """Refuse what are not two or more methods of edges, each once.

    Raises:
        OptionError: for fewer, for one named twice, or for one that does not score edges.
    """
    if isinstance(names, str) or len(names) < 2 or len(set(names)) < len(names):
        raise OptionError(
            f"of is {names!r}; two methods or more are expected, each once", hint="--option of=eap,eap-ig"
        )
    for name in names:
        check_level(get_method(name), "edge")


def cost_of(name: str, graph: Graph, level: Level) -> Cost:
    """Return what a method costs with its own options."""
    made = get_method(name)
    return made.cost(made.make_options(), graph, level)


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """Options of bootstrap averaging.

    Attributes:
        of: The method whose scores are drawn again.
        draws: Draws of as many pairs as there are, with replacement.
        z: Half the width of the interval, in spreads.
        spread: ``sd`` is the standard deviation of the draws. ``se`` divides it by the root of their number, as
            published: it says nothing of the score, since it goes to 0 with the draws.
    """

    of: str = "eap-ig"
    draws: int = 10
    z: float = 1.96
    spread: Literal["sd", "se"] = "sd"
    seed: int = 0

    def __post_init__(self) -> None:
        if not get_method(self.of).in_parts:
            able = [name for name, made in METHODS.items() if made.in_parts]
            raise OptionError(
                f"the scores of {self.of} are not means over pairs, so pairs cannot be drawn again",
                hint=f"--option of=NAME with one of: {', '.join(able)}",
            )
        if self.draws < 2 or not np.isfinite(self.z) or self.z < 0 or self.seed < 0:
            raise OptionError(
                f"draws is {self.draws}, z {self.z:g}, seed {self.seed}; at least 2, 0 and 0 are needed",
                hint="--option draws=10 --option z=1.96",
            )
        if self.spread not in ("sd", "se"):
            raise OptionError(f"spread is {self.spread!r}", hint="spread: sd, se")


declare(
    "bootstrap",
    claim="Another method's scores averaged over draws of pairs; 0 where the draws do not agree on the sign.",
    levels=("edge", "node", "neuron"),
    source="arXiv:2510.25786",
    options=Bootstrap,
    cost=lambda options, graph, level: cost_of(options.of, graph, level),
    per_position=True,
    run="workbench.methods.bootstrap:bootstrap",
)


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Options of an ensemble of methods that run beside each other.

    Attributes:
        of: Methods, each with its own options.
        combine: ``mean``, ``weighted`` by ``weights``, ``max`` (what one method finds) or ``min`` (what all find): the
            score of the largest or smallest size.
        scale: What makes their scores comparable: ``sum`` divides by the sum of their sizes, ``rank`` puts the rank of
            the size in its place (0 to 1), ``none`` leaves them, as published.
        weights: One number a method, for ``weighted``.
    """

    of: Sequence[str] = GRADIENTS
    combine: Literal["mean", "weighted", "max", "min"] = "mean"
    scale: Literal["sum", "rank", "none"] = "sum"
    weights: Sequence[float] = ()

    def __post_init__(self) -> None:
        check_several(self.of)
        if self.combine not in ("mean", "weighted", "max", "min"):
            raise OptionError(f"cannot combine by {self.combine!r}", hint="combine: mean, weighted, max, min")
        if self.scale not in ("sum", "rank", "none"):
            raise OptionError(f"no scale called {self.scale!r}", hint="scale: sum, rank, none")
        if len(self.weights) != (len(self.of) if self.combine == "weighted" else 0):
            raise OptionError(
                f"{len(self.weights)} weights for {len(self.of)} methods combined by {self.combine}",
                hint="--option combine=weighted --option weights=1,2,1",
            )
        if any(not np.isfinite(w) or w < 0 for w in self.weights) or sum(self.weights or (1,)) <= 0:
            raise OptionError(
                f"weights are {list(self.weights)}; numbers from 0 with a positive sum are expected",
                hint=f"--option weights={','.join('1' * len(self.of))}",
            )


def ensemble_cost(options: Ensemble, graph: Graph, level: Level) -> Cost:
    each = [cost_of(name, graph, level) for name in options.of]
    return Cost(forward=sum(c.forward for c in each), backward=sum(c.backward for c in each))


declare(
    "ensemble",
    claim="Scores of several methods on one scale, combined edge by edge (parallel ensemble).",
    levels=("edge",),
    source="arXiv:2510.06811",
    options=Ensemble,
    cost=ensemble_cost,
    run="workbench.methods.ensemble:ensemble",
)


@dataclass(frozen=True, kw_only=True)
class SerialEnsemble(EdgePruning):
    """Options of edge pruning that starts from another method's scores: those of edge pruning, and ``start``."""

    start: str = "eap-ig"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.start:
            raise OptionError("start is empty; a method of edges is expected", hint="--option start=eap-ig")


declare(
    "serial-ensemble",
    claim="Edge pruning whose masks start from the sizes of another method's scores (serial ensemble).",
    levels=("edge",),
    source="arXiv:2510.06811",
    options=SerialEnsemble,
    cost=pruning_cost,
    selection="own",
    signed=True,
    run="workbench.methods.serial_ensemble:serial_ensemble",
)


@dataclass(frozen=True, kw_only=True)
class HybridEnsemble:
    """Options of a parallel ensemble with a serial one in it.

    Attributes:
        of: Methods that run beside it.
        scale: As of an ensemble. The sizes of the serial ensemble get the sign of the others' mean.
        steps: Steps of its training.
    """

    of: Sequence[str] = GRADIENTS
    scale: Literal["sum", "rank"] = "rank"
    steps: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        Ensemble(of=self.of, scale=self.scale)
        self.serial()

    def serial(self) -> SerialEnsemble:
        """Return the options of the serial ensemble."""
        return SerialEnsemble(steps=self.steps, warmup=self.steps // 2, seed=self.seed)


def hybrid_cost(options: HybridEnsemble, graph: Graph, level: Level) -> Cost:
    one, other = (
        ensemble_cost(Ensemble(of=options.of), graph, level),
        pruning_cost(options.serial(), graph, level),
    )
    return Cost(forward=one.forward + other.forward, backward=one.backward + other.backward)


declare(
    "hybrid-ensemble",
    claim="Mean of several methods and of edge pruning that starts from one of them (hybrid ensemble).",
    levels=("edge",),
    source="arXiv:2510.06811",
    options=HybridEnsemble,
    cost=hybrid_cost,
    run="workbench.methods.hybrid_ensemble:hybrid_ensemble",
)
