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

    def points(self, graph: Graph) -> list[Point]:
        """Every layer output in turn, the input first, at every step."""
        shape, sites = graph.shape, [(0, "resid")]
        for layer in range(shape.n_layers):
            sites += [(layer, "attn-out")] if shape.has_attention(layer) else []
            sites += [(layer, "mlp-out")] if shape.has_mlp(layer) else []
        alphas = quadrature(self.steps, self.rule)
        return [Point(alpha=alpha, site=site) for site in sites for alpha in alphas]


def _cost(options: IntegratedActivations, graph: Graph, level: Level) -> Cost:
    runs = len(options.points(graph))
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

    The input, each attention layer and each MLP in turn is put at points of the line from its reference to its clean
    value. Gradients at all targets are averaged over all these runs, so the unit is the metric's.

    Source:
        Marks et al. 2024, arXiv:2403.19647, in the form of Hanna, Pezzelle and Belinkov 2024.
    """
    return gradient_scores(
        runs,
        Recipe(points=options.points, backward=options.backward, ablation=options.ablation),
        level=level,
        method="eap-ig-activations",
        source="arXiv:2403.19647",
        options={**asdict(options), "path": "layer outputs, one at a time"},
        passes=_cost(options, graph_of(runs, level), level).passes,
        per_position=per_position,
        progress=progress,
    )
