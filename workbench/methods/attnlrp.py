"""AttnLRP: attribution with relevance propagated through attention."""

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
        ends(self.at), value_of(self.ablation)
        if self.softmax not in ("attnlrp", "cp"):
            raise OptionError(f"softmax is {self.softmax!r}", hint="softmax: attnlrp, cp")


@method(
    "attnlrp",
    levels=("edge", "node", "neuron"),
    source="Achtibat et al. 2024, arXiv:2402.05602",
    options=AttnLRP,
    cost=ends_cost,
    per_position=True,
)
def attnlrp(
    runs: PairedRuns,
    options: AttnLRP,
    *,
    level: Level,
    progress: Callable[..., None],
    per_position: bool = False,
) -> Scores:
    """Difference times the coefficients of attention-aware relevance propagation (AttnLRP or CP-LRP).

    As ``relp``, and of the gradients in attention half goes to the values, a quarter to queries and keys each.

    Source:
        Achtibat et al. 2024, arXiv:2402.05602; CP-LRP: Ali et al. 2022, arXiv:2202.07304.
    """
    return gradient_scores(
        runs,
        Recipe(
            points=lambda graph: ends(options.at),
            backward="attnlrp" if options.softmax == "attnlrp" else "cp-lrp",
            ablation=options.ablation,
        ),
        level=level,
        method="attnlrp",
        source="arXiv:2402.05602",
        options=asdict(options),
        passes=ends_cost(options, None, level).passes,
        per_position=per_position,
        progress=progress,
    )
