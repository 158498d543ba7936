"""EAP with gradients integrated over activations, one layer output at a time (EAP-IG activations)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from workbench.graph import Graph
from workbench.interventions.ablation import Ablation, value_of
from workbench.methods.attribution import Point, Quadrature, Recipe, gradient_scores, quadrature
from workbench.methods.registry import Cost, Level, method
from workbench.methods.results import graph_of
from workbench.scores import Scores
from workbench.sweep.backward import Backward, rule_of
from workbench.sweep.edges import writer_hooks
from workbench.sweep.runs import PairedRuns


@dataclass(frozen=True, kw_only=True)
class IntegratedActivations:
    """Options of EAP-IG over activations.

    Attributes:
        steps: Points for every layer output; each costs a forward and a backward pass.
        rule: ``midpoint``, ``left`` or ``right``; the published code takes right ends.
        ablation: Where the lines start, and what sources are compared with: resample, zero, mean, ...
        backward: How gradients go through the model: plain, relp, attnlrp, cp-lrp.
    """

    steps: int = 5
    rule: Quadrature = "midpoint"
    ablation: Ablation = "resample"
    backward: Backward = "plain"

    def __post_init__(self) -> None:
        quadrature(self.steps, self.rule), value_of(self.ablation), rule_of(self.backward)

    def points(self, graph: Graph, level: Level) -> list[Point]:
        """The input, the heads of every layer, and every MLP in turn, at every step.

        Hidden units in place of the MLP's output where they are what is scored: the output is affine in them.
        """
        sites = [(0, "resid"), *writer_hooks(graph)]
        if level == "neuron":
            sites = [(layer, "neurons" if site == "mlp-out" else site) for layer, site in sites]
        alphas = quadrature(self.steps, self.rule)
        return [Point(alpha=alpha, site=site) for site in sites for alpha in alphas]


def _cost(options: IntegratedActivations, graph: Graph, level: Level) -> Cost:
    runs = len(options.points(graph, level))
    return Cost(forward=2 + runs, backward=runs)


@method(
    "eap-ig-activations",
    levels=("edge", "node", "neuron"),
    source="Marks et al. 2024, arXiv:2403.19647; Hanna et al. 2024, arXiv:2403.17806",
    options=IntegratedActivations,
    cost=_cost,
    per_position=True,
)
def eap_ig_activations(
    runs: PairedRuns,
    options: IntegratedActivations,
    *,
    level: Level,
    progress: Callable[..., None],
    per_position: bool = False,
) -> Scores:
    """EAP with the gradient averaged over runs in which one layer's output lies between reference and clean.

    The input, the heads of each layer and each MLP in turn are put at points of the line from their reference to their
    clean value. Gradients at all targets are averaged over all these runs, so the unit is the metric's.

    Source:
        Marks et al. 2024, arXiv:2403.19647, in the form of Hanna, Pezzelle and Belinkov 2024.
    """
    return gradient_scores(
        runs,
        Recipe(
            points=lambda graph: options.points(graph, level),
            backward=options.backward,
            ablation=options.ablation,
        ),
        level=level,
        method="eap-ig-activations",
        source="arXiv:2403.19647",
        options={**asdict(options), "path": "layer outputs, one at a time"},
        passes=_cost(options, graph_of(runs, level), level).passes,
        per_position=per_position,
        progress=progress,
    )
