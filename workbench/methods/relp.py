"""Relevance patching (RelP): attribution with the coefficients of relevance propagation for gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

from workbench.errors import OptionError
from workbench.interventions.ablation import Ablation, value_of
from workbench.methods.attribution import At, Recipe, ends, gradient_scores
from workbench.methods.attribution_patching import ends_cost
from workbench.methods.registry import Level, method
from workbench.scores import Scores
from workbench.sweep.runs import PairedRuns


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
        ends(self.at), value_of(self.ablation)
        if self.attention not in ("gradient", "frozen"):
            raise OptionError(f"attention is {self.attention!r}", hint="attention: gradient, frozen")


@method(
    "relp",
    levels=("edge", "node", "neuron"),
    source="Jafari et al. 2025, arXiv:2508.21258",
    options=RelP,
    cost=ends_cost,
    per_position=True,
)
def relp(
    runs: PairedRuns,
    options: RelP,
    *,
    level: Level,
    progress: Callable[..., None],
    per_position: bool = False,
) -> Scores:
    """Relevance patching: difference times the gradient of a model made linear around the clean run.

    Norms have a constant scale, activations the slope ``f(x) / x``, and each factor of a gated product gets half.

    Source:
        Jafari, Eberle, Khakzar and Nanda 2025, arXiv:2508.21258.
    """
    return gradient_scores(
        runs,
        Recipe(
            points=lambda graph: ends(options.at),
            backward="relp" if options.attention == "gradient" else "cp-lrp",
            ablation=options.ablation,
        ),
        level=level,
        method="relp",
        source="arXiv:2508.21258",
        options=asdict(options),
        passes=ends_cost(options, None, level).passes,
        per_position=per_position,
        progress=progress,
    )
