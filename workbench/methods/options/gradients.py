"""Methods that multiply differences with gradients: their options, what they cost, what they claim. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from workbench.circuits.graph import Graph
from workbench.core.errors import OptionError
from workbench.engine.interventions.words import Ablation, value_named
from workbench.engine.rules import Backward, rule_of
from workbench.methods.points import At, Point, Quadrature, ends, quadrature
from workbench.methods.registry import Cost, Level, declare
from workbench.model.wiring import writer_hooks

ONE_GRADIENT = Cost(forward=2, backward=1)
BOTH_ENDS = Cost(forward=3, backward=2)


@dataclass(frozen=True, kw_only=True)
class AttributionPatching:
    """Options of attribution patching.

    Attributes:
        at: Where the gradient is taken: ``clean`` estimates noising, ``corrupted`` denoising, ``both`` their mean.
        ablation: What a node is compared with: resample, zero, mean, ...
        backward: How gradients go through the model: plain, relp, attnlrp, cp-lrp, gim, ...
    """

    at: At = "clean"
    ablation: Ablation = "resample"
    backward: Backward = "plain"

    def __post_init__(self) -> None:
        ends(self.at), value_named(self.ablation), rule_of(self.backward)


class AtEnds(Protocol):
    """Options that say at which ends gradients are taken."""

    @property
    def at(self) -> At: ...


def ends_cost(options: AtEnds, graph: Graph | None, level: Level) -> Cost:
    """Return one pass of each run, one more where the gradient is taken on the corrupted run, one backward for each
    point.
    """
    points = len(ends(options.at))
    return Cost(forward=2 + (options.at != "clean"), backward=points)


declare(
    "attribution-patching",
    claim="Attribution patching: clean gradient times the clean minus corrupted difference, for every node.",
    levels=("node", "neuron"),
    source="Nanda 2023, neelnanda.io/mechanistic-interpretability/attribution-patching",
    options=AttributionPatching,
    cost=ends_cost,
    per_position=True,
    in_parts=True,
    run="workbench.methods.attribution_patching:attribution_patching",
)


class EAP(AttributionPatching):
    """Options of EAP: those of attribution patching."""


declare(
    "eap",
    claim="Edge attribution patching: clean gradient times the clean minus corrupted difference.",
    levels=("edge",),
    source="arXiv:2310.10348",
    options=EAP,
    cost=ends_cost,
    per_position=True,
    in_parts=True,
    with_tower=True,
    run="workbench.methods.eap:eap",
)


@dataclass(frozen=True, kw_only=True)
class Integrated:
    """Options of EAP-IG.

    Attributes:
        steps: Points of the path; each costs a forward and a backward pass.
        rule: ``midpoint`` (k + 1/2)/m: 0.4 % from the integral at m = 5 where ``left`` k/m, the rule of the
            paper's code, is 13 % off at the same cost; ``right`` (k + 1)/m.
        backward: How gradients go through the model: plain, relp, attnlrp, cp-lrp, gim, ...
    """

    steps: int = 5
    rule: Quadrature = "midpoint"
    backward: Backward = "plain"

    def __post_init__(self) -> None:
        quadrature(self.steps, self.rule), rule_of(self.backward)


def integrated_cost(options: Integrated, graph, level: Level) -> Cost:
    return Cost(forward=2 + options.steps, backward=options.steps)


declare(
    "eap-ig",
    claim="EAP with the gradient averaged along the straight line of inputs from corrupted to clean.",
    levels=("edge", "node", "neuron"),
    source="arXiv:2403.17806",
    options=Integrated,
    cost=integrated_cost,
    per_position=True,
    in_parts=True,
    with_tower=True,
    run="workbench.methods.eap_ig:eap_ig",
)


@dataclass(frozen=True, kw_only=True)
class IntegratedActivations:
    """Options of EAP-IG over activations.

    Attributes:
        steps: Points for every layer output; each costs a forward and a backward pass.
        rule: ``midpoint``, ``left`` or ``right``; the published code takes right ends.
        ablation: Where the lines start, and what sources are compared with: resample, zero, mean, ...
        backward: How gradients go through the model: plain, relp, attnlrp, cp-lrp, gim, ...
    """

    steps: int = 5
    rule: Quadrature = "midpoint"
    ablation: Ablation = "resample"
    backward: Backward = "plain"

    def __post_init__(self) -> None:
        quadrature(self.steps, self.rule), value_named(self.ablation), rule_of(self.backward)

    def points(self, graph: Graph, level: Level) -> list[Point]:
        """Return the input, the heads of every layer, and every MLP in turn, at every step.

        Hidden units in place of the MLP's output where they are what is scored: the output is affine in them.
        """
        sites = [(0, "resid"), *writer_hooks(graph)]
        if level == "neuron":
            sites = [(layer, "neurons" if site == "mlp-out" else site) for layer, site in sites]
        alphas = quadrature(self.steps, self.rule)
        return [Point(alpha=alpha, site=site) for site in sites for alpha in alphas]


def activations_cost(options: IntegratedActivations, graph: Graph, level: Level) -> Cost:
    runs = len(options.points(graph, level))
    return Cost(forward=2 + runs, backward=runs)


declare(
    "eap-ig-activations",
    claim="EAP with the gradient averaged over runs in which one layer's output lies between reference and clean.",
    levels=("edge", "node", "neuron"),
    source="Marks et al. 2024, arXiv:2403.19647; Hanna et al. 2024, arXiv:2403.17806",
    options=IntegratedActivations,
    cost=activations_cost,
    per_position=True,
    in_parts=True,
    run="workbench.methods.eap_ig_activations:eap_ig_activations",
)


@dataclass(frozen=True, kw_only=True)
class CleanCorrupted:
    """Options of clean-corrupted.

    Attributes:
        backward: How gradients go through the model: plain, relp, attnlrp, cp-lrp, gim, ...
    """

    backward: Backward = "plain"

    def __post_init__(self) -> None:
        rule_of(self.backward)


declare(
    "clean-corrupted",
    claim="EAP with the mean of the gradients at the clean and at the corrupted input: the trapezoid rule of EAP-IG.",
    levels=("edge", "node", "neuron"),
    source="Hanna et al. 2024, arXiv:2403.17806",
    options=CleanCorrupted,
    cost=lambda options, graph, level: BOTH_ENDS,
    per_position=True,
    in_parts=True,
    with_tower=True,
    run="workbench.methods.clean_corrupted:clean_corrupted",
)


@dataclass(frozen=True, kw_only=True)
class RelP:
    """Options of RelP.

    Attributes:
        at: Where the coefficients are taken: ``clean`` estimates noising, as ``exact`` measures it; ``corrupted``
            denoising; ``both`` their mean.
        attention: ``gradient`` goes through the softmax as it is, ``frozen`` holds the pattern constant.
        ablation: What activations are compared with: resample, zero, mean, ...
    """

    at: At = "clean"
    attention: Literal["gradient", "frozen"] = "gradient"
    ablation: Ablation = "resample"

    def __post_init__(self) -> None:
        ends(self.at), value_named(self.ablation)
        if self.attention not in ("gradient", "frozen"):
            raise OptionError(
                f"attention is {self.attention!r}; expected gradient or frozen",
                hint="--option attention=frozen",
            )


declare(
    "relp",
    claim="Relevance patching: difference times the gradient of a model made linear around the clean run.",
    levels=("edge", "node", "neuron"),
    source="Jafari et al. 2025, arXiv:2508.21258",
    options=RelP,
    cost=ends_cost,
    per_position=True,
    in_parts=True,
    run="workbench.methods.relp:relp",
)


@dataclass(frozen=True, kw_only=True)
class AttnLRP:
    """Options of AttnLRP.

    Attributes:
        softmax: ``attnlrp`` shares relevance between values, queries and keys; ``cp`` stops it at the softmax
            (CP-LRP), which is recommended for models like GPT-2.
        at: Where relevance is propagated: ``clean``, ``corrupted``, or the mean of ``both``.
        ablation: What activations are compared with; ``zero`` gives the relevance itself.
    """

    softmax: Literal["attnlrp", "cp"] = "attnlrp"
    at: At = "clean"
    ablation: Ablation = "resample"

    def __post_init__(self) -> None:
        ends(self.at), value_named(self.ablation)
        if self.softmax not in ("attnlrp", "cp"):
            raise OptionError(f"softmax is {self.softmax!r}", hint="softmax: attnlrp, cp")


declare(
    "attnlrp",
    claim="Difference times the coefficients of attention-aware relevance propagation (AttnLRP or CP-LRP).",
    levels=("edge", "node", "neuron"),
    source="Achtibat et al. 2024, arXiv:2402.05602",
    options=AttnLRP,
    cost=ends_cost,
    per_position=True,
    in_parts=True,
    run="workbench.methods.attnlrp:attnlrp",
)


@dataclass(frozen=True, kw_only=True)
class HISP:
    """Options of HISP.

    Attributes:
        ablation: What a node is compared with: resample, zero, mean, ...
        normalise: ``layer`` divides by the L2 norm of the scores of the same layer, ``none`` does not.
    """

    ablation: Ablation = "resample"
    normalise: Literal["none", "layer"] = "none"

    def __post_init__(self) -> None:
        value_named(self.ablation)
        if self.normalise not in ("none", "layer"):
            raise OptionError(f"cannot normalise by {self.normalise!r}", hint="normalise: none, layer")


declare(
    "hisp",
    claim="Head importance: the size of difference times gradient on each pair, averaged; it has no sign.",
    levels=("node", "neuron"),
    source="Michel et al. 2019, arXiv:1905.10650",
    options=HISP,
    cost=lambda options, graph, level: ONE_GRADIENT,
    per_position=True,
    in_parts=True,
    run="workbench.methods.hisp:hisp",
)


@dataclass(frozen=True, kw_only=True)
class AtPStar:
    """Options of AtP*.

    Attributes:
        qk_fix: Recompute the softmax for corrupted queries and keys instead of going linearly through it.
        graddrop: Repeat the backward pass with each layer in turn shut, so that direct and indirect effects that
            cancel show up.
        heads: ``all`` gives a head the largest of the scores of its output, queries, keys and values; ``output``
            that of its output alone, for which the QK fix changes nothing.
    """

    qk_fix: bool = True
    graddrop: bool = True
    heads: Literal["all", "output"] = "all"

    def __post_init__(self) -> None:
        if self.heads not in ("all", "output"):
            raise OptionError(f"heads is {self.heads!r}", hint="heads: all, output")


def atp_star_cost(options: AtPStar, graph: Graph, level: Level) -> Cost:
    parts = level == "node" and options.heads == "all"
    note = "a pass more for each key that takes all attention by a margin of scores near 100" if parts else ""
    return Cost(forward=2 + 5 * parts, backward=backward_rounds(options, graph), note=note)


def backward_rounds(options: AtPStar, graph: Graph) -> int:
    return graph.shape.n_layers if options.graddrop and graph.shape.n_layers > 1 else 1


declare(
    "atp-star",
    claim="AtP*: sizes of attribution patching, through the softmax exactly and without cancellation; it has no sign.",
    levels=("node", "neuron"),
    source="Kramár et al. 2024, arXiv:2403.00745",
    options=AtPStar,
    cost=atp_star_cost,
    per_position=True,
    in_parts=True,
    run="workbench.methods.atp_star:atp_star",
)
