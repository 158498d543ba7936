"""Methods that need no gradient: their options, what they cost, what they claim. No torch here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from workbench.circuits.graph import Graph
from workbench.core.errors import OptionError
from workbench.engine.interventions.words import ABLATIONS, MLPS, Ablation, Mlps, value_named
from workbench.methods.registry import Cost, Level, declare

Mode = Literal["batched", "sequential"]


@dataclass(frozen=True, kw_only=True)
class Exact:
    """Options of exact patching.

    Attributes:
        ablation: What is put in place: ``resample`` (the corrupted partner's value), ``zero``, ``mean`` ...
    """

    ablation: Ablation = "resample"

    def __post_init__(self) -> None:
        value_named(self.ablation)


def exact_cost(options: Exact, graph: Graph, level: Level) -> Cost:
    """Return one pass for each part. How many neurons there are only the weights tell: the least is said, with a
    warning.
    """
    mlps = sum(graph.shape.has_mlp(n) for n in range(graph.shape.n_layers))
    parts = {"edge": graph.n_edges, "node": len(graph.sources), "neuron": mlps}[level]
    slow = "times the hidden units of an MLP (thousands in most models): one pass for each neuron"
    note = "times the number of position labels when each position is scored by itself"
    return Cost(forward=2 + parts, note=slow if level == "neuron" else note)


declare(
    "exact",
    claim="The exact drop of the metric when one edge, node or neuron alone takes its corrupted value.",
    levels=("edge", "node", "neuron"),
    source="Conmy et al. 2023, arXiv:2304.14997",
    options=Exact,
    cost=exact_cost,
    per_position=True,
    in_parts=True,
    with_tower=True,
    run="workbench.methods.exact:exact",
)


@dataclass(frozen=True, kw_only=True)
class ACDC:
    """Options of ACDC.

    Attributes:
        tau: An edge is removed when that costs less than this, in the unit of the metric.
        sweep: Several thresholds instead of one; the score is then the smallest at which the edge is removed.
        absolute: Remove when the metric changes by less than ``tau`` in either direction. Scores are sizes then.
        mode: ``batched`` guesses ahead and tests many edges in one pass; ``sequential`` tests one by one. The
            decisions are the same.
        ablation: What a removed edge carries: ``resample``, the corrupted partner's value, or ``zero``, ``mean`` ...
    """

    tau: float = 0.01
    sweep: Sequence[float] = ()
    absolute: bool = False
    mode: Mode = "batched"
    ablation: Ablation = "resample"

    def __post_init__(self) -> None:
        for tau in (self.tau, *self.sweep):
            if isinstance(tau, bool) or not isinstance(tau, int | float) or not math.isfinite(tau) or tau < 0:
                raise OptionError(f"tau is {tau!r}; expected a number from 0", hint="--option tau=0.01")
        if self.mode not in ("batched", "sequential"):
            raise OptionError(f"no mode called {self.mode!r}", hint="modes: batched, sequential")
        if self.ablation not in ABLATIONS:
            raise OptionError(
                f"no ablation called {self.ablation!r}", hint=f"ablations: {', '.join(ABLATIONS)}"
            )

    def taus(self) -> list[float]:
        """Return the thresholds, rising."""
        return sorted({float(tau) for tau in self.sweep}) if len(self.sweep) else [float(self.tau)]


def acdc_cost(options: ACDC, graph: Graph, level: Level) -> Cost:
    guess = 1 if options.mode == "batched" else 0
    return Cost(
        forward=3 + graph.n_edges * len(options.taus()),
        backward=guess,
        note="times the number of position labels when each position is scored by itself",
    )


declare(
    "acdc",
    claim="What removing each edge cost when it was tested, given what was removed before; kept from ``tau`` on.",
    levels=("edge",),
    source="arXiv:2304.14997",
    options=ACDC,
    cost=acdc_cost,
    per_position=True,
    selection="own",
    signed=True,
    with_tower=True,
    run="workbench.methods.acdc:acdc",
)


@dataclass(frozen=True, kw_only=True)
class IterativePathPatching:
    """Options of iterative path patching.

    Attributes:
        threshold: Smallest effect of a path that is followed, as a share of the gap clean - corrupted.
        depth: Most rounds; until nothing new is found when None.
        mlps: ``frozen``: direct paths only, so that a path is an edge. ``recomputed``: paths may pass through MLPs, as
            in the IOI paper.
    """

    threshold: float = 0.02
    depth: int | None = None
    mlps: Mlps = "frozen"

    def __post_init__(self) -> None:
        if not isinstance(self.threshold, int | float) or not 0 < self.threshold <= 1:
            raise OptionError(
                f"threshold is {self.threshold!r}; expected a share of the gap, above 0 and up to 1",
                hint="--option threshold=0.02",
            )
        if self.depth is not None and (not isinstance(self.depth, int) or self.depth < 1):
            raise OptionError(f"depth is {self.depth!r}; expected at least 1 round", hint="--option depth=4")
        if self.mlps not in MLPS:
            raise OptionError(f"MLPs cannot be {self.mlps!r}", hint=f"mlps: {', '.join(MLPS)}")


def paths_cost(options: IterativePathPatching, graph: Graph, level: Level) -> Cost:
    """At most: every edge tested, two passes each."""
    return Cost(forward=2 + 2 * graph.n_edges)


declare(
    "iterative-path-patching",
    claim="Path effects, followed backwards from the logits through every part that has one.",
    levels=("edge",),
    source="arXiv:2211.00593",
    options=IterativePathPatching,
    cost=paths_cost,
    selection="own",
    signed=True,
    run="workbench.methods.iterative_path_patching:iterative_path_patching",
)


@dataclass(frozen=True, kw_only=True)
class InformationFlow:
    """Information flow has no options."""


declare(
    "information-flow",
    claim="Share of what a target reads on the clean prompts that comes from each source; a forward pass, no contrast.",
    levels=("edge",),
    source="arXiv:2403.00824",
    options=InformationFlow,
    cost=lambda options, graph, level: Cost(forward=1),
    per_position=True,
    selection="greedy",
    run="workbench.methods.information_flow:information_flow",
)


@dataclass(frozen=True, kw_only=True)
class Magnitude:
    """Magnitude has no options."""


declare(
    "magnitude",
    claim="Size of the clean minus corrupted output of a part, summed over tokens: what changes, whether or not "
    "it is used.",
    levels=("edge", "node", "neuron"),
    source="baseline",
    options=Magnitude,
    cost=lambda options, graph, level: Cost(forward=2),
    per_position=True,
    run="workbench.methods.magnitude:magnitude",
)


@dataclass(frozen=True, kw_only=True)
class Random:
    """Options of random scores: the seed."""

    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise OptionError(
                f"seed is {self.seed!r}; expected a whole number from 0", hint="--option seed=1"
            )


declare(
    "random",
    claim="Uniform random numbers in [0, 1): the floor that every method has to beat.",
    levels=("edge", "node", "neuron"),
    source="baseline",
    options=Random,
    cost=lambda options, graph, level: Cost(forward=0),
    per_position=True,
    with_tower=True,
    run="workbench.methods.random_scores:random_scores",
)
