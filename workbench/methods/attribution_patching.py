"""Attribution patching (AtP): a first-order estimate of activation patching for every node or neuron."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from workbench.interventions.ablation import Ablation, value_of
from workbench.methods.attribution import At, Recipe, ends, gradient_scores
from workbench.methods.registry import Cost, Level, method
from workbench.scores import Scores
from workbench.sweep.backward import Backward, rule_of
from workbench.sweep.runs import PairedRuns


@dataclass(frozen=True, kw_only=True)
class AttributionPatching:
    """Options of attribution patching.

    Attributes:
        at: Where the gradient is taken: ``clean`` estimates noising, ``corrupted`` denoising, ``both`` their mean.
        ablation: What a node is compared with: resample, zero, mean, ...
        backward: How gradients go through the model: plain, relp, attnlrp, cp-lrp.
    """

    at: At = "clean"
    ablation: Ablation = "resample"
    backward: Backward = "plain"

    def __post_init__(self) -> None:
        ends(self.at), value_of(self.ablation), rule_of(self.backward)


def ends_cost(options: AttributionPatching, graph, level: Level) -> Cost:
    """One pass of each run, one more where the gradient is taken on the corrupted run, one backward for each point."""
    points = len(ends(options.at))
    return Cost(forward=2 + (options.at != "clean"), backward=points)


@method(
    "attribution-patching",
    levels=("node", "neuron"),
    source="Nanda 2023, neelnanda.io/mechanistic-interpretability/attribution-patching",
    options=AttributionPatching,
    cost=ends_cost,
    per_position=True,
)
def attribution_patching(
    runs: PairedRuns,
    options: AttributionPatching,
    *,
    level: Level,
    progress: Callable[..., None],
    per_position: bool = False,
) -> Scores:
    """Attribution patching: clean gradient times the clean minus corrupted difference, for every node.

    ``score(n) = sum over positions and dimensions of (clean - corrupted) * d metric / d n, at the clean run``.
    Exact where the model is affine between the two runs.

    Source:
        Nanda 2023; Syed, Rager and Conmy 2023, arXiv:2310.10348.
    """
    return gradient_scores(
        runs,
        Recipe(points=lambda graph: ends(options.at), backward=options.backward, ablation=options.ablation),
        level=level,
        method="attribution-patching",
        source="Nanda 2023",
        options=asdict(options),
        passes=ends_cost(options, None, level).passes,
        per_position=per_position,
        progress=progress,
    )
