"""Scores of the edges of two stacks, from one batch: those of each stack by itself.

The stacks are a tower and the language model behind it, or two towers that meet.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.circuits.graph import Graph
from workbench.core.errors import OptionError
from workbench.engine.interventions.words import Ablation
from workbench.engine.paired_runs import Batch, PairedRuns
from workbench.engine.reader_gradients import wide
from workbench.engine.reference import reference_outputs
from workbench.engine.rules import Backward
from workbench.engine.sides import Side, sides_of
from workbench.engine.source_outputs import outputs_of_side
from workbench.engine.tower_gradients import SideRun, crossing_run
from workbench.methods.edge_work import EdgeWork
from workbench.methods.points import Point
from workbench.methods.tally import Tally


class CrossingEdges:
    """Every edge of a graph of two stacks; edges end in the stack in which they begin, or where it is read.

    Args:
        tally: Takes the products, of which both stacks fill a part.
    """

    def __init__(self, runs: PairedRuns, batch: Batch, graph: Graph, tally: Tally) -> None:
        self.runs, self.batch, self.graph, self.tally = runs, batch, graph, tally
        self.sides = sides_of(runs, graph)

    def scored(self, points: Sequence[Point], ablation: Ablation) -> None:
        """Take the gradients at all points, multiply them with the differences, and close the batch in the tally."""
        self.tally.open(self.batch)
        works = self._works(ablation)
        for point in points:
            found = crossing_run(self.runs, self.batch, self.sides, point.alpha)
            for work, run in zip(works, found, strict=True):
                work.add(run, 1 / len(points), "plain")
        for work in works:
            work.finish()
        self.tally.close(self.batch)

    @torch.no_grad()
    def _works(self, ablation: Ablation) -> list[_SideWork]:
        references = reference_outputs(self.runs, self.batch, self.graph, ablation)
        found = []
        for side, reference in zip(self.sides, references, strict=True):
            own = outputs_of_side(self.runs, self.batch, "clean", side)
            window = _Window(self.tally, side)
            found.append(_SideWork(self.runs, self.batch, side, window, wide(own) - wide(reference)))
        return found


class _Window:
    """The part of a tally that one stack fills; the batch is opened and closed by who owns the tally."""

    def __init__(self, tally: Tally, side: Side) -> None:
        self.tally, self.rows, self.columns = tally, side.rows.start, side.columns

    def labels(self, batch: Batch) -> None:
        return None

    def open(self, batch: Batch) -> None: ...

    def close(self, batch: Batch) -> None: ...

    def add(self, found: Float[Tensor, "pair pos *place"], where: tuple, labels: Tensor | None) -> None:
        rows, columns = where
        self.tally.add(found, (slice(self.rows, self.rows + rows.stop), list(self.columns[columns])), labels)


class _SideWork(EdgeWork):
    """The edges of one stack."""

    def __init__(
        self,
        runs: PairedRuns,
        batch: Batch,
        side: Side,
        window: _Window,
        delta: Float[Tensor, "pair pos source d"],
    ) -> None:
        super().__init__(runs, batch, side.graph, window, stack=side.model)
        self.begin(delta)


def check_crossing(
    backward: Backward, points: Sequence[Point], *, per_position: bool, straight: bool = True
) -> None:
    """Do nothing if edges that cross from a tower can be scored so.

    Raises:
        OptionError: if not.
    """
    if backward != "plain":
        raise OptionError(
            f"backward rule {backward} is not defined through a projector",
            hint="leave out --with-tower, or backward=plain",
        )
    if not straight or any(point.site is not None for point in points):
        raise OptionError(
            "gradients between activations are taken in one stack of layers",
            hint="--method eap-ig, or no --with-tower",
        )
    if per_position:
        raise OptionError(
            "named positions are those of the words; a tower's are others",
            hint="leave out --per-position or --with-tower",
        )


__all__ = ["CrossingEdges", "SideRun", "check_crossing"]
