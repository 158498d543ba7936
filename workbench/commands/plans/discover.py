"""What a search for a circuit would take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workbench.circuits.addresses import VISION
from workbench.circuits.graph import Graph
from workbench.commands.asked.discover import opening_of
from workbench.commands.forms.discover import Discover
from workbench.commands.plans.inputs import planned_runs
from workbench.core.job import Job
from workbench.core.show import Told
from workbench.engine.cost import passes_cost
from workbench.evaluate.sample_plan import SHARES, planned_sample
from workbench.methods.registry import Cost, check_level, get_method
from workbench.tasks.alignment import BOTH


@dataclass(frozen=True, kw_only=True)
class DiscoveryCost(Told):
    """Passes a method would take, before anything is run."""

    method: str
    level: str
    candidates: int | None  # not known for neurons, whose number only the weights tell
    forward: int
    backward: int
    pairs: int
    tokens: int
    note: str = ""
    in_tower: int = 0  # of the forward passes, those that run the tower too
    exact_sample: int = 0  # edges measured exactly: a pass for each, from its reader's layer on
    gflop: float | None = (
        None  # of the passes through the language model, or the only stack, and the exact sample
    )
    kv_mb: float = 0.0  # keys and values of one pass over all prompts, float32

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"dry_run": True, **self._said}

    @property
    def _said(self) -> dict[str, Any]:
        only_if = ("in_tower", "exact_sample")
        return {name: value for name, value in self.__dict__.items() if name not in only_if or value}

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        return [
            "dry run: nothing was measured; no weights were loaded; forward and backward count passes per pair "
            "for the scores; gflop also counts a pass for each edge of the exact sample; judging the circuit and "
            "opening the model come on top",
            self._said,
        ]


def discovery(asked: Discover, job: Job) -> DiscoveryCost:
    """Return passes per pair of a method on this model, from the registry's cost model; no weights are loaded."""
    planned = planned_runs(note=job.note, **opening_of(asked))
    found = get_method(asked.method)
    level = check_level(found, asked.level)
    shape = planned.wiring.shape("edge" if level == "edge" else "node", with_tower=asked.with_tower)
    if level == "edge" and planned.wiring.compares:
        planned.pairs.require_change_of(BOTH if asked.with_tower else VISION)
    graph = Graph(shape)
    cost = found.cost(found.make_options(**asked.options), graph, level)
    lengths = [len(ids) for ids in planned.pairs.clean]
    sizes = {"sizes": len(SHARES), "random_draws": asked.random_draws}
    sampled = planned_sample(asked.exact_sample, found, asked.options, graph, level, **sizes)
    passes = cost.forward + cost.backward + sampled
    priced: dict[str, Any] = passes_cost(planned.wiring, passes, lengths).to_dict()
    return DiscoveryCost(
        method=asked.method,
        level=level,
        candidates={"edge": graph.n_edges, "node": len(graph.sources) - 1}.get(level),
        forward=cost.forward,
        backward=cost.backward,
        pairs=len(planned.pairs),
        tokens=sum(lengths),
        note=cost.note,
        **priced,
        in_tower=in_tower(cost, graph) if asked.with_tower else 0,
        exact_sample=sampled,
    )


def in_tower(cost: Cost, graph: Graph) -> int:
    """Return how many forward passes run the tower too.

    Both runs do, and the passes of edges that end in it or in the projector; all where edges are not tested singly. Of
    two towers that meet it is the one for pictures.
    """
    ends = graph.parts[0].n_edges + 2
    return min(cost.forward, ends) if cost.forward >= graph.n_edges else cost.forward
