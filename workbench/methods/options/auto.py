"""The method that chooses among cheap methods: its options, what it costs, what it claims. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workbench.circuits.graph import Graph
from workbench.core.errors import OptionError
from workbench.core.stats.strata import LEAST_DRAWN
from workbench.methods.options.combinations import check_several
from workbench.methods.registry import Cost, Level, declare, get_method

CHEAP = ("eap", "eap-ig", "clean-corrupted", "relp", "gim", "ceap")


@dataclass(frozen=True, kw_only=True)
class Auto:
    """Options of the choice.

    Attributes:
        of: Methods to choose among, each with its own options; of two that agree equally well the first is taken.
        sample: Edges that are measured exactly.
        seed: Of the draw of these edges.
    """

    of: Sequence[str] = CHEAP
    sample: int = 40
    seed: int = 0

    def __post_init__(self) -> None:
        check_several(self.of)
        if "auto" in self.of:
            raise OptionError("auto cannot choose itself", hint="--option of=eap,eap-ig")
        if self.sample < LEAST_DRAWN or self.seed < 0:
            raise OptionError(
                f"sample is {self.sample}, seed {self.seed}; at least {LEAST_DRAWN} and 0 are needed",
                hint="--option sample=40",
            )


def auto_cost(options: Auto, graph: Graph, level: Level) -> Cost:
    """Return the passes of all methods and one for each edge of the sample."""
    made = [get_method(name) for name in options.of]
    each = [one.cost(one.make_options(), graph, level) for one in made]
    sample = min(options.sample, graph.n_edges)
    return Cost(forward=sum(c.forward for c in each) + sample, backward=sum(c.backward for c in each))


declare(
    "auto",
    claim="The scores of that cheap method which agrees best with exact effects of a sample of edges.",
    levels=("edge",),
    source="none; the sample as in docs/methods.md",
    options=Auto,
    cost=auto_cost,
    run="workbench.methods.auto:auto",
)
