"""Gradient methods that came after EAP-IG: their options, what they cost, what they claim. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.circuits.graph import Graph
from workbench.core.errors import OptionError
from workbench.engine.interventions.words import Ablation, value_named
from workbench.engine.rules import Backward, rule_of
from workbench.methods.options.gradients import ends_cost
from workbench.methods.points import At, ends, quadrature
from workbench.methods.registry import Cost, Level, declare


@dataclass(frozen=True, kw_only=True)
class GIM:
    """Options of GIM.

    Attributes:
        at: Where the gradient is taken: ``clean`` as published, ``corrupted``, or the mean of ``both``.
        ablation: What activations are compared with: resample, zero, mean, ...
    """

    at: At = "clean"
    ablation: Ablation = "resample"

    def __post_init__(self) -> None:
        ends(self.at), value_named(self.ablation)


declare(
    "gim",
    claim="Difference times a gradient that a saturated softmax does not stop (gradient interaction modifications).",
    levels=("edge", "node", "neuron"),
    source="arXiv:2505.17630",
    options=GIM,
    cost=ends_cost,
    per_position=True,
    in_parts=True,
    run="workbench.methods.gim:gim",
)


@dataclass(frozen=True, kw_only=True)
class CEAP:
    """Options of CEAP.

    Attributes:
        steps: Stretches of the line from the corrupted to the clean input; each costs a forward and a backward pass.
        backward: How gradients go through the model: plain, relp, attnlrp, cp-lrp, gim, ...
    """

    steps: int = 5
    backward: Backward = "plain"

    def __post_init__(self) -> None:
        quadrature(self.steps, "left"), rule_of(self.backward)


def stretches_cost(options: CEAP, graph: Graph, level: Level) -> Cost:
    return Cost(forward=2 + options.steps, backward=options.steps)


declare(
    "ceap",
    claim="Conductance: along the line of inputs, the gradient times what a part changes there, summed.",
    levels=("edge", "node", "neuron"),
    source="arXiv:2606.16920",
    options=CEAP,
    cost=stretches_cost,
    per_position=True,
    in_parts=True,
    run="workbench.methods.ceap:ceap",
)


@dataclass(frozen=True, kw_only=True)
class EAPGP:
    """Options of EAP-GP.

    Attributes:
        steps: Steps of the path; each costs two forward and two backward passes.
        length: How far a step goes for each prompt, in the unit of the model's input; published is 1.
    """

    steps: int = 5
    length: float = 1.0

    def __post_init__(self) -> None:
        quadrature(self.steps, "right")
        if not 0 < self.length < 1e6:
            raise OptionError(
                f"length is {self.length:g}; a number above 0 is expected", hint="--option length=1"
            )


declare(
    "eap-gp",
    claim="EAP with the gradient averaged along a path that follows the difference of the outputs down.",
    levels=("edge", "node", "neuron"),
    source="arXiv:2502.06852",
    options=EAPGP,
    cost=lambda options, graph, level: Cost(forward=3 + 2 * options.steps, backward=2 * options.steps),
    per_position=True,
    in_parts=True,
    run="workbench.methods.eap_gp:eap_gp",
)
