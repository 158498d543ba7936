"""How much a full evaluation measures. No torch: a dry run asks it too."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.core.errors import OptionError
from workbench.engine.interventions.words import Ablation, value_named

MOST_OTHERS = 5  # other tasks that a circuit's damage is measured on where nobody names any
ABLATIONS: tuple[Ablation, ...] = ("resample", "mean", "mean-per-position", "mean-per-template", "zero")


@dataclass(frozen=True, kw_only=True)
class JudgePlan:
    """How much to measure; the draws that are random all use the seed.

    Attributes:
        draws: Random circuits, and inflated circuits for the minimality of edges.
        edges: Most edges whose minimality is tested; more are sampled.
        matched: Draws of matched heads.
        random_sets, restarts, steps, candidates: Of completeness.
        cuts: Random circuits that are cut out of the model on every task, for specificity.
        splits: Times the pairs are split in halves, for variance.
        varied: Most edges whose exact effect is measured pair by pair, for variance.
        part_cuts: Random circuits that are cut out beside each part of the circuit, for specificity.
        bootstraps, refits: Of stability, by averaging scores again and by running the method again.

    Example:
        >>> import workbench as wb
        >>> wb.JudgePlan(draws=10).draws
        10
    """

    draws: int = 100
    edges: int = 100
    matched: int = 20
    random_sets: int = 10
    restarts: int = 3
    steps: int = 4
    candidates: int = 5
    bootstraps: int = 100
    refits: int = 10
    cuts: int = 20
    splits: int = 10
    varied: int = 40
    part_cuts: int = 5
    ablations: tuple[Ablation, ...] = ABLATIONS
    seed: int = 0

    def __post_init__(self) -> None:
        for ablation in self.ablations:
            value_named(ablation)
        if self.draws < 1 or self.edges < 1:
            raise OptionError(
                f"draws is {self.draws}, edges {self.edges}; a full evaluation needs at least one "
                "random circuit and one edge",
                hint="--random 100 --edges 100",
            )

    def variance_passes(
        self, *, n_edges: int, scoring: int, templates: int, averages: bool, decides: bool = False
    ) -> int:
        """Return about how many passes over all pairs it takes to say how much a circuit varies.

        Args:
            scoring: Passes of its method over all pairs.
            templates: Templates that get a circuit of their own.
            averages: Whether the method's scores of single pairs are averaged again, not the method run again.
        """
        again = not averages or decides
        halves = min(self.splits, self.refits) if again else 0
        # resampled pairs of the task are those of stability; halves take half of the pairs twice
        scored = 2 + (self.refits + templates + halves if again else 0)
        stable = 1 + (self.refits if again else 0)
        return (scored + stable) * scoring + templates + 2 + min(self.varied, n_edges)

    def passes(self, *, n_edges: int, n_nodes: int, other_tasks: int = 0) -> int:
        """Return about how many circuits are run on all pairs, for a dry run."""
        parts = 4 * (1 + self.part_cuts) if n_edges else 0
        cut = (1 + other_tasks) * (2 + self.cuts + parts) if other_tasks else 0
        sets = 2 * (self.random_sets * (2 if n_edges else 1) + min(n_nodes, 8))
        search = 2 * self.restarts * self.steps * min(self.candidates, n_nodes)
        edges = (min(self.edges, n_edges) + 2 * self.draws) if n_edges else 0
        return (
            3
            + sets
            + search
            + 4 * n_nodes
            + edges
            + 2 * self.draws
            + 2 * self.matched
            + 2 * len(self.ablations)
            + cut
        )


def require_pairs(n: int) -> None:
    """Do nothing if so many pairs can be judged; asked before anything is measured.

    Raises:
        OptionError: if not.
    """
    if n < 2:
        raise OptionError(f"{n} pair cannot be judged; a full evaluation needs 2 or more", hint="--limit 100")
